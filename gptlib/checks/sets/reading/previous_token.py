"""How much a head gives to the token just before."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, H: int, T: int, causal: bool = True) -> Case:
        scores = 1.5 * normal(rng, B, H, T, T)
        if causal:
            scores = scores + torch.full((T, T), -math.inf).triu(1)
        return Case({"weights": scores.softmax(-1)}, "" if causal else "a model that reads both ways")

    a, b, c = sizes(rng, 3, 2, 8)
    return [
        Case({"weights": torch.tensor([[[[1.0, 0.0], [0.75, 0.25]]]])}),
        case(1, 2, 4, causal=False),
        case(2, 3, 5),
        case(3, 2, 6, causal=False),
        case(a, b, c + 2),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, elsewhere, first = copies(given), copies(given), copies(given)
    T = own["weights"].shape[-1]
    previous = torch.ones(T, T).tril(-1).triu(-1)
    elsewhere["weights"] = elsewhere["weights"] * previous  # all else is 0
    first["weights"][:, :, 0] = first["weights"][:, :, 0].flip(-1) + 1
    found = {"scores": tensor(answer(own["weights"]))} | afterwards(own)
    found |= {"elsewhere.scores": tensor(answer(elsewhere["weights"]))}
    return found | {"first.scores": tensor(answer(first["weights"]))}


def _build(*, offset: int = -1, divide: str = "rows from 1", over: str = "texts and rows") -> Answer:
    def previous_token(weights: torch.Tensor) -> torch.Tensor:
        T = weights.size(-1)
        there = weights.diagonal(offset, -2, -1)  # (B, H, rows)
        count = {"rows from 1": there.size(-1), "all rows": T, "not": 1}[divide]
        each = there.sum(-1) / count  # (B, H)
        return {"texts and rows": each.mean(0), "rows": each, "texts, heads and rows": each.mean((0, 1))}[over]

    return previous_token


def _by_loops(weights: torch.Tensor) -> torch.Tensor:
    B, H, T, _ = weights.shape
    total = torch.zeros(H)
    for b in range(B):
        for t in range(1, T):
            total += weights[b, :, t, t - 1]
    return total / (B * (T - 1))


def _by_index(weights: torch.Tensor) -> torch.Tensor:
    t = torch.arange(1, weights.size(2))
    return weights[:, :, t, t - 1].mean((0, 2))


def _by_mask(weights: torch.Tensor) -> torch.Tensor:
    T = weights.size(-1)
    back = torch.arange(T)[:, None] - torch.arange(T)
    return (weights * (back == 1)).sum((0, 2, 3)) / (weights.size(0) * (T - 1))


def _by_shift(weights: torch.Tensor) -> Any:
    return torch.einsum("bhtt->bht", weights[:, :, 1:, :-1]).mean(-1).mean(0)


def _wraps(weights: torch.Tensor) -> torch.Tensor:
    t = torch.arange(weights.size(2))
    return weights[:, :, t, t - 1].mean((0, 2))


def _all_before(weights: torch.Tensor) -> torch.Tensor:
    return weights.tril(-1)[:, :, 1:].sum(-1).mean((0, 2))


def _favourite(weights: torch.Tensor) -> torch.Tensor:
    t = torch.arange(1, weights.size(2))
    return (weights[:, :, 1:].argmax(-1) == t - 1).float().mean((0, 2))


def _largest(weights: torch.Tensor) -> torch.Tensor:
    t = torch.arange(1, weights.size(2))
    return weights[:, :, t, t - 1].mean(0).amax(-1)


def _to_the_first(weights: torch.Tensor) -> torch.Tensor:
    return weights[:, :, 1:, 0].mean((0, 2))


def _nothing_else(case: Case, got: dict[str, Any]) -> bool:
    return bool(((got["elsewhere.scores"] - got["scores"]).abs() <= 1e-5).all())


def _row_0_counts_nowhere(case: Case, got: dict[str, Any]) -> bool:
    return bool(((got["first.scores"] - got["scores"]).abs() <= 1e-5).all())


EXERCISE = Exercise(
    id="reading.previous_token",
    title="One token back",
    minutes=6,
    points=2,
    signature="previous_token(weights)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loops, _by_index, _by_mask, _by_shift),
    misconceptions=(
        Misconception(
            "the token itself",
            "You take the diagonal, which is each token's weight on itself. The token before stands one column to the "
            "left of it.",
            changes={"offset": 0},
        ),
        Misconception(
            "the next token",
            "You take the diagonal above the main one: what row t gives to t + 1. Rows look, columns are looked at, so "
            "the token before row t is column t − 1.",
            changes={"offset": 1},
        ),
        Misconception(
            "two tokens back",
            "You take what row t gives to t − 2.",
            changes={"offset": -2},
        ),
        Misconception(
            "row 0 counts",
            "You divide by all T rows. Row 0 has no token before it, so T − 1 rows count; otherwise a head that does "
            "nothing else would not reach 1.",
            changes={"divide": "all rows"},
        ),
        Misconception(
            "sum over rows",
            "You add up the rows, so that a longer text gives a higher score. Take their mean.",
            changes={"divide": "not"},
        ),
        Misconception(
            "column −1",
            "For row 0 you look at column 0 − 1 = −1, and to Python that is the last column. Begin with row 1.",
            _wraps,
        ),
        Misconception(
            "all tokens before",
            "You add up all that a row gives to earlier tokens. Only the one just before is meant.",
            _all_before,
        ),
        Misconception(
            "the first token",
            "You take what each row gives to the first token of the text, column 0. The token just before row t is "
            "column t − 1.",
            _to_the_first,
        ),
        Misconception(
            "counts favourites",
            "You count the rows whose largest weight lies on the token before. The score is the mean of that weight: "
            "0.4 and 0.9 are told apart.",
            _favourite,
        ),
        Misconception(
            "the best row",
            "You take the row where the weight is largest. A head is judged by all its rows: take the mean.",
            _largest,
        ),
        Misconception(
            "a text at a time",
            "You give (B, H), a number for each text. Average over the texts too: (H,).",
            changes={"over": "rows"},
        ),
        Misconception(
            "heads averaged",
            "You average over the heads too, and they are what is to be told apart: (H,).",
            changes={"over": "texts, heads and rows"},
        ),
    ),
    properties=(
        Property(
            "no other weight counts",
            _nothing_else,
            "With 0 in place of every weight but those on the token before, the scores must stay as they were.",
            0.25,
            ("scores", "elsewhere.scores"),
        ),
        Property(
            "row 0 counts nowhere",
            _row_0_counts_nowhere,
            "With other numbers in row 0, the scores must stay as they were.",
            0.2,
            ("scores", "first.scores"),
        ),
    ),
    hints=(
        "In a map, where do the weights stand that row 1 gives to column 0, row 2 to column 1, and so on?",
        "They are a diagonal, one below the main one. It has T − 1 entries, since row 0 has no token before it.",
        "weights.diagonal(offset=-1, dim1=-2, dim2=-1) is (B, H, T − 1); its .mean(dim=(0, 2)).",
    ),
)
