"""Perplexity of several texts together."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, copies, number


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(n: int, note: str = "") -> Case:
        losses = [round(float(loss), 3) for loss in rng.uniform(0.3, 4, n)]
        return Case({"losses": losses, "lengths": rng.choice(np.arange(2, 60), n, replace=False).tolist()}, note)

    return [
        Case({"losses": [math.log(8)], "lengths": [5]}, "one text"),
        Case({"losses": [1.0, 3.0], "lengths": [30, 10]}),
        case(1, "one text"),
        *[case(n) for n in sizes(rng, 3, 2, 7)],
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"perplexity": number(answer(own["losses"], own["lengths"]))}


def _build(
    *, weights: str = "lengths", order: str = "mean first", base: float = math.e, power: int = 1, divide: bool = True
) -> Answer:
    def perplexity(losses: list[float], lengths: list[int]) -> float:
        share = lengths if weights == "lengths" else [1] * len(losses)
        total = sum(share) if divide else 1
        if order == "mean first":
            return float(base ** (power * sum(n * loss for n, loss in zip(share, losses, strict=True)) / total))
        return float(sum(n * base ** (power * loss) for n, loss in zip(share, losses, strict=True)) / total)

    return perplexity


def _mean_loss(losses: list[float], lengths: list[int]) -> float:
    return sum(n * loss for n, loss in zip(lengths, losses, strict=True)) / sum(lengths)


def _in_bits(losses: list[float], lengths: list[int]) -> float:
    return _mean_loss(losses, lengths) / math.log(2)


def _by_torch(losses: list[float], lengths: list[int]) -> torch.Tensor:
    loss, n = torch.tensor(losses), torch.tensor(lengths)
    return torch.exp((loss * n).sum() / n.sum())


def _by_numpy(losses: list[float], lengths: list[int]) -> Any:
    return np.exp(np.average(losses, weights=lengths))


def _by_tokens(losses: list[float], lengths: list[int]) -> float:
    each = [loss for loss, n in zip(losses, lengths, strict=True) for _ in range(n)]
    return math.exp(sum(each) / len(each))


def _right_for_one(case: Case, got: dict[str, Any]) -> bool:
    losses = case.given["losses"]
    assert isinstance(losses, list)
    return len(losses) > 1 or abs(float(got["perplexity"]) - math.exp(losses[0])) <= 1e-3


def _between(case: Case, got: dict[str, Any]) -> bool:
    losses = case.given["losses"]
    assert isinstance(losses, list)
    low, high = math.exp(min(losses)), math.exp(max(losses))
    return low * (1 - 1e-5) <= float(got["perplexity"]) <= high * (1 + 1e-5)


EXERCISE = Exercise(
    id="prediction.perplexity",
    title="As unsure as among how many",
    minutes=6,
    points=2,
    signature="perplexity(losses, lengths)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_torch, _by_numpy, _by_tokens),
    misconceptions=(
        Misconception(
            "every text counts the same",
            "You average the losses as if all texts were equally long. Each loss is a mean over its text's tokens, so "
            "it counts as often as the text has tokens.",
            changes={"weights": "equal"},
        ),
        Misconception(
            "mean of perplexities",
            "You average perplexities. The mean belongs before the exponential: average the losses, then take exp "
            "once; otherwise one hard text outweighs all others.",
            changes={"order": "exp first"},
        ),
        Misconception(
            "power of two",
            "You raise 2 to the loss. These losses are in nats, so the base is e; 2 belongs to losses in bits. The "
            "perplexity itself is the same in both units.",
            changes={"base": 2.0},
        ),
        Misconception(
            "sign",
            "Yours is 1 divided by the perplexity: the loss is positive already, so there is no minus in the exponent.",
            changes={"power": -1},
        ),
        Misconception(
            "sum, not mean",
            "You take exp of the whole sum, and it grows with the length of the texts. Perplexity is per token: divide "
            "by the number of tokens first.",
            changes={"divide": False},
        ),
        Misconception(
            "the loss itself",
            "This is the mean loss, in nats per token. Its exponential is the perplexity.",
            _mean_loss,
        ),
        Misconception(
            "bits per token",
            "This is the mean loss in bits per token. The perplexity is e to the loss in nats, or 2 to the loss in "
            "bits.",
            _in_bits,
        ),
    ),
    properties=(
        Property(
            "for one text it is e to its loss",
            _right_for_one,
            "With a single text, the perplexity must be e to its loss.",
            0.25,
            ("perplexity",),
        ),
        Property(
            "it lies between those of the texts",
            _between,
            "The perplexity of several texts must lie between the smallest and the largest of theirs.",
            0.25,
            ("perplexity",),
        ),
    ),
    hints=(
        "First find the mean loss over all tokens of all texts; the exponential comes last.",
        "A text of n tokens with mean loss l has the total loss n · l. Add up the totals, and divide by all tokens.",
        "math.exp(sum(n * loss for n, loss in zip(lengths, losses)) / sum(lengths)).",
    ),
)
