"""Keep the fewest tokens that together reach a probability."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def of(rows: list[list[float]], p: float, note: str = "") -> Case:
        return Case({"logits": torch.tensor(rows).log(), "p": p}, note)

    def case(B: int, V: int, p: float) -> Case:
        while True:  # no sum may come so near to p that rounding decides
            logits = 1.5 * normal(rng, B, V)
            sums = logits.softmax(-1).sort(-1, descending=True).values.cumsum(-1)  # (B, V)
            if (sums - p).abs().min() > 0.01 and (sums.diff() > 1e-4).all():
                return Case({"logits": logits, "p": p})

    a, b, c, d = sizes(rng, 4, 4, 8)
    ruled_out = torch.tensor([[0.3, 0.0, 0.5, 0.2]]).log() + 2
    return [
        of([[0.5, 0.2, 0.25, 0.05]], 0.9, "the example"),
        of([[0.1, 0.6, 0.08, 0.22], [0.35, 0.26, 0.24, 0.15]], 0.7),
        of([[0.1, 0.6, 0.08, 0.22]], 0.3, "the largest alone is more than p"),
        of([[0.15, 0.4, 0.1, 0.35]], 0.01, "p is tiny"),
        of([[0.15, 0.4, 0.1, 0.35]], 0.97, "all are needed"),
        Case({"logits": ruled_out, "p": 0.75}, "one token is ruled out already: its logit is -inf"),
        case(a, b, 0.6),
        case(c, d, 0.85),
        case(d, a, 0.5),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"filtered": tensor(answer(own["logits"], own["p"]))} | afterwards(own)


def _build(
    *,
    until: str = "reached",
    descending: bool = True,
    places: str = "back",
    fill: float = -math.inf,
    sums: str = "probabilities",
    gives: str = "logits",
) -> Answer:
    def top_p(logits: torch.Tensor, p: float) -> torch.Tensor:
        ordered, ids = logits.sort(dim=-1, descending=descending, stable=True)  # (B, V)
        shares = logits.softmax(-1).gather(-1, ids) if sums == "probabilities" else ordered
        total = shares.cumsum(-1)
        before = total - shares
        one = torch.arange(logits.shape[-1]) == 0
        kept = {
            "reached": (before < p - 1e-6) | one,
            "below": total <= p + 1e-6,
            "below, but one": (total <= p + 1e-6) | one,
            "one more": torch.cat([one[:1].expand(len(logits), 1), before[:, :-1] < p], dim=-1),
        }[until]
        if places == "back":
            kept = torch.zeros_like(kept).scatter(-1, ids, kept)
            filtered = logits.masked_fill(~kept, fill)
        elif places == "gathered":
            filtered = logits.masked_fill(~kept.gather(-1, ids), fill)
        elif places == "sorted":
            filtered = ordered.masked_fill(~kept, fill)
        else:
            filtered = logits.masked_fill(~kept, fill)
        if gives == "probabilities":
            return filtered.softmax(-1)
        return logits.softmax(-1) * filtered.isfinite() if gives == "not renormalised" else filtered

    return top_p


def _each_at_least_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    return logits.masked_fill(logits.softmax(-1) < p, -math.inf)


def _min_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    shares = logits.softmax(-1)
    return logits.masked_fill(shares < p * shares.amax(-1, keepdim=True), -math.inf)


def _unsorted(logits: torch.Tensor, p: float) -> torch.Tensor:
    shares = logits.softmax(-1)
    return logits.masked_fill(shares.cumsum(-1) - shares >= p, -math.inf)


def _drops_the_nucleus(logits: torch.Tensor, p: float) -> torch.Tensor:
    return logits.masked_fill(_build()(logits, p).isfinite(), -math.inf)


def _in_place(logits: torch.Tensor, p: float) -> torch.Tensor:
    return logits.masked_fill_(~_build()(logits, p).isfinite(), -math.inf)


def _by_loops(logits: torch.Tensor, p: float) -> torch.Tensor:
    filtered = torch.full_like(logits, -math.inf)
    for b, row in enumerate(logits.softmax(-1).tolist()):
        total = 0.0
        for i in sorted(range(len(row)), key=lambda i: -row[i]):
            filtered[b, i] = logits[b, i]
            total += row[i]
            if total >= p:
                break
    return filtered


def _by_shifting(logits: torch.Tensor, p: float) -> torch.Tensor:
    shares, ids = torch.sort(torch.softmax(logits, dim=-1), descending=True)
    drop = torch.cumsum(shares, dim=-1) > p
    drop[:, 1:] = drop[:, :-1].clone()  # the one that crosses stays
    drop[:, 0] = False
    return logits.masked_fill(drop.scatter(1, ids, drop), float("-inf"))


def _by_pairs(logits: torch.Tensor, p: float) -> torch.Tensor:
    shares = logits.softmax(-1)  # (B, V)
    larger = (shares[:, None, :] > shares[:, :, None]).float()  # (B, V, V)
    before = (larger @ shares[:, :, None])[..., 0]  # (B, V): what stands ahead of each
    return torch.where(before < p, logits, -math.inf)


def _by_smallest_first(logits: torch.Tensor, p: float) -> torch.Tensor:
    ordered, ids = logits.sort(dim=-1)
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - p  # what the smallest may hold together
    drop[:, -1] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, ids, drop), -math.inf)


def _enough_is_left(case: Case, got: dict[str, Any]) -> bool:
    logits, p, filtered = case.given["logits"], case.given["p"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(p, float)
    left = (logits.softmax(-1) * filtered.isfinite()).sum(-1)
    return bool((left >= p - 1e-5).all()) and not filtered.isnan().any()


def _none_too_many(case: Case, got: dict[str, Any]) -> bool:
    logits, p, filtered = case.given["logits"], case.given["p"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(p, float)
    kept = filtered.isfinite()
    shares = logits.softmax(-1) * kept
    least = shares.masked_fill(~kept, math.inf).amin(-1)
    return bool(kept.any(-1).all()) and bool((shares.sum(-1) - least < p + 1e-5).all())


def _the_most_probable(case: Case, got: dict[str, Any]) -> bool:
    logits, filtered = case.given["logits"], got["filtered"]
    assert isinstance(logits, torch.Tensor)
    kept = filtered.isfinite()
    least = logits.masked_fill(~kept, math.inf).amin(-1)
    most = logits.masked_fill(kept, -math.inf).amax(-1)
    return bool(kept.any(-1).all()) and bool((least > most).all()) and bool((filtered == logits)[kept].all())


EXERCISE = Exercise(
    id="sampling.top_p",
    title="The fewest that reach p",
    minutes=12,
    points=3,
    signature="top_p(logits, p)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loops, _by_shifting, _by_pairs, _by_smallest_first),
    misconceptions=(
        Misconception(
            "drops the one that crosses",
            "You keep tokens as long as their sum is below p. The token with which the sum reaches p belongs to them: "
            "without it the rest is less than p, and where the largest alone is more than p you keep none at all.",
            changes={"until": "below"},
        ),
        Misconception(
            "drops the one that crosses, but keeps the first",
            "You keep the first token and then those whose sum stays below p. The token with which the sum reaches p "
            "is missing: drop a token when the sum of those *before* it has reached p.",
            changes={"until": "below, but one"},
        ),
        Misconception(
            "one too many",
            "You keep one token more than is needed: when a token has brought the sum to p, it is the last one.",
            changes={"until": "one more"},
        ),
        Misconception(
            "the least probable first",
            "You add up from the least probable token on, so that the tail is kept and the best tokens go. Sort with "
            "descending=True.",
            changes={"descending": False},
        ),
        Misconception(
            "the mask stays in sorted order",
            "You decide in sorted order and apply the decision in the order of ids, so that the wrong tokens go. Bring "
            "it back to the ids' order first: mask.scatter(-1, ids, mask).",
            changes={"places": "mask in sorted order"},
        ),
        Misconception(
            "the mask gathered",
            "You bring the mask back with gather, which reads at ids[i] what belongs to place i. It is to be written "
            "there: mask.scatter(-1, ids, mask).",
            changes={"places": "gathered"},
        ),
        Misconception(
            "in sorted order",
            "Your logits come back sorted, and which token each belongs to is lost. Every kept logit must stay in its "
            "place.",
            changes={"places": "sorted"},
        ),
        Misconception(
            "sums of logits",
            "You add up the sorted logits. p is a probability: take the softmax first, and add up that.",
            changes={"sums": "logits"},
        ),
        Misconception(
            "not sorted",
            "You add up in the order of ids, which says nothing about how probable a token is. Sort by probability "
            "first.",
            _unsorted,
        ),
        Misconception(
            "each at least p",
            "You keep the tokens that have a probability of p each. It is their sum that must reach p.",
            _each_at_least_p,
        ),
        Misconception(
            "min-p",
            "You keep the tokens with at least p times the largest probability: that is min-p. Top-p adds up the "
            "probabilities from the largest on, until the sum reaches p.",
            _min_p,
        ),
        Misconception(
            "drops the best",
            "You drop the tokens that reach p together and keep the others. It is the other way round.",
            _drops_the_nucleus,
        ),
        Misconception(
            "fills with zeros",
            "You put 0 where a token is dropped. 0 is an ordinary logit, and beside logits below 0 the best one. Only "
            "-inf becomes a probability of exactly 0.",
            changes={"fill": 0.0},
        ),
        Misconception(
            "fills with a finite number",
            "You put a finite number where a token is dropped. A softmax makes something of every finite number; only "
            "-inf becomes exactly 0.",
            changes={"fill": -1e9},
            also=tuple(
                _build(fill=number)
                for number in (-10.0, -100.0, -1e3, -1e4, -1e6, -1e8, -1e10, torch.finfo(torch.float32).min)
            ),
        ),
        Misconception(
            "probabilities",
            "You return probabilities. A filter turns logits into logits, so that another filter, or the draw, can "
            "follow.",
            changes={"gives": "probabilities"},
            also=(_build(gives="not renormalised"),),
        ),
        Misconception(
            "changes the input",
            "The result is right, but you write into the logits that you were given, and whoever gave them still needs "
            "them. Work on a copy: masked_fill makes one, masked_fill_ does not.",
            _in_place,
        ),
    ),
    properties=(
        Property(
            "what is left reaches p",
            _enough_is_left,
            "The tokens that are left must have a probability of at least p together, by the softmax of the logits.",
            0.2,
            ("filtered",),
        ),
        Property(
            "no more than is needed",
            _none_too_many,
            "Without the least probable of those that are left, the rest must be less than p; and one must be left.",
            0.2,
            ("filtered",),
        ),
        Property(
            "the most probable ones stay",
            _the_most_probable,
            "Every token that is left must be more probable than every one that is dropped, and keep its logit.",
            0.15,
            ("filtered",),
        ),
    ),
    hints=(
        "Sort by probability, the largest first, and add up. Which tokens are needed to get to p?",
        "A token goes when the sum of those before it, without itself, has reached p already; the first one has "
        "nothing before it and always stays. Then bring the decision back into the order of ids.",
        "ordered, ids = logits.sort(dim=-1, descending=True); q = ordered.softmax(-1); drop = q.cumsum(-1) - q >= p; "
        "return logits.masked_fill(drop.scatter(-1, ids, drop), -math.inf).",
    ),
)
