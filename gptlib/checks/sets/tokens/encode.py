"""Text to ids, by merges that were learned before."""

from itertools import pairwise
from typing import Any

import numpy as np

from gptlib.checks.exercise import Case, Exercise, Misconception, Property
from gptlib.checks.probing import Answer, Arrays, Given, ids

Merges = list[tuple[int, int]]

LETTERS = "abcé"


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(text: str, merges: list[list[int]], note: str = "") -> Case:
        return Case({"text": text, "merges": merges}, note)

    def random(length: int) -> Case:
        text = "".join(rng.choice(list(LETTERS), length))
        given = list(text.encode())
        merges: list[list[int]] = []
        for _ in range(5):  # pairs that occur, not always the most frequent: some overlap, some build on others
            pairs = list(pairwise(given))
            pair = pairs[int(rng.integers(len(pairs)))]
            given = _merge(given, pair, 256 + len(merges))
            merges.append([int(each) for each in pair])
        return case(text, merges)

    a, b, c = b"abc"
    return [
        case("abab", [[a, b]]),
        case("", [[a, b]], "no text"),
        case("cab", [], "no merges"),
        case("abcbcab", [[b, c], [a, b]], "two merges that want the same letter"),
        case("abc abc", [[a, b], [256, c]], "the second merge builds on the first"),
        case("abcbcbc", [[a, b], [b, c]], "the pair learned second is more frequent here"),
        case("né né", [[0xC3, 0xA9], [ord("n"), 256]], "é is two bytes"),
        case("aaaaa", [[a, a], [256, 256]], "a run"),
        *[random(n) for n in (18, 25, 31)],
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    merges: Any = given["merges"]
    return {"ids": ids(answer(given["text"], [(a, b) for a, b in merges]))}


def _merge(given: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged: list[int] = []
    for each in given:
        if merged and (merged[-1], each) == pair:
            merged[-1] = new_id
        else:
            merged.append(each)
    return merged


def _build(*, letters: str = "bytes", order: str = "as learned", first: int = 256, times: str = "all") -> Answer:
    def encode(text: str, merges: Merges) -> list[int]:
        given = list(text.encode()) if letters == "bytes" else [ord(letter) for letter in text]
        # Right ids inside, whatever is handed out: a merge may build on another.
        new_ids = {pair: 256 + rank for rank, pair in enumerate(merges)}
        if order == "one sweep":
            given = _sweep(given, new_ids)
        elif order == "longest first":
            given = _longest_first(given, merges)
        elif order == "most frequent first":
            given = _frequent_first(given, new_ids)
        else:
            for pair in merges if order == "as learned" else reversed(merges):
                given = _merge(given, pair, new_ids[pair]) if times == "all" else _once(given, pair, new_ids[pair])
        return [each - 256 + first if each in new_ids.values() else each for each in given]

    return encode


def _once(given: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    place = next((t for t, here in enumerate(pairwise(given)) if here == pair), None)
    return given if place is None else [*given[:place], new_id, *given[place + 2 :]]


def _sweep(given: list[int], new_ids: dict[tuple[int, int], int]) -> list[int]:
    out, t = [], 0
    while t < len(given):
        pair = (given[t], given[t + 1]) if t + 1 < len(given) else None
        out.append(new_ids[pair] if pair in new_ids else given[t])
        t += 2 if pair in new_ids else 1
    return out


def _frequent_first(given: list[int], new_ids: dict[tuple[int, int], int]) -> list[int]:
    while known := [pair for pair in pairwise(given) if pair in new_ids]:
        pair = max(known, key=lambda each: (known.count(each), -new_ids[each]))
        given = _merge(given, pair, new_ids[pair])
    return given


def _longest_first(given: list[int], merges: Merges) -> list[int]:
    spelled: dict[int, tuple[int, ...]] = {each: (each,) for each in range(256)}
    for rank, (a, b) in enumerate(merges):
        spelled[256 + rank] = spelled[a] + spelled[b]
    out, t = [], 0
    while t < len(given):
        fits = [each for each, bytes_ in spelled.items() if tuple(given[t : t + len(bytes_)]) == bytes_]
        best = max(fits, key=lambda each: len(spelled[each]), default=given[t])
        out.append(best)
        t += len(spelled.get(best, (best,)))
    return out


def _lowest_rank_first(text: str, merges: Merges) -> list[int]:
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    given = list(text.encode("utf-8"))
    while len(given) > 1:
        pair = min(pairwise(given), key=lambda each: ranks.get(each, len(ranks)))
        if pair not in ranks:
            break
        given = _merge(given, pair, 256 + ranks[pair])
    return given


def _by_loops(text: str, merges: Merges) -> list[int]:
    given = [byte for letter in text for byte in letter.encode()]
    for new_id, (a, b) in enumerate(merges, start=256):
        t = 0
        while t < len(given) - 1:
            if given[t] == a and given[t + 1] == b:
                given[t : t + 2] = [new_id]
            t += 1
    return given


def _spells_the_text(case: Case, got: dict[str, Any]) -> bool:
    merges: Any = case.given["merges"]
    spelled = {each: bytes([each]) for each in range(256)}
    for rank, (a, b) in enumerate(merges):
        spelled[256 + rank] = spelled[a] + spelled[b]
    text = str(case.given["text"])
    return all(each in spelled for each in got["ids"]) and b"".join(spelled[e] for e in got["ids"]) == text.encode()


def _nothing_left_to_merge(case: Case, got: dict[str, Any]) -> bool:
    merges: Any = case.given["merges"]
    spelled = _spells_the_text(case, got)  # ids made up at will leave no pair either
    return spelled and not any(list(pair) in merges for pair in pairwise(got["ids"]))


EXERCISE = Exercise(
    id="tokens.encode",
    title="Text to ids",
    minutes=12,
    points=4,
    signature="encode(text, merges)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_lowest_rank_first, _by_loops),
    misconceptions=(
        Misconception(
            "characters, not bytes",
            "You begin with character numbers (ord). The first 256 ids are bytes: é has the number 233, but is written "
            "as the two bytes 195 and 169 in UTF-8. Begin with list(text.encode()).",
            changes={"letters": "characters"},
        ),
        Misconception(
            "last learned first",
            "You apply the last merge first. Later merges build on tokens that earlier ones make: keep the order in "
            "which they were learned.",
            changes={"order": "reversed"},
        ),
        Misconception(
            "most frequent pair first",
            "You merge the pair that is most frequent in this text first. That is how merges are learned; when a text "
            "is encoded, the order in which they were learned decides, whatever this text holds.",
            changes={"order": "most frequent first"},
        ),
        Misconception(
            "longest token first",
            "You take the longest token that fits at each place, from left to right. Byte pair encoding does not: a "
            "merge that was learned earlier goes first, even where a longer token would have fitted.",
            changes={"order": "longest first"},
        ),
        Misconception(
            "one sweep",
            "You go through the text once and merge what you meet. A merge that builds on another one's token never "
            "gets its turn, and a later merge can take a letter that an earlier one wanted: go through all merges, one "
            "after the other, each over the whole text.",
            changes={"order": "one sweep"},
        ),
        Misconception(
            "ids from 0",
            "You give the first merge the id 0. The ids 0 to 255 are the bytes, so the first merge has the id 256.",
            changes={"first": 0},
            also=(_build(first=1),),
        ),
        Misconception(
            "ids from 257",
            "Your ids of merges are one too large: the bytes have the ids 0 to 255, so the first merge has 256.",
            changes={"first": 257},
        ),
        Misconception(
            "ids from 255",
            "Your ids of merges are one too small: 255 is still a byte, so the first merge has 256.",
            changes={"first": 255},
        ),
        Misconception(
            "each merge once",
            "You apply each merge at the first place where it fits and leave the other places as they are.",
            changes={"times": "once"},
        ),
        Misconception(
            "bytes only",
            "You return the bytes of the text and merge nothing.",
            lambda text, merges: list(text.encode()),
        ),
    ),
    properties=(
        Property(
            "the ids spell the text",
            _spells_the_text,
            "Spelled out, byte by byte, the ids must give the text.",
            0.25,
            ("ids",),
        ),
        Property(
            "the ids spell the text, and nothing is left to merge",
            _nothing_left_to_merge,
            "In the result no pair of the merges must be left.",
            0.25,
            ("ids",),
        ),
    ),
    hints=(
        "Begin with the bytes of the text. Then each merge has its turn, in the order in which they were learned.",
        "Loop over the merges with enumerate: rank 0 makes the id 256, rank 1 the id 257. Each is applied to the whole "
        "list, as in the exercise before, and the next one works on its result.",
        "ids = list(text.encode()); for rank, pair in enumerate(merges): ids = merge(ids, pair, 256 + rank), with "
        "merge in this cell too; return ids.",
    ),
)
