"""How well each query matches each key."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor

KERNELS = {
    "F.scaled_dot_product_attention": "which is the task itself",
    "nn.MultiheadAttention": "which has the task inside",
}


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(*leading: int, T: int, S: int, D: int) -> Case:
        return Case({"q": normal(rng, *leading, T, D), "k": normal(rng, *leading, S, D)})

    a, b, c, d, e = sizes(rng, 5)
    edges = [case(T=1, S=1, D=2), case(T=2, S=4, D=3), case(T=2, S=4, D=3), case(T=3, S=3, D=2)]
    return [*edges, case(a, T=b, S=c, D=d), case(d, e, T=c, S=b, D=a)]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(q: Any, k: Any) -> Any:
        return answer(q, k)

    inputs = copies(given)
    arrays = {"scores": tensor(call(**inputs))} | afterwards(inputs) | gradients(call, given, "q", "k")
    later = copies(given)
    later["q"][..., -1, :] += 1
    return arrays | {"changed.scores": tensor(call(**later))}


def _build(*, scale: str = "root d", order: str = "queries first", then: str = "nothing", writes: str = "no") -> Answer:
    def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        D, T, S = q.shape[-1], q.shape[-2], k.shape[-2]
        factor = {
            "root d": math.sqrt(D),
            "none": 1.0,
            "d": D,
            "times root d": 1 / math.sqrt(D),
            "root keys": math.sqrt(S),
            "root queries": math.sqrt(T),
        }[scale]
        q = q.div_(factor) if writes == "q" else q / factor
        product = q @ k.transpose(-2, -1)  # (…, T, S)
        product = product if order == "queries first" else product.transpose(-2, -1)
        return product.softmax(-1) if then == "softmax" else product

    return scores


def _by_sum(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) / math.sqrt(q.shape[-1])  # (…, T, S, D) -> (…, T, S)


def _scaled_first(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    root: float = q.shape[-1] ** 0.25
    return (q / root) @ (k / root).mT


def _by_rows(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return torch.stack([(k @ row.unsqueeze(-1)).squeeze(-1) / math.sqrt(k.size(-1)) for row in q.unbind(-2)], -2)


def _reversed_keys(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.permute(*reversed(range(k.dim()))) / math.sqrt(q.shape[-1])


def _is_multiple(case: Case, got: dict[str, torch.Tensor]) -> bool:
    q, k = case.given["q"], case.given["k"]
    assert isinstance(q, torch.Tensor)
    assert isinstance(k, torch.Tensor)
    products, seen = (q @ k.transpose(-2, -1)).flatten(), got["scores"].flatten()
    factor = float(products @ seen / (products @ products))
    return factor > 0 and bool(((seen - factor * products).abs() <= 1e-4 * max(1.0, factor)).all())


def _rows_are_separate(case: Case, got: dict[str, torch.Tensor]) -> bool:
    return bool(((got["changed.scores"] - got["scores"])[..., :-1, :].abs() <= 1e-5).all())


EXERCISE = Exercise(
    id="attention.scores",
    title="How well a query matches a key",
    minutes=5,
    points=2,
    signature="scores(q, k)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(
        lambda q, k: torch.einsum("...td,...sd->...ts", q, k) * q.size(-1) ** -0.5,
        _by_sum,
        _scaled_first,
        _by_rows,
    ),
    forbidden=KERNELS,
    misconceptions=(
        Misconception(
            "no scaling",
            "Your scores are the bare dot products. Their spread grows with D (its square root), and the softmax of "
            "large scores is almost one-hot, with almost no gradient: divide by the square root of D.",
            changes={"scale": "none"},
        ),
        Misconception(
            "divides by D",
            "You divide by D. A sum of D products of independent numbers has variance D, so its spread is the square "
            "root of D: divide by that.",
            changes={"scale": "d"},
        ),
        Misconception(
            "multiplies by the root",
            "You multiply by the square root of D where you should divide: the scores become larger with D instead of "
            "staying near 1.",
            changes={"scale": "times root d"},
        ),
        Misconception(
            "root of the number of keys",
            "You divide by the square root of S, the number of keys. The sum in a dot product runs over D, the last "
            "dimension of q and k; after the transpose, k's last dimension is S.",
            changes={"scale": "root keys"},
        ),
        Misconception(
            "root of the number of queries",
            "You divide by the square root of T, the number of queries. The sum in a dot product runs over D, the "
            "last dimension of q and k.",
            changes={"scale": "root queries"},
        ),
        Misconception(
            "keys first",
            "Your scores have keys as rows. A row belongs to a query, a column to a key, so the shape is (…, T, S): q "
            "comes first in the product, and k is the one that is transposed.",
            changes={"order": "keys first"},
        ),
        Misconception(
            "softmax already",
            "Your rows sum to one: you have taken the softmax already. Scores are what goes into the softmax; the "
            "mask still has to be added between the two.",
            changes={"then": "softmax"},
        ),
        Misconception(
            "writes into q",
            "The scores are right, but your function changed its input q: /= and div_ work in place. Whoever called "
            "you still needs q: write q / ... instead.",
            changes={"writes": "q"},
        ),
        Misconception(
            "reverses all dimensions",
            "k.T turns all dimensions round, the leading ones too; it is a transpose for matrices only. Exchange just "
            "the last two: k.transpose(-2, -1).",
            _reversed_keys,
        ),
    ),
    properties=(
        Property(
            "each entry is the dot product of its query and key, up to one factor",
            _is_multiple,
            "Entry [t, s] must come from the dot product of query t and key s.",
            0.25,
            ("scores",),
        ),
        Property(
            "a row depends on its own query only",
            _rows_are_separate,
            "Changing the last query must leave the rows of the others as they were.",
            0.25,
            ("scores", "changed.scores"),
        ),
    ),
    hints=(
        "One matrix product computes all T times S dot products. What must be turned so that (T, D) and (S, D) fit?",
        "Exchange the last two dimensions of k and leave the leading ones alone. Then ask which size the sum inside a "
        "dot product runs over: its square root is the divisor.",
        "q @ k.transpose(-2, -1) has shape (…, T, S); divide it by math.sqrt of q's last size.",
    ),
)
