"""The feed-forward part: widen, bend, narrow."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, C: int, inner: int) -> Case:
        weights = {"w_in": normal(rng, C, inner), "b_in": normal(rng, inner)}
        weights |= {"w_out": normal(rng, inner, C) / math.sqrt(inner), "b_out": normal(rng, C)}
        return Case({"x": normal(rng, B, T, C), **weights})

    a, b, c, d = sizes(rng, 4, 3, 9)
    # Inner and outer widths are sometimes equal, so that a step left out gives no exception to hide behind.
    return [case(1, 1, 2, 8), case(1, 2, 3, 3), case(2, 3, 4, 4), case(a, b, c, 4 * c), case(b, c, d, 2 * d + 1)]


def _probe(answer: Answer, given: Given) -> Arrays:
    names = ("x", "w_in", "b_in", "w_out", "b_out")

    def call(x: Any, w_in: Any, b_in: Any, w_out: Any, b_out: Any) -> Any:
        return answer(x, w_in, b_in, w_out, b_out)

    own, other = copies(given), copies(given)
    other["x"][:, -1] += 1
    found = {"output": tensor(call(**own))} | afterwards(own) | gradients(call, given, *names)
    return found | {"changed.output": tensor(call(**other))}


def _build(*, bend: str = "tanh", where: str = "between", biases: str = "both") -> Answer:
    def mlp(
        x: torch.Tensor, w_in: torch.Tensor, b_in: torch.Tensor, w_out: torch.Tensor, b_out: torch.Tensor
    ) -> torch.Tensor:
        def gelu(y: torch.Tensor) -> torch.Tensor:
            bends = {
                "tanh": lambda: F.gelu(y, approximate="tanh"),
                "exact": lambda: F.gelu(y),
                "relu": lambda: F.relu(y),
                "none": lambda: y,
                "no cube": lambda: 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * y)),
                "root of pi / 2": lambda: 0.5 * y * (1 + torch.tanh(math.sqrt(math.pi / 2) * (y + 0.044715 * y**3))),
                "sigmoid": lambda: y * torch.sigmoid(y),
            }
            result: torch.Tensor = bends[bend]()
            return result

        wide = x @ w_in + (b_in if biases in ("both", "first") else 0)  # (B, T, inner)
        wide = wide if where == "at the end" else gelu(wide)
        narrow = wide @ w_out + (b_out if biases in ("both", "second") else 0)  # (B, T, C)
        narrow = narrow if where == "between" else gelu(narrow)
        return narrow + x if where == "between, with x" else narrow

    return mlp


def _with_residual(*args: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _build()(*args) + args[0]
    return result


def _by_linear(x: Any, w_in: Any, b_in: Any, w_out: Any, b_out: Any) -> torch.Tensor:
    return F.linear(F.gelu(F.linear(x, w_in.T, b_in), approximate="tanh"), w_out.T, b_out)


def _by_formula(x: Any, w_in: Any, b_in: Any, w_out: Any, b_out: Any) -> Any:
    y = torch.einsum("btc,ci->bti", x, w_in) + b_in
    cubic = y + 0.044715 * torch.pow(y, 3)
    return torch.einsum("bti,ic->btc", y * torch.sigmoid(2 * math.sqrt(2 / math.pi) * cubic), w_out) + b_out


def _rows_are_separate(case: Case, got: dict[str, Any]) -> bool:
    change = (got["changed.output"] - got["output"]).abs()
    return bool((change[:, :-1] <= 1e-5).all()) and bool((change[:, -1] > 1e-5).any())


def _near_the_exact(case: Case, got: dict[str, Any]) -> bool:
    """Say whether the result is within what the two forms of GELU differ by; they agree to three digits."""
    given = case.given
    x, w_in, b_in, w_out, b_out = (given[name] for name in ("x", "w_in", "b_in", "w_out", "b_out"))
    exact = _build(bend="exact")(x, w_in, b_in, w_out, b_out)
    return bool(((got["output"] - exact).abs() <= 0.05).all())


EXERCISE = Exercise(
    id="block.mlp",
    title="The feed-forward part",
    minutes=8,
    points=2,
    signature="mlp(x, w_in, b_in, w_out, b_out)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_linear, _by_formula),
    tolerance=1e-4,
    misconceptions=(
        Misconception(
            "no GELU",
            "There is nothing between your two products, and two linear maps in a row are one linear map: put GELU "
            "between them.",
            changes={"bend": "none"},
        ),
        Misconception(
            "ReLU",
            "You use ReLU. GPT-2 uses GELU, which is smooth at 0 and lets a little of the negative side through.",
            changes={"bend": "relu"},
        ),
        Misconception(
            "exact GELU",
            "Your GELU is the exact one, with the error function. GPT-2 was trained with the formula with tanh, and "
            "its weights expect that.",
            changes={"bend": "exact"},
        ),
        Misconception(
            "the cube is missing",
            "Your formula lacks the cubic term: inside tanh stands y + 0.044715 · y³, times the root of 2 / π.",
            changes={"bend": "no cube"},
        ),
        Misconception(
            "root of pi / 2",
            "The factor inside your tanh is the root of π / 2; it is the root of 2 / π, about 0.798.",
            changes={"bend": "root of pi / 2"},
        ),
        Misconception(
            "SiLU",
            "You use y · sigmoid(y), which is SiLU (or swish). GELU is a little steeper; later models use SiLU, GPT-2 "
            "does not.",
            changes={"bend": "sigmoid"},
        ),
        Misconception(
            "GELU at the end",
            "Your GELU comes after the second product, so that no output can be much below 0. It belongs between the "
            "two.",
            changes={"where": "at the end"},
        ),
        Misconception(
            "GELU twice",
            "You apply GELU after the second product too. The output goes into the residual stream as it is.",
            changes={"where": "both"},
        ),
        Misconception(
            "no biases",
            "You leave out both biases: b_in is added after the first product, b_out after the second.",
            changes={"biases": "none"},
        ),
        Misconception(
            "b_out is missing",
            "You leave out b_out, which is added after the second product.",
            changes={"biases": "first"},
        ),
        Misconception(
            "b_in is missing",
            "You leave out b_in, which is added after the first product, before GELU.",
            changes={"biases": "second"},
        ),
        Misconception(
            "adds x",
            "You add x to the result. That is right for a block, which does it around this function; once is enough.",
            _with_residual,
        ),
    ),
    properties=(
        Property(
            "each position stands for itself",
            _rows_are_separate,
            "Changing the last position must change the result there, and nowhere else.",
            0.2,
            ("output", "changed.output"),
        ),
        Property(
            "right to about two digits",
            _near_the_exact,
            "The result must be near that with any form of GELU.",
            0.3,
            ("output",),
        ),
    ),
    hints=(
        "Three steps: a product that widens, a function that bends, a product that narrows.",
        "x @ w_in + b_in is (B, T, inner). GELU goes over every number of it, in the form with tanh, and w_out brings "
        "it back to C.",
        "y = x @ w_in + b_in; then y = y / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))); then "
        "y @ w_out + b_out.",
    ),
)
