"""Attention, whole: scores, mask, softmax, mixture."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor, tensors

INF = math.inf
KERNELS = {
    "F.scaled_dot_product_attention": "which is the task itself",
    "nn.MultiheadAttention": "which has the task inside",
}


def _causal(T: int) -> torch.Tensor:
    return torch.full((T, T), -INF).triu(1)  # (T, T)


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(*leading: int, T: int, S: int, D: int, V: int, mask: torch.Tensor | None = None, note: str = "") -> Case:
        q, k, v = normal(rng, *leading, T, D), normal(rng, *leading, S, D), normal(rng, *leading, S, V)
        return Case({"q": q, "k": k, "v": v, "mask": mask}, note)

    a, b, c, d, e = sizes(rng, 5)
    # Whole numbers and D = 4 make these scores exact: no correct answer differs by rounding, and exp overflows.
    rows = torch.from_numpy(rng.permutation(3)).float()[:, None]  # (3, 1)
    large = {"q": rows * 10 + torch.zeros(3, 4), "k": torch.tensor([[7.0], [5.0], [6.0]]) + torch.zeros(3, 4)}
    padding = torch.zeros(d, 1, 1, b)  # (B, 1, 1, S)
    padding[::2, ..., -1] = -INF
    return [
        case(T=1, S=1, D=2, V=3),
        case(T=2, S=4, D=3, V=5, note="without a mask"),
        case(T=2, S=4, D=3, V=5, note="without a mask"),
        case(T=3, S=3, D=2, V=4, mask=_causal(3), note="with a causal mask"),
        Case({**large, "v": normal(rng, 3, 2), "mask": _causal(3)}, "with large scores and a causal mask"),
        case(T=3, S=4, D=2, V=5, mask=normal(rng, 3, 4).abs(), note="with a mask of finite numbers"),
        case(a, T=b, S=b, D=c, V=d, mask=_causal(b), note="with a causal mask"),
        case(
            d,
            e,
            T=c,
            S=b,
            D=a,
            V=b + 1,
            mask=padding,
            note="with a mask that hides the last key of every other sequence",
        ),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(**inputs: Any) -> Any:
        q, k, v, mask = inputs["q"], inputs["k"], inputs["v"], inputs["mask"]
        return answer(q, k, v) if mask is None else answer(q, k, v, mask)

    def output(**inputs: Any) -> Any:
        result = call(**inputs)
        return result[0] if isinstance(result, tuple | list) else None

    inputs = copies(given)
    arrays = tensors(call(**inputs), "output", "weights") | afterwards(inputs)
    arrays |= gradients(output, given, "q", "k", "v")
    later = copies(given)
    later["k"][..., -1, :] += 1
    later["v"][..., -1, :] -= 3
    return arrays | {"future.output": tensor(output(**later))}


def _build(
    *,
    scale: str = "root d",
    mask_goes: str = "before",
    softmax: str = "keys",
    mixes: str = "weights",
    returns: str = "both",
) -> Answer:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        D = q.shape[-1]
        scores = q @ k.transpose(-2, -1) / {"root d": math.sqrt(D), "none": 1.0, "d": D}[scale]  # (…, T, S)
        if mask_goes == "always causal":
            scores = scores + torch.full(scores.shape[-2:], -INF).triu(1)
        elif mask is not None or mask_goes == "always":
            scores = _masked(scores, mask, mask_goes, D)
        weights = _softmax(scores, softmax)  # (…, T, S)
        if mask is not None and mask_goes == "zeroes after":
            weights = weights.masked_fill(mask == -INF, 0)
        if mask is not None and mask_goes == "zeroes all others after":
            weights = weights.masked_fill(mask != 0, 0)
        if mask is not None and mask_goes == "added after":
            weights = weights + mask
        output = (weights if mixes == "weights" else scores) @ v  # (…, T, Dv)
        return {"both": (output, weights), "output": output, "swapped": (weights, output)}[returns]

    return attend


def _masked(scores: torch.Tensor, mask: Any, goes: str, D: int) -> Any:
    # None may come in as the mask, and then fails as a learner's does.
    if goes == "before the division":
        return scores + mask / math.sqrt(D)
    if goes in ("before", "always"):
        return scores + mask
    if goes == "multiplied":
        return scores * mask
    if goes == "zero is forbidden":
        return scores.masked_fill(mask == 0, -INF)
    if goes == "only zero is allowed":
        return scores.masked_fill(mask != 0, -INF)
    if goes == "only infinities":
        return scores.masked_fill(mask == -INF, -INF)
    return scores


def _softmax(scores: torch.Tensor, way: str) -> torch.Tensor:
    if way == "keys":
        return scores.softmax(-1)
    if way == "queries":
        return scores.softmax(-2)
    if way == "dimension 1":
        return scores.softmax(1)
    powers = scores.exp()
    return powers if way == "not normalised" else powers / powers.sum(-1, keepdim=True)


def _tril_after(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> Any:
    weights = F.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1).tril()
    return weights @ v, weights


def _sum_to_one(case: Case, got: dict[str, torch.Tensor]) -> bool:
    weights = got["weights"]
    return bool((weights >= 0).all()) and bool(((weights.sum(-1) - 1).abs() <= 1e-5).all())


def _zero_where_hidden(case: Case, got: dict[str, torch.Tensor]) -> bool:
    mask = case.given["mask"]
    if not isinstance(mask, torch.Tensor):
        return True
    return bool((got["weights"][mask.expand_as(got["weights"]) == -INF] == 0).all())


def _future_unseen(case: Case, got: dict[str, torch.Tensor]) -> bool:
    mask, change = case.given["mask"], got["future.output"] - got["output"]  # (…, T, Dv)
    if not isinstance(mask, torch.Tensor):
        return True
    hidden = (mask[..., -1:] == -INF).expand_as(change)  # rows that may not see the last key
    return bool((change[hidden].abs() <= 1e-5).all())


def _output_is_mixture(case: Case, got: dict[str, torch.Tensor]) -> bool:
    v = case.given["v"]
    assert isinstance(v, torch.Tensor)
    return bool(((got["weights"] @ v - got["output"]).abs() <= 1e-4).all())


def _by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> Any:
    scores = torch.einsum("...td,...sd->...ts", q, k) / q.shape[-1] ** 0.5 + (0.0 if mask is None else mask)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return [powers @ v / powers.sum(-1, keepdim=True), powers / powers.sum(-1, keepdim=True)]


def _by_kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> Any:
    weights = F.scaled_dot_product_attention(q, k, torch.eye(k.shape[-2]), attn_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), weights


def _by_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> Any:
    T, S = q.shape[-2], k.shape[-2]
    full = torch.zeros(*q.shape[:-2], T, S) if mask is None else mask.expand(*q.shape[:-2], T, S)
    rows = [
        F.softmax((q[..., t : t + 1, :] * k).sum(-1) / math.sqrt(q.shape[-1]) + full[..., t, :], dim=-1)
        for t in range(T)
    ]
    weights = torch.stack(rows, dim=-2)  # (…, T, S)
    return weights @ v, weights


EXERCISE = Exercise(
    id="attention.attend",
    title="Attention, whole",
    minutes=12,
    points=4,
    signature="attend(q, k, v, mask=None)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_hand, _by_kernel, _by_rows),
    forbidden=KERNELS,
    misconceptions=(
        Misconception(
            "no scaling",
            "Your scores are not divided by the square root of D, so the softmax is sharper than it should be.",
            changes={"scale": "none"},
        ),
        Misconception(
            "divides by D",
            "You divide the scores by D; the divisor is its square root.",
            changes={"scale": "d"},
        ),
        Misconception(
            "softmax over queries",
            "Your softmax runs over the queries (dim=-2), so the columns sum to one. Each query shares out its own "
            "attention over the keys: dim=-1.",
            changes={"softmax": "queries"},
        ),
        Misconception(
            "softmax over dimension 1",
            "Your softmax runs over dimension 1, which is the keys only when there are no leading dimensions. Count "
            "from the end: dim=-1.",
            changes={"softmax": "dimension 1"},
        ),
        Misconception(
            "not normalised",
            "Your weights are exp(scores), not divided by their sum over the keys: the rows do not sum to one.",
            changes={"softmax": "not normalised"},
        ),
        Misconception(
            "exp overflows",
            "Your softmax overflows: exp of a score above 88 is infinite in float32, and inf / inf is NaN. "
            "torch.softmax subtracts each row's maximum first, which changes nothing but the overflow.",
            changes={"softmax": "unstable"},
        ),
        Misconception(
            "mask ignored",
            "Your function takes the mask and does not use it: every position sees the future.",
            changes={"mask_goes": "ignored"},
        ),
        Misconception(
            "mask after the softmax",
            "You zero the weights after the softmax. By then the future has been part of each row's sum: the rows no "
            "longer sum to one, and what is left of them depends on what was hidden. Add the mask to the scores, "
            "before.",
            changes={"mask_goes": "zeroes after"},
            also=(_build(mask_goes="zeroes all others after"), _tril_after),
        ),
        Misconception(
            "mask added to the weights",
            "You add the mask to the weights, after the softmax, and get weights of -inf. Add it to the scores, "
            "before.",
            changes={"mask_goes": "added after"},
        ),
        Misconception(
            "mask multiplied",
            "You multiply the scores by the mask. Its 0 means allowed, and -inf forbidden: it is made to be added.",
            changes={"mask_goes": "multiplied"},
        ),
        Misconception(
            "zero taken for forbidden",
            "You forbid where the mask is 0. In this mask 0 means allowed and -inf forbidden, so just add it to the "
            "scores.",
            changes={"mask_goes": "zero is forbidden"},
        ),
        Misconception(
            "mask read as yes or no",
            "You use only where the mask is -inf. Its finite numbers count as well (that is how some models favour "
            "near positions): add the mask to the scores.",
            changes={"mask_goes": "only infinities"},
            also=(_build(mask_goes="only zero is allowed"),),
        ),
        Misconception(
            "mask before the division",
            "You divide by the square root of D after adding the mask, so that the mask's finite numbers are divided "
            "too. Divide the products first, then add.",
            changes={"mask_goes": "before the division"},
        ),
        Misconception(
            "always causal",
            "You hide the future with a mask of your own, whatever you are given. Which keys may be seen is for the "
            "caller to say: use `mask`, and hide nothing when it is None.",
            changes={"mask_goes": "always causal"},
        ),
        Misconception(
            "fails without a mask",
            "Your function fails when there is no mask: mask=None means that everything may be seen, and None cannot "
            "be added to a tensor.",
            changes={"mask_goes": "always"},
        ),
        Misconception(
            "mixes with scores",
            "Your output multiplies v by the scores. The values are mixed by the weights, that is after the softmax.",
            changes={"mixes": "scores"},
        ),
        Misconception(
            "returns the output alone",
            "Your function returns one tensor; both are wanted, (output, weights), in this order.",
            changes={"returns": "output"},
        ),
        Misconception(
            "returns them in the other order",
            "Your function returns (weights, output); the order is (output, weights).",
            changes={"returns": "swapped"},
        ),
    ),
    properties=(
        Property(
            "each row of weights sums to one",
            _sum_to_one,
            "The weights of one query must be at least 0 and sum to one over the keys.",
            0.15,
            ("weights",),
        ),
        Property(
            "the weight is 0 where the mask is -inf",
            _zero_where_hidden,
            "Where the mask is -inf, the weight must be exactly 0.",
            0.1,
            ("weights",),
        ),
        Property(
            "what is hidden changes nothing",
            _future_unseen,
            "Changing a key and value that the mask hides must leave the output as it was.",
            0.15,
            ("output", "future.output"),
        ),
        Property(
            "the output is the weights times v",
            _output_is_mixture,
            "The output must be the product of the weights that you return and v.",
            0.1,
            ("output", "weights"),
        ),
    ),
    hints=(
        "Four steps, each one line: scores, mask, softmax, mixture. Write the shape beside each: only the last one "
        "has Dv in it.",
        "The mask is added to the scores, before the softmax, and only when there is one. The softmax runs over the "
        "keys, the last dimension.",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(D); if a mask is given, scores = scores + mask; weights = "
        "F.softmax(scores, dim=-1); return weights @ v and the weights.",
    ),
)
