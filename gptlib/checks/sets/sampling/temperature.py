"""Logits to probabilities, sharpened or flattened."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(logits: Any, temperature: float, note: str = "") -> Case:
        return Case({"logits": torch.as_tensor(logits), "temperature": temperature}, note)

    a, b, c, d = sizes(rng, 4, 3, 8)
    tied = torch.tensor([[1.0, 3.0, 0.5, 3.0], [2.0, -1.0, 2.0, 0.0]])
    return [
        case([[2.0, 1.0, 0.0], [0.0, 0.5, 3.0]], 2.0),
        case([[2.0, 1.0, 0.0], [0.0, 0.5, 3.0]], 0.5),
        case([[1.0, 3.0, -2.0, 0.0]], 0.0, "temperature 0"),
        case(tied, 0.0, "temperature 0, and two logits are equal"),
        # Whole numbers and a power of two: no correct answer differs by rounding.
        case([[300.0, 304.0, 100.0], [0.0, -50.0, -52.0]], 4.0, "with large logits"),
        case([[2.0, 2.0078125, 1.5]], 0.0078125, "a temperature near 0"),
        case([[0.5, -math.inf, 1.0, 2.0]], 1.5, "one token is ruled out: its logit is -inf"),
        case(2 * normal(rng, a, b), 0.7),
        case(2 * normal(rng, c, d), 1.3),
        case(2 * normal(rng, d, a), 0.0, "temperature 0"),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, moved = copies(given), copies(given)
    moved["logits"] += 1
    found = {"p": tensor(answer(own["logits"], own["temperature"]))} | afterwards(own)
    return found | {"moved.p": tensor(answer(moved["logits"], moved["temperature"]))}


def _build(
    *, scale: str = "divide", zero: str = "argmax", dim: int = -1, stable: bool = True, gives: str = "probabilities"
) -> Answer:
    def temperature(logits: torch.Tensor, temperature: float) -> torch.Tensor:
        if temperature == 0 and zero == "argmax":
            p = torch.zeros_like(logits).scatter(dim, logits.argmax(dim, keepdim=True), 1.0)
        elif temperature == 0 and zero in ("shared", "a 1 for each"):
            p = (logits == logits.amax(dim, keepdim=True)).float()
            p = p / p.sum(dim, keepdim=True) if zero == "shared" else p
        elif temperature == 0 and zero == "uniform":
            p = torch.full_like(logits, 1 / logits.shape[dim])
        elif temperature == 0 and zero == "left out":
            p = logits.softmax(dim)
        else:
            factor = temperature if scale == "multiply" else 1.0
            scaled = logits / temperature if scale == "divide" else logits * factor
            p = scaled.softmax(dim) if stable else scaled.exp() / scaled.exp().sum(dim, keepdim=True)
            if scale == "probabilities":
                p = p / temperature
        return p.log() if gives == "logarithms" else p

    return temperature


def _renormalised(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    p = logits.softmax(-1) / temperature
    return p / p.sum(-1, keepdim=True)


def _power(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    p = logits.softmax(-1) ** temperature
    return p / p.sum(-1, keepdim=True)


def _by_epsilon(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return (logits / max(temperature, 1e-6)).softmax(-1)


def _index_at_zero(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return logits.argmax(-1) if temperature == 0 else (logits / temperature).softmax(-1)


def _scaled_logits(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return torch.full_like(logits, -math.inf).scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
    return logits / temperature


def _by_one_hot(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.size(-1)).float()
    shifted = (logits - logits.max(dim=-1, keepdim=True).values) / temperature
    return shifted.exp() / shifted.exp().sum(dim=-1, keepdim=True)


def _by_loops(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    rows = []
    for row in logits.tolist():
        if temperature == 0:
            weights = [float(i == row.index(max(row))) for i in range(len(row))]
        else:
            weights = [math.exp((score - max(row)) / temperature) for score in row]
        rows.append([weight / sum(weights) for weight in weights])
    return torch.tensor(rows)


def _by_logsumexp(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return (torch.arange(logits.size(1)) == logits.argmax(dim=1, keepdim=True)).to(torch.float32)
    scaled = logits / temperature
    return torch.exp(scaled - torch.logsumexp(scaled, dim=1, keepdim=True))


def _rows_sum_to_one(case: Case, got: dict[str, Any]) -> bool:
    p = got["p"]
    return bool((p >= 0).all()) and bool(((p.sum(-1) - 1).abs() <= 1e-5).all())


def _sharper_when_cold(case: Case, got: dict[str, Any]) -> bool:
    logits, temperature = case.given["logits"], case.given["temperature"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(temperature, float)
    before, after = logits.softmax(-1).amax(-1), got["p"].amax(-1)
    there = ((got["p"] <= 1 + 1e-6) & (got["p"] >= 0)).all()
    return bool(there) and bool(((after >= before - 1e-6) if temperature <= 1 else (after <= before + 1e-6)).all())


EXERCISE = Exercise(
    id="sampling.temperature",
    title="Sharper or flatter",
    minutes=6,
    points=2,
    signature="temperature(logits, temperature)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_one_hot, _by_loops, _by_logsumexp),
    misconceptions=(
        Misconception(
            "divides by zero",
            "At temperature 0 you divide by 0, and what comes out is NaN. Temperature 0 is a name for greedy choice: "
            "give the largest logit the probability 1, as a case of its own.",
            changes={"zero": "divide"},
        ),
        Misconception(
            "0 leaves the distribution as it is",
            "At temperature 0 you return the plain softmax. In Python 0 counts as False, so `if temperature:` skips "
            "it; and 0 does not mean that nothing is done: the largest logit gets everything.",
            changes={"zero": "left out"},
        ),
        Misconception(
            "0 means that all are equal",
            "At temperature 0 you give all tokens the same probability. That is the other end, where the temperature "
            "is infinite; at 0 the largest logit gets everything.",
            changes={"zero": "uniform"},
        ),
        Misconception(
            "ties are shared",
            "Where two logits are equally large, temperature 0 must still take one token: the one with the lower id. "
            "Yours shares the probability between them, as a very small temperature does; argmax does not.",
            changes={"zero": "shared"},
            also=(_by_epsilon,),
        ),
        Misconception(
            "a 1 for each of equals",
            "Where two logits are equally large, temperature 0 must still take one token: the one with the lower id. "
            "Yours gives each of them a 1, so that the row sums to 2. argmax names one.",
            changes={"zero": "a 1 for each"},
        ),
        Misconception(
            "an index at temperature 0",
            "At temperature 0 you return which token it is. The result keeps its shape, (B, V): a row of zeros with "
            "a 1 at that token.",
            _index_at_zero,
        ),
        Misconception(
            "multiplies",
            "You multiply by the temperature, so that a high one sharpens and a low one flattens. It is the other way "
            "round: divide the logits by it. To raise probabilities to the power of the temperature is the same slip: "
            "the power would be 1 / temperature.",
            changes={"scale": "multiply"},
            also=(lambda logits, t: _power(logits, t) if t else _build()(logits, 0.0),),
        ),
        Misconception(
            "after the softmax",
            "You divide the probabilities by the temperature. Then they no longer sum to one. Divide the logits, and "
            "take the softmax after it.",
            changes={"scale": "probabilities"},
        ),
        Misconception(
            "temperature without effect",
            "Your temperature changes nothing: this is the plain softmax. If you divide the probabilities and make "
            "them sum to one again, the temperature cancels; it must divide the logits.",
            changes={"scale": "none"},
            also=(lambda logits, t: _renormalised(logits, t) if t else _build()(logits, 0.0),),
        ),
        Misconception(
            "overflow",
            "Your exponentials overflow: e to the 100 is too large for a 32-bit number, inf / inf is NaN. Subtract "
            "the row's largest logit first, which changes no probability, or let torch.softmax do it.",
            changes={"stable": False},
        ),
        Misconception(
            "softmax over the batch",
            "Your softmax runs over the batch, so that columns sum to one. Each row is a distribution over tokens: "
            "dim=-1.",
            changes={"dim": 0},
        ),
        Misconception(
            "logits, not probabilities",
            "You return the divided logits. Take the softmax over the tokens, so that each row is a distribution.",
            _scaled_logits,
        ),
        Misconception(
            "logarithms",
            "You return logarithms of the probabilities; here the probabilities themselves are asked for.",
            changes={"gives": "logarithms"},
        ),
    ),
    properties=(
        Property(
            "each row is a distribution",
            _rows_sum_to_one,
            "Every row must sum to one, and nothing in it may be below 0 or NaN; at temperature 0 too.",
            0.25,
            ("p",),
        ),
        Property(
            "cold sharpens, heat flattens",
            _sharper_when_cold,
            "Below temperature 1 the largest probability of a row must grow, above 1 it must shrink.",
            0.25,
            ("p",),
        ),
    ),
    hints=(
        "Two cases: temperature 0, which no division can give, and all others.",
        "Divide the logits and not the probabilities, then softmax over the last dimension. At 0, put a 1 where argmax "
        "says, into zeros of the logits' shape.",
        "if temperature == 0: return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0); "
        "otherwise (logits / temperature).softmax(-1).",
    ),
)
