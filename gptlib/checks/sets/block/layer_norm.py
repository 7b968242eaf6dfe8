"""Layer norm: every position to mean 0 and variance 1, then scaled and moved."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(*shape: int, scale: float = 2.0, eps: float = 1e-5, note: str = "") -> Case:
        C = shape[-1]
        x = scale * normal(rng, *shape) + 1.0
        return Case({"x": x, "weight": 1 + normal(rng, C).abs(), "bias": normal(rng, C), "eps": eps}, note)

    a, b, c = sizes(rng, 3, 3, 9)
    return [
        case(1, 1, 2),
        case(1, 2, 4),
        case(2, 3, 4, scale=0.1, eps=0.01, note="small numbers and a large eps"),
        case(a, b, c),
        case(c, a, b, scale=5.0, eps=0.1),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        return answer(x, weight, bias, eps)

    own, moved, other = copies(given), copies(given), copies(given)
    moved["x"] += 3
    other["x"][..., -1, :] *= -2
    found = {"output": tensor(call(**own))} | afterwards(own) | gradients(call, given, "x", "weight", "bias")
    return found | {"moved.output": tensor(call(**moved)), "changed.output": tensor(call(**other))}


def _build(
    *, over: Any = -1, centre: str = "mean", spread: str = "variance", eps_goes: str = "inside", scale: str = "both"
) -> Answer:
    def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        dims = {"all but the last": tuple(range(x.dim() - 1)), "everything": tuple(range(x.dim()))}.get(over, over)
        mean = x.mean(dims, keepdim=True)
        centred = x - mean if centre == "mean" else x
        variance = (centred**2).mean(dims, keepdim=True)
        if spread == "divided by n - 1":
            n = x.numel() // variance.numel()
            variance = variance * n / max(1, n - 1)
        if spread == "no root":
            divisor = variance + eps
        elif eps_goes == "inside":
            divisor = (variance + eps).sqrt()
        else:
            divisor = variance.sqrt() + (eps if eps_goes == "outside" else 0)
        y = centred / divisor
        if scale == "wrong order":
            return (y + bias) * weight
        y = y * weight if scale in ("both", "weight") else y
        return y + bias if scale in ("both", "bias") else y

    return layer_norm


def _by_call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def _by_rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    rows = [(row - row.mean()) / torch.sqrt(row.var(unbiased=False) + eps) for row in x.flatten(0, -2)]
    return torch.stack(rows).reshape(x.shape) * weight + bias


def _by_squares(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    centred = x - x.sum(-1, keepdim=True) / x.size(-1)
    y = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return torch.addcmul(bias, y, weight)


def _same_after_moving(case: Case, got: dict[str, Any]) -> bool:
    return bool(((got["moved.output"] - got["output"]).abs() <= 1e-3).all())


def _rows_are_separate(case: Case, got: dict[str, Any]) -> bool:
    change = (got["changed.output"] - got["output"]).abs()
    return bool((change[..., :-1, :] <= 1e-5).all()) and bool((change[..., -1, :] > 1e-5).any())


EXERCISE = Exercise(
    id="block.layer_norm",
    title="Layer norm",
    minutes=8,
    points=3,
    signature="layer_norm(x, weight, bias, eps)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_call, _by_rows, _by_squares),
    forbidden={
        "F.layer_norm": "which is the task itself",
        "nn.LayerNorm": "which is the task itself",
        "torch.native_layer_norm": "which is the task itself",
    },
    tolerance=1e-4,
    misconceptions=(
        Misconception(
            "eps outside the root",
            "Your eps is added after the root. It belongs to the variance, inside the root: sqrt(variance + eps).",
            changes={"eps_goes": "outside"},
        ),
        Misconception(
            "no eps",
            "You do not use eps. It keeps the division alive where all features of a position are equal, and its value "
            "shows in the result when the variance is small.",
            changes={"eps_goes": "nowhere"},
        ),
        Misconception(
            "variance over n - 1",
            "Your variance is divided by C - 1, as torch.var and torch.std do unless told otherwise. Layer norm "
            "divides by C: unbiased=False.",
            changes={"spread": "divided by n - 1"},
        ),
        Misconception(
            "no square root",
            "You divide by the variance. Its square root, the standard deviation, brings the spread to 1.",
            changes={"spread": "no root"},
        ),
        Misconception(
            "mean not taken away",
            "You do not take the mean away: that is RMS norm, which later models use. Layer norm first brings the mean "
            "of each position to 0.",
            changes={"centre": "none"},
        ),
        Misconception(
            "over the batch",
            "Your mean and variance run over the batch. Then what a text gets depends on the texts beside it: use the "
            "features of each position alone, dim=-1.",
            changes={"over": 0},
        ),
        Misconception(
            "over batch and positions",
            "Your mean and variance run over batch and positions, each feature by itself, as in batch norm. Then a "
            "position depends on other texts and on later positions: use the features of each position alone, dim=-1.",
            changes={"over": "all but the last"},
        ),
        Misconception(
            "over positions",
            "Your mean and variance run over the positions, so that every position learns something about later ones. "
            "Use the features of each position alone, dim=-1.",
            changes={"over": -2},
        ),
        Misconception(
            "over positions and features",
            "Your mean and variance run over positions and features together, so that every position learns something "
            "about later ones. Use dim=-1 alone.",
            changes={"over": (-2, -1)},
        ),
        Misconception(
            "over the whole tensor",
            "Your mean and variance are those of the whole tensor, so that every position depends on all texts of the "
            "batch. Say which dimension: the features of each position, dim=-1.",
            changes={"over": "everything"},
        ),
        Misconception(
            "weight and bias ignored",
            "You stop before the last step: multiply by weight and add bias.",
            changes={"scale": "neither"},
        ),
        Misconception(
            "bias before weight",
            "You add the bias first and multiply it by the weight as well. Multiply by weight, then add bias.",
            changes={"scale": "wrong order"},
        ),
        Misconception("bias ignored", "You multiply by weight and forget to add bias.", changes={"scale": "weight"}),
        Misconception("weight ignored", "You add bias and forget to multiply by weight.", changes={"scale": "bias"}),
    ),
    properties=(
        Property(
            "adding one number to all features changes nothing",
            _same_after_moving,
            "When every feature of a position grows by the same number, the result must stay as it was.",
            0.2,
            ("output", "moved.output"),
        ),
        Property(
            "each position stands for itself",
            _rows_are_separate,
            "Changing the last position must change the result there, and nowhere else.",
            0.2,
            ("output", "changed.output"),
        ),
    ),
    hints=(
        "Four steps, for each position alone: take the mean away, find the variance, divide by its root, scale.",
        "mean(dim=-1, keepdim=True) keeps a dimension of length 1, so that it can be taken from x. The variance is the "
        "mean of the squares of what is left, and eps joins it under the root.",
        "centred = x - x.mean(-1, keepdim=True); variance = (centred**2).mean(-1, keepdim=True); return centred / "
        "torch.sqrt(variance + eps) * weight + bias.",
    ),
)
