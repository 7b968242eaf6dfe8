"""How widely each head looks: the entropy of its rows."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, H: int, T: int, sharpness: float = 1.5) -> Case:
        scores = sharpness * normal(rng, B, H, T, T)
        future = torch.full((T, T), -math.inf).triu(1)
        return Case({"weights": (scores + future).softmax(-1)})

    a, b, c = sizes(rng, 3, 2, 8)
    # Of two tokens, one row counts. Scores in the hundreds give weights that are 0 although the key may be looked at.
    return [
        Case({"weights": torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])}),
        Case({"weights": torch.tensor([[[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]]])}),
        case(2, 3, 5),
        case(3, 2, 4, 300.0),
        case(a, b, c + 2),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, moved, even = copies(given), copies(given), copies(given)
    seen = own["weights"].shape[-1]
    rows = moved["weights"]
    for t in range(seen):
        rows[:, :, t, : t + 1] = rows[:, :, t, : t + 1].flip(-1)
    even["weights"] = torch.ones_like(rows).tril()
    even["weights"] = even["weights"] / even["weights"].sum(-1, keepdim=True)
    found = {"entropies": tensor(answer(own["weights"]))} | afterwards(own)
    found |= {"moved.entropies": tensor(answer(moved["weights"]))}
    return found | {"even.entropies": tensor(answer(even["weights"]))}


def _build(
    *,
    unit: float = math.e,
    zero: str = "0",
    rows: str = "from 1",
    axis: str = "keys",
    order: str = "entropy first",
    sign: str = "minus",
    reduce: str = "mean",
    over: str = "texts and rows",
) -> Answer:
    def entropy(weights: torch.Tensor) -> torch.Tensor:
        w = weights
        if order == "mean over texts first":
            w = w.mean(0, keepdim=True)  # (1, H, T, T)
        if order == "mean over rows first":
            w = (w[:, :, 1:] if rows == "from 1" else w).mean(2, keepdim=True)  # (B, H, 1, T)
        terms = w * w.log() if zero == "nan" else torch.xlogy(w, w)
        terms = (terms if sign == "plus" else -terms) / math.log(unit)
        each = terms.sum(-1 if axis == "keys" else -2)  # (B, H, T)
        if rows == "from 1" and order != "mean over rows first":
            each = each[..., 1:]
        if reduce == "sum":
            return each.sum(-1).mean(0)
        return each.mean(-1) if over == "rows" else each.mean((0, 2))

    return entropy


def _by_loops(weights: torch.Tensor) -> torch.Tensor:
    B, H, T, _ = weights.shape
    total = [0.0] * H
    for b in range(B):
        for h in range(H):
            for t in range(1, T):
                total[h] -= sum(w * math.log(w) for w in weights[b, h, t].tolist() if w > 0)
    return torch.tensor(total) / (B * (T - 1))


def _by_where(weights: torch.Tensor) -> torch.Tensor:
    logs = torch.where(weights > 0, weights, 1.0).log()
    return -(weights * logs)[:, :, 1:].sum(-1).mean((0, 2))


def _by_clamp(weights: torch.Tensor) -> Any:
    return -torch.einsum("bhts,bhts->h", weights[:, :, 1:], weights[:, :, 1:].clamp(min=1e-12).log()) / (
        weights.size(0) * (weights.size(2) - 1)
    )


def _by_special(weights: torch.Tensor) -> Any:
    return torch.special.entr(weights)[:, :, 1:].sum(-1).mean(-1).mean(0)


def _mean_of_terms(weights: torch.Tensor) -> torch.Tensor:
    return -torch.xlogy(weights, weights)[:, :, 1:].mean((0, 2, 3))


def _exponential(weights: torch.Tensor) -> torch.Tensor:
    return (-torch.xlogy(weights, weights)[:, :, 1:].sum(-1).mean((0, 2))).exp()


def _not_weighted(weights: torch.Tensor) -> torch.Tensor:
    return -torch.where(weights > 0, weights, 1.0).log()[:, :, 1:].sum(-1).mean((0, 2))


def _share_of_most(weights: torch.Tensor) -> torch.Tensor:
    rows = -torch.xlogy(weights, weights).sum(-1)[..., 1:]  # (B, H, T - 1)
    return (rows / torch.arange(2, weights.size(2) + 1).log()).mean((0, 2))


def _blind_to_place(case: Case, got: dict[str, Any]) -> bool:
    return bool(((got["moved.entropies"] - got["entropies"]).abs() <= 1e-4).all())


def _log_of_count(case: Case, got: dict[str, Any]) -> bool:
    weights = case.given["weights"]
    assert isinstance(weights, torch.Tensor)
    T = weights.size(2)
    wanted = sum(math.log(n) for n in range(2, T + 1)) / (T - 1)
    return bool(((got["even.entropies"] - wanted).abs() <= 1e-4).all())


EXERCISE = Exercise(
    id="reading.entropy",
    title="How widely a head looks",
    minutes=8,
    points=2,
    signature="entropy(weights)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loops, _by_where, _by_clamp, _by_special),
    tolerance=1e-4,
    misconceptions=(
        Misconception(
            "log of zero",
            "Where a weight is 0, you compute 0 · log 0 = 0 · (−∞) = NaN, and one NaN makes the whole mean NaN. "
            "The future is 0 in every row. Such a term counts as 0: torch.xlogy does so, or take the log of 1 there.",
            changes={"zero": "nan"},
        ),
        Misconception(
            "bits",
            "Yours is in bits. In nats the logarithm is the natural one, torch.log; a bit is ln 2 = 0.69 nats.",
            changes={"unit": 2.0},
        ),
        Misconception(
            "minus forgotten",
            "Your entropies are negative. The logarithm of a weight is at most 0, hence the minus in front of the sum.",
            changes={"sign": "plus"},
        ),
        Misconception(
            "row 0 counts",
            "You average over all rows. Row 0 sees only itself and has entropy 0 in every head: leave it out, so that "
            "it does not dilute the mean.",
            changes={"rows": "all"},
        ),
        Misconception(
            "sums over the queries",
            "You sum over the queries (dim=-2). What sums to 1 and has an entropy is a row: sum over the keys, dim=-1.",
            changes={"axis": "queries"},
        ),
        Misconception(
            "texts averaged first",
            "You average the weights over the texts and take the entropy of that. Two sharp rows that look at two "
            "places have a blurred mean: take the entropy of each row, then the mean.",
            changes={"order": "mean over texts first"},
        ),
        Misconception(
            "rows averaged first",
            "You average the rows of a map and take the entropy of the mean row. A head that always looks one token "
            "back would seem to look everywhere: take the entropy of each row, then the mean.",
            changes={"order": "mean over rows first"},
        ),
        Misconception(
            "sum over rows",
            "You add up the rows' entropies, so that a longer text gives a higher number. Take their mean.",
            changes={"reduce": "sum"},
        ),
        Misconception(
            "mean over the keys",
            "You take the mean over the keys as well. Within a row the terms are summed; the mean is over rows and "
            "texts.",
            _mean_of_terms,
        ),
        Misconception(
            "a text at a time",
            "You give (B, H), a number for each text. Average over the texts too: (H,).",
            changes={"over": "rows"},
        ),
        Misconception(
            "number of tokens",
            "You raised e to the entropy. That is the number of tokens that a head looks at, in effect; the entropy is "
            "its logarithm.",
            _exponential,
        ),
        Misconception(
            "logs not weighted",
            "You add up −log w without weighting it by w. The entropy is the mean of −log w, each as often as its "
            "weight says: −Σ w · log w.",
            _not_weighted,
        ),
        Misconception(
            "share of the largest",
            "You divide each row's entropy by the largest it could have, ln (t + 1). That is a fair measure, and "
            "another one: here it is the entropy itself, in nats.",
            _share_of_most,
        ),
    ),
    properties=(
        Property(
            "it does not matter where the weights lie",
            _blind_to_place,
            "With the weights of every row in reverse order, the entropies must stay as they were.",
            0.25,
            ("entropies", "moved.entropies"),
        ),
        Property(
            "even attention over n tokens is ln n",
            _log_of_count,
            "For a head that gives all visible tokens the same weight, row t has entropy ln (t + 1); the mean is over "
            "the rows from 1 on.",
            0.25,
            ("even.entropies",),
        ),
    ),
    hints=(
        "One number for each row first, then the mean of these numbers.",
        "A row's entropy is −Σ w · log w over its keys. Where w is 0 the term is 0, and plain PyTorch makes NaN of it; "
        "torch.xlogy(w, w) does not.",
        "rows = -torch.xlogy(weights, weights).sum(dim=-1), which is (B, H, T); rows[:, :, 1:].mean(dim=(0, 2)).",
    ),
)
