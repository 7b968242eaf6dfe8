"""How often each pair of neighbours occurs."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, counts


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(length: int, different: int, note: str = "") -> Case:
        return Case({"ids": rng.integers(5, 5 + different, length).tolist()}, note)

    runs = [7, 7, 7, 7, 3, 7, 3, 3, 3]
    return [
        Case({"ids": runs}, "with runs of one id"),
        case(0, 1, "no ids"),
        case(1, 3, "one id has no neighbour"),
        case(2, 1, "two equal ids"),
        *[case(n, 4) for n in sizes(rng, 3, 7, 16)],
        case(40, 6),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"counts": counts(answer(own["ids"]))} | afterwards(own)


def _build(*, pairs: str = "neighbours", order: str = "as they stand", times: str = "each") -> Answer:
    def pair_counts(ids: list[int]) -> Any:
        found = list(_PAIRS[pairs](ids))
        if order == "sorted":
            found = [(min(pair), max(pair)) for pair in found]
        if times == "from 0":
            return {pair: n - 1 for pair, n in Counter(found).items()}
        return dict(Counter(found) if times == "each" else dict.fromkeys(found, 1))

    return pair_counts


def _apart(ids: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours, but of a run of equal ids every other pair only, as `merge` would replace them."""
    last = -2
    for t, (a, b) in enumerate(pairwise(ids)):
        if a != b or last != t - 1 or ids[last] != a:
            yield a, b
            last = t


_PAIRS: dict[str, Any] = {
    "neighbours": pairwise,
    "side by side": lambda ids: zip(ids[::2], ids[1::2], strict=False),
    "all": lambda ids: combinations(ids, 2),
    "in a circle": lambda ids: zip(ids, ids[1:] + ids[:1], strict=True),
    "without the last": lambda ids: pairwise(ids[:-1]),
    "apart": _apart,
    "unequal": lambda ids: ((a, b) for a, b in pairwise(ids) if a != b),
}


def _by_loop(ids: list[int]) -> Any:
    found: dict[tuple[int, int], int] = {}
    for t in range(len(ids) - 1):
        pair = (ids[t], ids[t + 1])
        found[pair] = found.get(pair, 0) + 1
    return found


def _by_default(ids: list[int]) -> Any:
    found: defaultdict[tuple[int, int], int] = defaultdict(int)
    for pair in pairwise(ids):
        found[pair] += 1
    return found


def _by_numpy(ids: list[int]) -> Any:
    if len(ids) < 2:
        return {}
    pairs, times = np.unique(np.stack([ids[:-1], ids[1:]], 1), axis=0, return_counts=True)
    return {(a, b): n for (a, b), n in zip(pairs, times, strict=True)}


def _sum_is_right(case: Case, got: dict[str, Any]) -> bool:
    given = case.given["ids"]
    assert isinstance(given, list)
    return bool(sum(got["counts"].values()) == max(0, len(given) - 1))


def _pairs_are_right(case: Case, got: dict[str, Any]) -> bool:
    given = case.given["ids"]
    assert isinstance(given, list)
    return set(got["counts"]) == set(pairwise(given))


EXERCISE = Exercise(
    id="tokens.pair_counts",
    title="Count the pairs",
    minutes=5,
    points=2,
    signature="pair_counts(ids)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loop, _by_default, _by_numpy, lambda ids: Counter(pairwise(ids))),
    misconceptions=(
        Misconception(
            "pairs side by side",
            "Your pairs do not overlap: you go on by two ids after each. Every id but the last begins a pair, so n ids "
            "have n - 1 pairs: go on by one.",
            changes={"pairs": "side by side"},
        ),
        Misconception(
            "all pairs, not neighbours",
            "You count every two ids of the text, however far apart. Only neighbours can be merged into one token: "
            "pair each id with the one right after it.",
            changes={"pairs": "all"},
        ),
        Misconception(
            "goes round in a circle",
            "You also count the last id with the first as a pair. The text ends; nothing follows the last id.",
            changes={"pairs": "in a circle"},
        ),
        Misconception(
            "stops one pair early",
            "Your loop ends one pair too early: n ids have n - 1 pairs, so t runs over range(len(ids) - 1).",
            changes={"pairs": "without the last"},
        ),
        Misconception(
            "a run counts every other pair",
            "In a run of equal ids you count every other pair only. Here pairs may overlap: [7, 7, 7] holds the pair "
            "(7, 7) twice. Merging is another matter: there they may not.",
            changes={"pairs": "apart"},
        ),
        Misconception(
            "leaves out equal neighbours",
            "You leave out pairs of two equal ids. They are pairs like all others: (7, 7) stands for a doubled letter, "
            "and is often among the first to be merged.",
            changes={"pairs": "unequal"},
        ),
        Misconception(
            "order does not matter",
            "You count (a, b) and (b, a) as one pair. A token is a piece of text, and 'he' is not 'eh': keep the order "
            "in which the two stand.",
            changes={"order": "sorted"},
        ),
        Misconception(
            "counts each pair once",
            "Every count of yours is 1. When a pair comes again, its count must grow: you may be setting it to 1 anew.",
            changes={"times": "once"},
        ),
        Misconception(
            "counts from 0",
            "Every count of yours is one too small, and pairs that occur once have 0: when a pair comes for the first "
            "time, its count is 1.",
            changes={"times": "from 0"},
        ),
        Misconception(
            "counts single ids",
            "You count ids, not pairs of ids: the keys are to be tuples of two, such as (104, 101).",
            lambda ids: Counter(ids),
        ),
    ),
    properties=(
        Property(
            "the counts add up to one less than the number of ids",
            _sum_is_right,
            "All counts together must be len(ids) - 1, one for each id that has a right neighbour.",
            0.25,
            ("counts",),
        ),
        Property(
            "the keys are the pairs that occur",
            _pairs_are_right,
            "The keys must be exactly the pairs of neighbours, in their order.",
            0.25,
            ("counts",),
        ),
    ),
    hints=(
        "Lay the list beside itself, moved by one place: each id then stands beside its right neighbour.",
        "zip(ids, ids[1:]) gives those pairs as tuples, one for each id but the last. What is left is counting.",
        "Begin with an empty dict; for each pair of zip(ids, ids[1:]) set counts[pair] = counts.get(pair, 0) + 1.",
    ),
)
