"""Scale a gradient down to a norm, all its tensors together."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, Odd, afterwards, copies, parts, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(shapes: Sequence[tuple[int, ...]], norm: float, limit: float, note: str = "") -> Case:
        drawn = [normal(rng, *shape) for shape in shapes]
        length = math.sqrt(sum(float(each.square().sum()) for each in drawn))
        a, b, c = (each * (norm / length) for each in drawn)
        return Case({"a": a, "b": b, "c": c, "limit": limit}, note)

    p, q, r = sizes(rng, 3, 2, 6)
    long, short = float(np.round(rng.uniform(5, 50), 2)), float(np.round(rng.uniform(0.1, 0.9), 2))
    three_four = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0, -4.0]]), "c": torch.tensor([12.0])}
    return [
        Case({**three_four, "limit": 1.0}, "of norm 13"),
        case(((2, 2), (3,), (2,)), 0.5, 1.0, "shorter than the limit"),
        case(((2,), (2, 3), (1,)), 1.5, 2.0, "shorter than the limit"),
        Case({"a": torch.zeros(2), "b": torch.zeros(2, 2), "c": torch.zeros(1), "limit": 1.0}, "of norm 0"),
        case(((p, q), (q,), (r, p)), long, 0.5),
        case(((r,), (q, r), (p,)), long, round(long * short, 2)),
        case(((q, p), (r, q), (r,)), short, 1.0, "shorter than the limit"),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    value = answer([own["a"], own["b"], own["c"]], own["limit"])
    found: Arrays = {"norm": Odd("no pair of clipped gradients and norm")}
    if isinstance(value, tuple | list) and len(value) == 2:
        norm = value[1]
        if isinstance(norm, int | float) and not isinstance(norm, bool):
            norm = torch.tensor(float(norm))
        norm = tensor(norm)
        found = {"norm": norm.float() if isinstance(norm, torch.Tensor) else norm}
        value = value[0]
    elif value is None or value is ...:
        found = {"norm": tensor(value)}
    return {**parts(value, tensor, "a", "b", "c"), **found} | afterwards(own)


def _build(
    *,
    over: str = "all",
    norm_is: str = "root of squares",
    when: str = "longer",
    to: str = "limit",
    reports: str = "before",
    returns: str = "pair",
) -> Answer:
    def size(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        squares = torch.stack([g.square().sum() for g in gradients])
        return {
            "root of squares": squares.sum().sqrt(),
            "squares": squares.sum(),
            "sum of norms": squares.sqrt().sum(),
            "largest norm": squares.sqrt().max(),
            "sum of sizes": torch.stack([g.abs().sum() for g in gradients]).sum(),
            "mean of squares": torch.cat([g.flatten() for g in gradients]).square().mean().sqrt(),
            "largest number": torch.cat([g.flatten() for g in gradients]).abs().max(),
        }[norm_is]

    def scaled(gradients: Sequence[torch.Tensor], limit: float) -> list[torch.Tensor]:
        norm = size(gradients)
        factor = (limit if to == "limit" else 1.0) / norm
        factor = {
            "longer": torch.where(norm > limit, factor, 1.0),
            "always": factor,
            "shorter": torch.where(norm < limit, factor, 1.0),
            "never": torch.tensor(1.0),
        }[when]
        return [g * factor for g in gradients]

    def clip(gradients: Sequence[torch.Tensor], limit: float) -> Any:
        if over == "numbers":
            clipped = [g.clamp(-limit, limit) for g in gradients]
        elif over == "each tensor":
            clipped = [scaled([g], limit)[0] for g in gradients]
        else:
            clipped = scaled(gradients, limit)
        norm = size(clipped if reports == "after" else gradients)
        return {"pair": (clipped, norm), "clipped": clipped, "swapped": (norm, clipped)}[returns]

    return clip


def _by_library(gradients: Sequence[torch.Tensor], limit: float) -> Any:
    weights = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for weight, g in zip(weights, gradients, strict=True):
        weight.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(weights, limit)
    return [weight.grad for weight in weights], norm


def _as_one_vector(gradients: Sequence[torch.Tensor], limit: float) -> Any:
    norm = torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in gradients]))
    scale = torch.clamp(limit / norm, max=1.0)
    return tuple(scale * g for g in gradients), norm


def _by_numbers(gradients: Sequence[torch.Tensor], limit: float) -> Any:
    norm = math.sqrt(sum(x * x for g in gradients for x in g.flatten().tolist()))
    if norm <= limit:
        return [g.clone() for g in gradients], norm
    return [g / norm * limit for g in gradients], norm


def _in_place(gradients: Sequence[torch.Tensor], limit: float) -> Any:
    clipped, norm = _build()(gradients, limit)
    for g, new in zip(gradients, clipped, strict=True):
        g.copy_(new)
    return gradients, norm


def _flat(case: Case, got: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, float]:
    before = torch.cat([torch.as_tensor(case.given[name]).flatten() for name in "abc"]).double()
    limit = case.given["limit"]
    assert isinstance(limit, float)
    return before, torch.cat([got[name].flatten() for name in "abc"]).double(), limit


def _same_direction(case: Case, got: dict[str, Any]) -> bool:
    before, after, limit = _flat(case, got)
    norm = float(before.norm())
    if norm <= limit:
        return bool(((after - before).abs() <= 1e-6 * before.abs()).all())
    factor = float((after @ before) / (before @ before))
    return 0 < factor < 1 and bool(((after - factor * before).abs() <= 1e-5 * after.abs() + 1e-9).all())


def _within(case: Case, got: dict[str, Any]) -> bool:
    before, after, limit = _flat(case, got)
    wanted = min(float(before.norm()), limit)
    return abs(float(after.norm()) - wanted) <= 1e-5 * max(1.0, wanted)


EXERCISE = Exercise(
    id="training.clip",
    title="Clip the gradient",
    minutes=6,
    points=2,
    signature="clip(gradients, limit)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_library, _as_one_vector, _by_numbers),
    forbidden={
        "nn.utils.clip_grad_norm_": "which is the task itself",
        "torch.nn.utils.clip_grad_norm_": "which is the task itself",
    },
    misconceptions=(
        Misconception(
            "each tensor by itself",
            "You clip every tensor by its own norm, which turns the gradient in another direction. The norm is that of "
            "all numbers in all tensors, and one factor scales them all.",
            changes={"over": "each tensor"},
        ),
        Misconception(
            "clips the numbers",
            "You cut every number off at the limit, which turns the gradient in another direction. Scale all of them "
            "by one factor, limit / norm.",
            changes={"over": "numbers"},
        ),
        Misconception(
            "scales up short ones",
            "You bring every gradient to the limit, short ones too. Near the end of a run that would blow up what is "
            "nearly 0: leave a gradient alone whose norm is below the limit.",
            changes={"when": "always"},
        ),
        Misconception(
            "the wrong way round",
            "You scale the short gradients up and leave the long ones. It is the smaller of 1 and limit / norm.",
            changes={"when": "shorter"},
        ),
        Misconception(
            "never clips",
            "You return the gradient as it is, also when it is longer than the limit.",
            changes={"when": "never"},
        ),
        Misconception(
            "down to 1",
            "You scale long gradients down to norm 1, whatever the limit. The factor is limit / norm.",
            changes={"to": "one"},
        ),
        Misconception(
            "no root",
            "You take the sum of squares for the norm. The norm is its root.",
            changes={"norm_is": "squares"},
        ),
        Misconception(
            "adds the norms",
            "You add up the norms of the tensors. Lengths at right angles do not add: add their squares, then take the "
            "root.",
            changes={"norm_is": "sum of norms"},
        ),
        Misconception(
            "the largest norm",
            "You take the norm of the longest tensor. The norm is that of all tensors together: add the squares, then "
            "take the root.",
            changes={"norm_is": "largest norm"},
        ),
        Misconception(
            "sum of sizes",
            "You add up the absolute values. The norm here is the length of the gradient: the root of the sum of "
            "squares.",
            changes={"norm_is": "sum of sizes"},
        ),
        Misconception(
            "mean of squares",
            "You take the root of the mean square, which says how large a number is and not how long the gradient is: "
            "sum the squares.",
            changes={"norm_is": "mean of squares"},
        ),
        Misconception(
            "the largest number",
            "You take the largest number for the norm. The norm is the root of the sum of all squares.",
            changes={"norm_is": "largest number"},
        ),
        Misconception(
            "the norm afterwards",
            "Your norm is that of the clipped gradient, which is the limit and tells nothing. Return the norm before, "
            "which goes into the log.",
            changes={"reports": "after"},
        ),
        Misconception(
            "changes its inputs",
            "The numbers are right, and your function wrote them into the gradients that it was given. Here new "
            "tensors are wanted: leave the inputs as they are.",
            _in_place,
        ),
        Misconception(
            "returns no norm",
            "You return the clipped gradients alone. Return them and the norm before: (clipped, norm).",
            changes={"returns": "clipped"},
        ),
        Misconception(
            "norm first",
            "You return (norm, clipped); the order is (clipped, norm).",
            changes={"returns": "swapped"},
        ),
    ),
    properties=(
        Property(
            "the direction stays",
            _same_direction,
            "A long gradient must become shorter by one factor everywhere, and a short one stay as it is.",
            0.3,
            ("a", "b", "c"),
        ),
        Property(
            "no longer than the limit",
            _within,
            "The clipped gradient must have the norm limit when it was longer, and its own when it was not.",
            0.3,
            ("a", "b", "c"),
        ),
    ),
    hints=(
        "How long is the gradient, if all its numbers stood in one long vector? Only that length decides, and one "
        "factor scales everything.",
        "norm is the root of the sum of g.square().sum() over all tensors. The factor is limit / norm when norm is "
        "above limit, else 1.",
        "norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt(); factor = limit / norm if norm > limit "
        "else 1.0; return [g * factor for g in gradients], norm.",
    ),
)
