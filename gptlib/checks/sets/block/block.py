"""The block: norm, attention, residual, norm, feed-forward, residual."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, C: int) -> Case:
        weights = {name: normal(rng, C, C) / math.sqrt(C) for name in ("w_attention", "w_mlp")}
        scales = {name: 1 + normal(rng, C).abs() for name in ("w_norm_1", "w_norm_2")}
        return Case({"x": 2 * normal(rng, B, T, C) + 1, **weights, **scales})

    a, b, c = sizes(rng, 3, 3, 8)
    return [case(1, 1, 2), case(1, 3, 2), case(2, 3, 4), case(a, b, c), case(c, a, b)]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(x: Any, w_attention: Any, w_mlp: Any, w_norm_1: Any, w_norm_2: Any) -> Any:
        def norm(y: Any, scale: Any) -> Any:
            centred = y - y.mean(-1, keepdim=True)
            return centred / ((centred**2).mean(-1, keepdim=True) + 0.1).sqrt() * scale

        def attention(y: Any) -> Any:  # a stand-in: the mean of what came before, and a product
            counted = torch.arange(1.0, y.shape[1] + 1)[:, None]
            return y.cumsum(1) / counted @ w_attention

        def mlp(y: Any) -> Any:
            return torch.tanh(y) @ w_mlp

        return answer(x, lambda y: norm(y, w_norm_1), attention, lambda y: norm(y, w_norm_2), mlp)

    own, quiet = copies(given), copies(given)
    quiet["w_attention"] *= 0
    quiet["w_mlp"] *= 0
    later = copies(given)
    later["x"][:, -1] += torch.arange(later["x"].shape[-1])
    found = {"output": tensor(call(**own))} | afterwards(own)
    found |= gradients(call, given, "x", "w_attention", "w_mlp", "w_norm_1", "w_norm_2")
    return found | {"quiet.output": tensor(call(**quiet)), "future.output": tensor(call(**later))}


def _build(
    *, norms: str = "before", residual: str = "both", order: str = "attention first", second: str = "its own"
) -> Answer:
    def block(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> torch.Tensor:
        norm_2 = norm_2 if second == "its own" else norm_1
        steps = [(norm_1, attention), (norm_2, mlp)]
        if order == "mlp first":
            steps = [(norm_1, mlp), (norm_2, attention)]
        keeps = {"both": (1, 1), "none": (0, 0), "first": (1, 0), "second": (0, 1)}[residual]
        for (norm, part), keep in zip(steps, keeps, strict=True):
            if norms == "before" or (norms == "before the first" and norm is norm_1):
                x = keep * x + part(norm(x))
            elif norms == "after":
                x = norm(keep * x + part(x))
            elif norms == "on the part":
                x = keep * x + norm(part(x))
            elif norms == "on the stream":
                x = norm(x)
                x = keep * x + part(x)
            else:
                x = keep * x + part(x)
        return x

    return block


def _in_parallel(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> Any:
    return x + attention(norm_1(x)) + mlp(norm_2(x))


def _adds_the_input(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> Any:
    y = x + attention(norm_1(x))
    return x + mlp(norm_2(y))


def _in_place(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> Any:
    x += attention(norm_1(x))
    x += mlp(norm_2(x))
    return x


def _by_names(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> Any:
    normed = norm_1(x)
    middle = torch.add(x, attention(normed))
    return torch.stack([middle, mlp(norm_2(middle))]).sum(0)


def _by_loop(x: torch.Tensor, norm_1: Answer, attention: Answer, norm_2: Answer, mlp: Answer) -> Any:
    for norm, part in ((norm_1, attention), (norm_2, mlp)):
        x = part(norm(x)) + x
    return x


def _keeps_the_stream(case: Case, got: dict[str, Any]) -> bool:
    x = case.given["x"]
    assert isinstance(x, torch.Tensor)
    return bool(((got["quiet.output"] - x).abs() <= 1e-5).all())


def _causal(case: Case, got: dict[str, Any]) -> bool:
    change = (got["future.output"] - got["output"]).abs()
    return bool((change[:, :-1] <= 1e-5).all()) and bool((change[:, -1] > 1e-5).any())


EXERCISE = Exercise(
    id="block.block",
    title="The block",
    minutes=8,
    points=3,
    signature="block(x, norm_1, attention, norm_2, mlp)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_names, _by_loop),
    tolerance=1e-4,
    shown=("x",),
    misconceptions=(
        Misconception(
            "norm after the sum",
            "You norm after adding, as the first Transformer did (post-norm). Then everything on the residual stream "
            "passes through a norm in every block; GPT-2 norms only what goes into attention and feed-forward.",
            changes={"norms": "after"},
        ),
        Misconception(
            "norm behind the part",
            "You norm what comes out of attention and feed-forward. Norm what goes in: attention(norm_1(x)).",
            changes={"norms": "on the part"},
        ),
        Misconception(
            "the normed x goes on",
            "You overwrite x with norm(x) and add to that. The residual stream must stay as it is: norm a copy for the "
            "part, and add its result to the x from before.",
            changes={"norms": "on the stream"},
        ),
        Misconception(
            "no norms",
            "You do not use the norms: norm_1 stands before attention, norm_2 before the feed-forward part.",
            changes={"norms": "none"},
        ),
        Misconception(
            "no second norm",
            "You norm before attention and not before the feed-forward part: it works on norm_2 of the new x.",
            changes={"norms": "before the first"},
        ),
        Misconception(
            "no residuals",
            "You replace x by what attention and feed-forward return. They are to add something to x, not to take its "
            "place: x = x + …, twice.",
            changes={"residual": "none"},
        ),
        Misconception(
            "no residual around the feed-forward part",
            "Around the feed-forward part the residual is missing: add its result to x.",
            changes={"residual": "first"},
        ),
        Misconception(
            "no residual around attention",
            "Around attention the residual is missing: add its result to x.",
            changes={"residual": "second"},
        ),
        Misconception(
            "feed-forward first",
            "You apply the feed-forward part first. A position gathers by attention, then works on what it found.",
            changes={"order": "mlp first"},
        ),
        Misconception(
            "one norm for both",
            "You use norm_1 twice. Each has its own weights: norm_2 belongs before the feed-forward part.",
            changes={"second": "the first"},
        ),
        Misconception(
            "side by side",
            "Your feed-forward part reads the same x as attention, so the two work side by side (as in some models). "
            "In GPT-2 it reads x with attention's result added.",
            _in_parallel,
        ),
        Misconception(
            "adds to the first x",
            "You add the feed-forward result to the x from the very beginning, so what attention added is lost. Add it "
            "to the x that attention has changed.",
            _adds_the_input,
        ),
        Misconception(
            "writes into x",
            "The result is right, but += works in place, and your function changed its input x: write x = x + ….",
            _in_place,
        ),
    ),
    properties=(
        Property(
            "with silent parts, x passes through unchanged",
            _keeps_the_stream,
            "When attention and feed-forward return zeros, the block must return x as it came.",
            0.25,
            ("output", "quiet.output"),
        ),
        Property(
            "no position sees a later one",
            _causal,
            "Changing x at the last position must leave the output at all others as it was.",
            0.1,
            ("output", "future.output"),
        ),
    ),
    hints=(
        "Two lines of the same form. What is normed, and what is added to what?",
        "x keeps its value and gets something added, twice: first what attention makes of norm_1(x), then what the "
        "feed-forward part makes of norm_2 of the new x.",
        "x = x + attention(norm_1(x)); x = x + mlp(norm_2(x)); return x.",
    ),
)
