"""Causal attention with several heads, from x to x."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, H: int, D: int) -> Case:
        C = H * D
        weights = {name: normal(rng, C, C) / math.sqrt(C) for name in ("w_q", "w_k", "w_v", "w_o")}
        return Case({"x": 2 * normal(rng, B, T, C), **weights, "n_head": H})

    a, b, c, d = sizes(rng, 4, 2, 6)
    return [case(1, 2, 2, 2), case(1, 1, 2, 3), case(2, 4, 1, 3), case(3, 5, 2, 4), case(a, b, c, d)]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(x: Any, w_q: Any, w_k: Any, w_v: Any, w_o: Any, n_head: Any) -> Any:
        return answer(x, w_q, w_k, w_v, w_o, n_head)

    own, earlier, later, doubled = copies(given), copies(given), copies(given), copies(given)
    earlier["x"][:, 0] += 1
    later["x"][:, -1] += 1
    doubled["w_o"] *= 2
    found = {"output": tensor(call(**own))} | afterwards(own)
    found |= gradients(call, given, "x", "w_q", "w_k", "w_v", "w_o")
    found |= {"past.output": tensor(call(**earlier)), "future.output": tensor(call(**later))}
    return found | {"doubled.output": tensor(call(**doubled))}


def _build(
    *,
    scale: str = "root of D",
    masked: str = "before",
    heads: str = "cut",
    merged: str = "side by side",
    multiply: str = "x @ w",
    softmax: int = -1,
    projects: bool = True,
) -> Answer:
    def multi_head(
        x: torch.Tensor, w_q: torch.Tensor, w_k: torch.Tensor, w_v: torch.Tensor, w_o: torch.Tensor, n_head: int
    ) -> torch.Tensor:
        B, T, C = x.shape
        H = 1 if heads == "one" else n_head
        D = C // H

        def through(y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return y @ (w if multiply == "x @ w" else w.T)

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.reshape(B, H, T, D) if heads == "reshaped" else y.reshape(B, T, H, D).transpose(1, 2)

        q, k, v = split(through(x, w_q)), split(through(x, w_k)), split(through(x, w_v))  # (B, H, T, D)
        factor = {"root of D": math.sqrt(D), "root of C": math.sqrt(C), "none": 1.0, "D": D}[scale]
        scores = q @ k.transpose(-2, -1) / factor  # (B, H, T, T)
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        if masked == "before":
            scores = scores.masked_fill(future, -math.inf)
        weights = scores.softmax(softmax)
        if masked == "after":
            weights = weights.masked_fill(future, 0)
        found = weights @ v  # (B, H, T, D)
        found = found.reshape(B, T, C) if merged == "reshaped" else found.transpose(1, 2).reshape(B, T, C)
        return through(found, w_o) if projects else found

    return multi_head


def _a_head_at_a_time(
    x: torch.Tensor, w_q: torch.Tensor, w_k: torch.Tensor, w_v: torch.Tensor, w_o: torch.Tensor, n_head: int
) -> torch.Tensor:
    T, D = x.size(1), x.size(2) // n_head
    mask = torch.full((T, T), -math.inf).triu(1)
    output = torch.zeros_like(x)
    for h in range(n_head):
        part = slice(h * D, (h + 1) * D)
        q, k, v = x @ w_q[:, part], x @ w_k[:, part], x @ w_v[:, part]  # (B, T, D)
        weights = F.softmax(q @ k.mT / D**0.5 + mask, dim=-1)  # (B, T, T)
        output = output + weights @ v @ w_o[part]  # each head's share of the projection
    return output


def _by_einsum(
    x: torch.Tensor, w_q: torch.Tensor, w_k: torch.Tensor, w_v: torch.Tensor, w_o: torch.Tensor, n_head: int
) -> Any:
    q, k, v = (torch.einsum("btc,chd->bhtd", x, torch.unflatten(w, 1, (n_head, -1))) for w in (w_q, w_k, w_v))
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.size(-1))
    t = torch.arange(x.size(1))
    weights = torch.where(t[None] > t[:, None], -math.inf, scores).softmax(-1)
    return torch.einsum("bhts,bhsd,hdc->btc", weights, v, torch.unflatten(w_o, 0, (n_head, -1)))


def _by_kernel(
    x: torch.Tensor, w_q: torch.Tensor, w_k: torch.Tensor, w_v: torch.Tensor, w_o: torch.Tensor, n_head: int
) -> torch.Tensor:
    q, k, v = (torch.unflatten(y, -1, (n_head, -1)).transpose(1, 2) for y in (x @ w_q, x @ w_k, x @ w_v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2) @ w_o


def _causal(case: Case, got: dict[str, Any]) -> bool:
    change = (got["future.output"] - got["output"]).abs()
    seen = (got["past.output"] - got["output"]).abs()
    return bool((change[:, :-1] <= 1e-5).all()) and bool((seen.amax(-1) > 1e-5).all())


def _linear_in_w_o(case: Case, got: dict[str, Any]) -> bool:
    output = got["output"]
    return bool(((got["doubled.output"] - 2 * output).abs() <= 1e-4 * output.abs().clamp(min=1)).all())


EXERCISE = Exercise(
    id="heads.multi_head",
    title="Attention with many heads",
    minutes=15,
    points=4,
    signature="multi_head(x, w_q, w_k, w_v, w_o, n_head)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_a_head_at_a_time, _by_einsum, _by_kernel),
    tolerance=1e-4,  # the gradients are sums of many terms, and orders of summing differ
    forbidden={
        "F.scaled_dot_product_attention": "which does the attention for you",
        "nn.MultiheadAttention": "which is the task itself",
        "F.multi_head_attention_forward": "which is the task itself",
    },
    misconceptions=(
        Misconception(
            "root of C",
            "You divide the scores by the square root of C. The dot product of a head runs over its own D = C / n_head "
            "features: divide by the square root of D.",
            changes={"scale": "root of C"},
        ),
        Misconception(
            "no scaling",
            "Your scores are not divided by the square root of D, so each head's softmax is sharper than it should be.",
            changes={"scale": "none"},
        ),
        Misconception(
            "divides by D",
            "You divide the scores by D; the divisor is its square root.",
            changes={"scale": "D"},
        ),
        Misconception(
            "one head",
            "Your attention has one head, whatever n_head says: the scores are dot products over all C features. Cut "
            "q, k and v into heads first, so that each head has weights of its own.",
            changes={"heads": "one"},
        ),
        Misconception(
            "heads by reshape alone",
            "You cut the heads with one reshape to (B, H, T, D), which hands a head pieces of other positions. Reshape "
            "to (B, T, H, D) and exchange T and H.",
            changes={"heads": "reshaped"},
        ),
        Misconception(
            "merged by reshape alone",
            "You merge the heads with one reshape to (B, T, C), which mixes up the positions. Exchange H and T back "
            "first.",
            changes={"merged": "reshaped"},
        ),
        Misconception(
            "no mask",
            "Your attention has no causal mask: every position sees the future.",
            changes={"masked": "no"},
        ),
        Misconception(
            "mask after the softmax",
            "You zero the weights after the softmax, so that the rows no longer sum to one, and the future has been "
            "part of the sum. Put -inf into the scores, before.",
            changes={"masked": "after"},
        ),
        Misconception(
            "softmax over queries",
            "Your softmax runs over the queries (dim=-2). Each query shares out its attention over the keys: dim=-1.",
            changes={"softmax": -2},
        ),
        Misconception(
            "softmax over heads",
            "Your softmax runs over dimension 1, and with heads that is the heads. The keys are the last dimension: "
            "dim=-1.",
            changes={"softmax": 1},
        ),
        Misconception(
            "no output projection",
            "You do not use w_o. Side by side, the heads know nothing of each other; the last matrix mixes what they "
            "found.",
            changes={"projects": False},
        ),
        Misconception(
            "weights transposed",
            "You multiply by the transposed matrices. nn.Linear stores its weight transposed, and these are not from "
            "it: here it is x @ w.",
            changes={"multiply": "x @ w.T"},
        ),
    ),
    properties=(
        Property(
            "every position sees the first and none sees a later one",
            _causal,
            "Changing x at the last position must leave the output at all others as it was; changing x at the first "
            "position must change the output everywhere.",
            0.25,
            ("output", "past.output", "future.output"),
        ),
        Property(
            "the output goes through w_o",
            _linear_in_w_o,
            "With w_o doubled, the output must double: w_o is the last thing that it is multiplied by.",
            0.15,
            ("output", "doubled.output"),
        ),
    ),
    hints=(
        "Five steps: three products, cut into heads, attention as in lesson 03, put the heads together, one more "
        "product. Write the shape beside each.",
        "After the cut q, k and v are (B, H, T, D), and attention is the same as for one head: it works on the last "
        "two dimensions, scaled by the root of D = C // n_head, with -inf above the diagonal.",
        "q = (x @ w_q).view(B, T, n_head, D).transpose(1, 2), and so for k and v; weights = F.softmax(q @ "
        "k.transpose(-2, -1) / math.sqrt(D) + mask, dim=-1); (weights @ v).transpose(1, 2).reshape(B, T, C) @ w_o.",
    ),
)
