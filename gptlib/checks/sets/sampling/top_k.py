"""Keep the k largest logits, and rule the others out."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(logits: Any, k: int, note: str = "") -> Case:
        return Case({"logits": torch.as_tensor(logits), "k": k}, note)

    a, b, c, d = sizes(rng, 4, 4, 9)
    low = -12 + normal(rng, 2, 5)
    return [
        case([[1.0, 4.0, 3.0, 2.0]], 2),
        case([[0.5, -1.0, 2.0, 1.0, -3.0], [9.0, 7.0, 8.0, 5.0, 6.0]], 2),
        case([[1.0, 3.0, 2.0], [-1.0, -5.0, -2.0]], 1, "k = 1"),
        case([[1.0, 3.0, 2.0], [-1.0, -5.0, -2.0]], 3, "k = V"),
        case([[1.0, 3.0, 2.0], [-1.0, -5.0, -2.0]], 7, "k is larger than V"),
        case([[0.5, -math.inf, 1.0, 2.0, -1.0]], 3, "one token is ruled out already"),
        case(low, 2, "all logits are far below 0"),
        case(3 * normal(rng, a, b), 3),
        case(3 * normal(rng, c, d), 2),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"filtered": tensor(answer(own["logits"], own["k"]))} | afterwards(own)


def _build(
    *,
    fill: float = -math.inf,
    which: str = "largest",
    by: str = "row",
    more: int = 0,
    largest: bool = True,
    gives: str = "logits",
) -> Answer:
    def top_k(logits: torch.Tensor, k: int) -> torch.Tensor:
        V = logits.shape[-1]
        scores = logits if largest else -logits
        keep = min(max(k + more, 0), V)
        if by == "row":
            order = scores.argsort(dim=-1, descending=True, stable=True)  # (B, V)
            kept = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order[:, :keep], True)
        elif by == "first row":
            order = scores[:1].argsort(dim=-1, descending=True, stable=True).expand(len(logits), -1)
            kept = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order[:, :keep], True)
        else:
            flat = scores.flatten()
            order = flat.argsort(descending=True, stable=True)
            kept = torch.zeros_like(flat, dtype=torch.bool).scatter(0, order[:keep], True).view_as(logits)
        kept = kept if which == "largest" else ~kept
        filtered = logits.masked_fill(~kept, fill)
        return filtered.softmax(-1) if gives == "probabilities" else filtered

    return top_k


def _values_only(logits: torch.Tensor, k: int) -> torch.Tensor:
    return logits.topk(min(k, logits.size(-1))).values


def _ids_only(logits: torch.Tensor, k: int) -> torch.Tensor:
    return logits.topk(min(k, logits.size(-1))).indices


def _sorted(logits: torch.Tensor, k: int) -> torch.Tensor:
    ordered = logits.sort(dim=-1, descending=True).values
    ordered[:, k:] = -math.inf
    return ordered


def _places(logits: torch.Tensor, k: int) -> torch.Tensor:
    kept = torch.arange(logits.size(1)) < k
    return logits.masked_fill(~kept, -math.inf)


def _in_place(logits: torch.Tensor, k: int) -> torch.Tensor:
    kth = logits.topk(min(k, logits.size(-1))).values[:, -1:]
    return logits.masked_fill_(logits < kth, -math.inf)


def _too_large_k(logits: torch.Tensor, k: int) -> torch.Tensor:
    kth = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def _above_the_kth(logits: torch.Tensor, k: int) -> torch.Tensor:
    kth = logits.topk(min(k, logits.size(-1))).values[:, -1:]
    return logits.masked_fill(logits <= kth, -math.inf)


def _by_threshold(logits: torch.Tensor, k: int) -> torch.Tensor:
    kth = torch.topk(logits, min(k, logits.size(-1))).values[..., -1:]  # (B, 1)
    return torch.where(logits < kth, torch.full_like(logits, -math.inf), logits)


def _by_scatter(logits: torch.Tensor, k: int) -> torch.Tensor:
    values, ids = torch.topk(logits, min(k, logits.size(-1)))
    return torch.full_like(logits, float("-inf")).scatter(-1, ids, values)


def _by_ranks(logits: torch.Tensor, k: int) -> torch.Tensor:
    rank = (logits[:, None, :] > logits[:, :, None]).sum(-1)  # (B, V): how many are larger
    return logits.masked_fill(rank >= k, -torch.inf)


def _by_loops(logits: torch.Tensor, k: int) -> torch.Tensor:
    rows = []
    for row in logits.tolist():
        least = sorted(row, reverse=True)[:k][-1]
        rows.append([score if score >= least else -math.inf for score in row])
    return torch.tensor(rows)


def _as_many_as_k(case: Case, got: dict[str, Any]) -> bool:
    logits, k, filtered = case.given["logits"], case.given["k"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(k, int)
    wanted = logits.isfinite().sum(-1).clamp(max=k)
    return bool((filtered.isfinite().sum(-1) == wanted).all())


def _kept_as_they_were(case: Case, got: dict[str, Any]) -> bool:
    logits, filtered = case.given["logits"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    kept = filtered.isfinite()
    return bool((filtered == logits)[kept].all()) and bool(kept.any(-1).all())


def _largest_stay(case: Case, got: dict[str, Any]) -> bool:
    logits, filtered = case.given["logits"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    there = filtered.gather(-1, logits.argmax(-1, keepdim=True))
    p = filtered.softmax(-1)
    return bool(there.isfinite().all()) and bool((p.argmax(-1) == logits.argmax(-1)).all())


EXERCISE = Exercise(
    id="sampling.top_k",
    title="Only the k best",
    minutes=7,
    points=2,
    signature="top_k(logits, k)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_threshold, _by_scatter, _by_ranks, _by_loops),
    misconceptions=(
        Misconception(
            "fills with zeros",
            "You put 0 where a token is dropped. 0 is an ordinary logit: beside logits below 0 it is the best one, and "
            "the dropped tokens win. Only -inf becomes a probability of exactly 0.",
            changes={"fill": 0.0},
            also=(_build(fill=-0.0),),
        ),
        Misconception(
            "fills with a finite number",
            "You put a finite number where a token is dropped. A softmax makes something of every finite number, and "
            "it can be far from nothing when the other logits are low too or the temperature is high. -inf is safe: it "
            "becomes exactly 0.",
            changes={"fill": -1e9},
            also=tuple(
                _build(fill=number)
                for number in (-1.0, -10.0, -100.0, -1e3, -1e4, -1e5, -1e6, -1e8, -1e10, torch.finfo(torch.float32).min)
            ),
        ),
        Misconception(
            "drops the k best",
            "You drop the k largest and keep the others. It is the other way round.",
            changes={"which": "others"},
        ),
        Misconception(
            "keeps the smallest",
            "You keep the k smallest logits. Sorting goes upwards unless you say descending=True.",
            changes={"largest": False},
        ),
        Misconception(
            "one too many",
            "You keep k + 1 tokens. Sorted from the largest on, number k from 0 is the first to go.",
            changes={"more": 1},
        ),
        Misconception(
            "one too few",
            "You keep k - 1 tokens: is the k-th largest compared with > or <= where it should stay?",
            changes={"more": -1},
            also=(_above_the_kth,),
        ),
        Misconception(
            "k of the whole batch",
            "You keep k logits of the whole batch. Each row is a text of its own and keeps its own k best.",
            changes={"by": "batch"},
        ),
        Misconception(
            "the first row decides",
            "You keep, in all rows, the tokens that are best in the first one. Each row has its own k best.",
            changes={"by": "first row"},
        ),
        Misconception(
            "the first k ids",
            "You keep the first k columns. Columns are token ids, in no order of size: find the largest logits.",
            _places,
        ),
        Misconception(
            "values only",
            "You return the k values alone, and which tokens they belong to is lost. The result has the shape of the "
            "logits, with -inf in all other places.",
            _values_only,
        ),
        Misconception(
            "ids only",
            "You return the ids of the k best. The result has the shape of the logits: each of the k best stays in its "
            "place, and -inf stands in all others.",
            _ids_only,
        ),
        Misconception(
            "in sorted order",
            "Your logits are sorted, and which token each belongs to is lost. Every kept logit must stay in its place; "
            "compare the original logits with the k-th largest, or scatter the sorted ones back.",
            _sorted,
        ),
        Misconception(
            "probabilities",
            "You return probabilities. A filter turns logits into logits, so that another filter can follow.",
            changes={"gives": "probabilities"},
        ),
        Misconception(
            "k larger than V",
            "With k larger than the vocabulary your function raises an error. There is nothing to drop then: use "
            "min(k, V).",
            lambda logits, k: _too_large_k(logits, k),
        ),
        Misconception(
            "changes the input",
            "The result is right, but you write into the logits that you were given, and whoever gave them still needs "
            "them. Work on a copy: masked_fill and torch.where make one, masked_fill_ and `logits[…] = …` do not.",
            _in_place,
        ),
    ),
    properties=(
        Property(
            "k are left",
            _as_many_as_k,
            "In each row k logits must be left (or V, if k is larger), and all others must be -inf.",
            0.2,
            ("filtered",),
        ),
        Property(
            "what is kept is unchanged",
            _kept_as_they_were,
            "A logit that is kept keeps its value and its place.",
            0.15,
            ("filtered",),
        ),
        Property(
            "the best one stays the best",
            _largest_stay,
            "In each row the largest logit must be kept, and stay the largest.",
            0.15,
            ("filtered",),
        ),
    ),
    hints=(
        "Find the k-th largest logit of each row. Everything below it goes.",
        "torch.topk gives the k largest of each row, sorted; the last of them is the bound. Keep its dimension, so "
        "that it is compared row by row, and mind k larger than V.",
        "kth = logits.topk(min(k, logits.size(-1))).values[:, -1:]; return logits.masked_fill(logits < kth, "
        "-math.inf).",
    ),
)
