"""Inputs and targets: the same text twice, one token apart."""

from itertools import pairwise
from typing import Any

import numpy as np

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, ids, parts


def _draw(rng: np.random.Generator) -> list[Case]:
    return [Case({"ids": rng.choice(90, n, replace=False).tolist()}) for n in (2, 3, 5, *sizes(rng, 2, 6, 12))]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return parts(answer(own["ids"]), ids, "inputs", "targets") | afterwards(own)


def _build(
    *, inputs: str = "all but the last", targets: str = "all but the first", order: str = "inputs first"
) -> Answer:
    def shift_by_one(ids: list[int]) -> Any:
        ways = {
            "all but the last": ids[:-1],
            "all but the first": ids[1:],
            "all": ids,
            "the last": ids[-1:],
            "turned round": ids[1:] + ids[:1],
        }
        both = ways[inputs], ways[targets]
        return both if order == "inputs first" else both[::-1]

    return shift_by_one


def _pops(ids: list[int]) -> Any:
    targets = ids[1:]
    ids.pop()
    return ids, targets


def _by_pairs(ids: list[int]) -> Any:
    inputs, targets = zip(*pairwise(ids), strict=True)
    return inputs, targets


def _by_loop(ids: list[int]) -> Any:
    inputs, targets = [], []
    for t in range(len(ids) - 1):
        inputs.append(ids[t])
        targets.append(ids[t + 1])
    return [inputs, targets]


def _are_neighbours(case: Case, got: dict[str, Any]) -> bool:
    given = case.given["ids"]
    assert isinstance(given, list)
    pairs = list(zip(got["inputs"], got["targets"], strict=False))
    return bool(pairs) and set(pairs) <= set(pairwise(given))


EXERCISE = Exercise(
    id="welcome.shift_by_one",
    title="What is predicted",
    minutes=3,
    points=1,
    signature="shift_by_one(ids)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_pairs, _by_loop, lambda ids: (ids[: len(ids) - 1], [ids[t] for t in range(1, len(ids))])),
    misconceptions=(
        Misconception(
            "the target is the input",
            "Your targets are the inputs themselves. A model that is asked for the token it has just read only has to "
            "copy it: the target at each position is the next token.",
            changes={"targets": "all but the last"},
            also=(_build(inputs="all but the first"),),
        ),
        Misconception(
            "predicts the past",
            "Your pair is the wrong way round: at each position the model would be asked for the token before. Inputs "
            "come first and lack the last token; targets lack the first.",
            changes={"order": "targets first"},
        ),
        Misconception(
            "one input too many",
            "Your inputs still hold the last token, and nothing is known about what follows it: inputs and targets "
            "must be equally long.",
            changes={"inputs": "all"},
        ),
        Misconception(
            "one target too many",
            "Your targets still hold the first token, so they are longer than the inputs, and position t is asked for "
            "token t itself. Nothing predicts the first token: leave it out.",
            changes={"targets": "all"},
        ),
        Misconception(
            "turns round at the end",
            "Your last target is the first token of the text. The text does not go round in a circle: the last token "
            "is a target, and not an input.",
            changes={"inputs": "all", "targets": "turned round"},
        ),
        Misconception(
            "only the last token is a target",
            "You ask for the last token alone. Every position predicts the token after it, so a text of n tokens gives "
            "n - 1 targets, and a model learns from all of them at once.",
            changes={"targets": "the last"},
        ),
        Misconception(
            "pairs of ids",
            "You give back a list of pairs (input, target). Two lists are wanted, all inputs in the one and all "
            "targets in the other: a model reads the inputs as one row.",
            lambda ids: list(pairwise(ids)),
        ),
        Misconception(
            "an input for each target",
            "Your inputs are lists, for each target all that stands before it. One id for each target is enough: the "
            "model gets the whole row, and its mask sees to it that each place reads only what comes before.",
            lambda ids: ([ids[:t] for t in range(1, len(ids))], ids[1:]),
        ),
        Misconception(
            "shortens the list it was given",
            "The results are right, but your function took the last token off the list that it was given: pop and del "
            "change the caller's list. A slice such as ids[:-1] makes a new one.",
            _pops,
        ),
    ),
    properties=(
        Property(
            "every target is the token after its input",
            _are_neighbours,
            "The target at position t must be the token that follows the input at position t.",
            0.4,
            ("inputs", "targets"),
        ),
    ),
    hints=(
        "Write the ids 5 6 7 8 on paper, and below each the id that comes next. Which of them has nothing below?",
        "The inputs are all ids but the last, the targets all ids but the first. Two slices do it.",
        "ids[:-1] leaves out the last id, ids[1:] the first; return both, the inputs first.",
    ),
)
