"""Replace a pair by a new id."""

from itertools import pairwise
from typing import Any

import numpy as np

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, ids


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(given: list[int], a: int, b: int, note: str = "") -> Case:
        return Case({"ids": given, "pair": [a, b], "new_id": 256 + int(rng.integers(40))}, note)

    def random(length: int) -> Case:
        return case(rng.integers(11, 14, length).tolist(), 12, 11)

    return [
        case([1, 2, 1, 2, 3], 1, 2),
        case([12, 11, 12, 11, 12, 12, 11], 12, 11),
        case([1, 1, 1, 4, 1, 1], 1, 1, "a run of three"),
        case([21, 2, 1, 22, 1, 2], 1, 2, "ids whose digits hold the digits of the pair"),
        case([2, 1, 1, 3, 2], 1, 2, "the pair does not occur"),
        case([1, 2, 3], 2, 3, "the pair stands at the end"),
        case([], 1, 2, "no ids"),
        case([5], 5, 5, "one id"),
        *[random(n) for n in sizes(rng, 3, 8, 20)],
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"merged": ids(answer(own["ids"], tuple(own["pair"]), own["new_id"]))} | afterwards(own)


def _build(
    *, begins: str = "left", after: str = "behind the pair", which: str = "all", match: str = "in order"
) -> Answer:
    def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
        if begins == "right":
            turned = (pair[1], pair[0])
            return _build(after=after, which=which, match=match)(ids[::-1], turned, new_id)[::-1]  # type: ignore[no-any-return]
        merged: list[int] = []
        t, done = 0, False
        while t < len(ids):
            here = tuple(ids[t : t + 2])
            fits = here == pair or (match == "any order" and here[::-1] == pair)
            if fits and not (done and which == "the first"):
                merged.append(new_id)
                t += 2 if after == "behind the pair" else 1
                done = True
            else:
                merged.append(ids[t])
                t += 1
        return merged

    return merge


def _either(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    return [new_id if each in pair else each for each in ids]


def _drops_the_last(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged, t = [], 0
    while t < len(ids) - 1:
        fits = (ids[t], ids[t + 1]) == pair
        merged.append(new_id if fits else ids[t])
        t += 2 if fits else 1
    return merged


def _looks_past_the_end(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged, t = [], 0
    while t < len(ids):
        fits = (ids[t], ids[t + 1]) == pair
        merged.append(new_id if fits else ids[t])
        t += 2 if fits else 1
    return merged


def _as_text(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(each) for each in text.split()]


def _in_place(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    t = 0
    while t < len(ids) - 1:
        if (ids[t], ids[t + 1]) == pair:
            ids[t : t + 2] = [new_id]
        t += 1
    return ids


def _on_a_copy(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    return _in_place(list(ids), pair, new_id)


def _looking_back(ids: list[int], pair: tuple[int, int], new_id: int) -> Any:
    merged: list[int] = []
    for each in ids:
        if merged and (merged[-1], each) == pair:
            merged[-1] = new_id
        else:
            merged.append(each)
    return tuple(merged)


def _spells_the_same(case: Case, got: dict[str, Any]) -> bool:
    pair: Any = case.given["pair"]
    spelled: list[Any] = []
    for each in got["merged"]:
        spelled += pair if each == case.given["new_id"] else [each]
    return spelled == case.given["ids"]


def _no_pair_left(case: Case, got: dict[str, Any]) -> bool:
    return case.given["pair"] not in [list(each) for each in pairwise(got["merged"])]


EXERCISE = Exercise(
    id="tokens.merge",
    title="Merge a pair",
    minutes=8,
    points=3,
    signature="merge(ids, pair, new_id)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_on_a_copy, _looking_back),
    misconceptions=(
        Misconception(
            "goes on inside the pair",
            "After a merge you go on by one id, so the second id of the pair is used again: in a run of three it is "
            "merged twice, elsewhere it is left standing behind the new id. Both are used up: go on by two.",
            changes={"after": "inside the pair"},
        ),
        Misconception(
            "the first pair only",
            "You replace the first pair and leave the others: every occurrence is to be merged.",
            changes={"which": "the first"},
        ),
        Misconception(
            "from right to left",
            "You merge from the right. It makes a difference in a run: [1, 1, 1] becomes [9, 1] from the left and "
            "[1, 9] from the right, and a tokenizer must always give the same tokens: from the left.",
            changes={"begins": "right"},
        ),
        Misconception(
            "any order",
            "You merge the pair in the other order as well. For the pair (1, 2), the neighbours 2, 1 stay as they are: "
            "they spell another text.",
            changes={"match": "any order"},
        ),
        Misconception(
            "replaces single ids",
            "You replace every id that belongs to the pair, also when it stands alone. Only the two together, in this "
            "order, become the new id.",
            _either,
        ),
        Misconception(
            "loses the last id",
            "Your result lacks the last id when it is not part of a merge: the loop ends at the last pair, and behind "
            "it one id may be left over.",
            _drops_the_last,
        ),
        Misconception(
            "looks past the end",
            "Your loop looks at ids[t + 1] when t is the last place already. Ask first whether there is a next id.",
            _looks_past_the_end,
        ),
        Misconception(
            "searches in text",
            "You search for the pair in a text of digits, where '1 2' is also found inside '21 22'. Compare ids, not "
            "their digits.",
            _as_text,
        ),
        Misconception(
            "changes the list it was given",
            "The result is right, but your function changed the list that it was given, which others may still need: "
            "build a new list, or work on list(ids).",
            _in_place,
        ),
    ),
    properties=(
        Property(
            "spelled out again, the result is what came in",
            _spells_the_same,
            "With each new id replaced by its pair again, the list must be the one that was given.",
            0.25,
            ("merged",),
        ),
        Property(
            "no pair is left",
            _no_pair_left,
            "In the result the pair must not occur any more.",
            0.25,
            ("merged",),
        ),
    ),
    hints=(
        "Walk through the list with an index t, and build a new list while you go. What are the two things that can "
        "happen at t?",
        "When ids[t] and ids[t + 1] are the pair, add new_id and go on by two; otherwise add ids[t] and go on by one. "
        "The last id has no right neighbour: ask for it first. And a slice such as ids[t : t + 2] is a list, which "
        "never equals a tuple.",
        "while t < len(ids): if t + 1 < len(ids) and (ids[t], ids[t + 1]) == pair, then merged.append(new_id) and "
        "t += 2; else merged.append(ids[t]) and t += 1.",
    ),
)
