"""The loss: what the true next token costs, on average."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, V: int, without: int = 0, scale: float = 1.0, note: str = "") -> Case:
        targets = torch.from_numpy(rng.integers(0, V, (B, T)))
        places = rng.permutation(B * T)[:without]
        targets.view(-1)[torch.from_numpy(places)] = -1
        return Case({"logits": scale * normal(rng, B, T, V), "targets": targets}, note)

    # Whole numbers make the logits' exponents overflow, and no correct answer differs by rounding.
    large = torch.tensor([[[300.0, 0.0, 100.0], [0.0, 200.0, -50.0]]])
    a, b, c, d = sizes(rng, 4)
    return [
        case(1, 1, 3),
        case(1, 2, 4),
        case(2, 3, 4, without=2, note="two positions have no target"),
        Case({"logits": large, "targets": torch.tensor([[2, 1]])}, "with large logits"),
        case(a, b, c),
        case(b, c, d, without=4, note="four positions have no target"),
        case(c, d, a, scale=3.0, without=1, note="one position has no target"),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(logits: Any, targets: Any) -> Any:
        return answer(logits, targets)

    own = copies(given)
    found = {"loss": tensor(call(**own))} | afterwards(own) | gradients(call, given, "logits")
    moved, other = copies(given), copies(given)
    moved["logits"] += torch.arange(moved["logits"].shape[1])[:, None] + 1.0  # another number at each position
    other["logits"][other["targets"] == -1] *= -2
    return found | {"moved.loss": tensor(call(**moved)), "changed.loss": tensor(call(**other))}


def _build(
    *,
    softmax: str = "over tokens",
    log: str = "stable",
    missing: str = "left out",
    average: str = "mean",
    unit: str = "nats",
    sign: int = -1,
) -> Answer:
    def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        dim = {"over tokens": -1, "over positions": 1, "over the batch": 0}[softmax]
        if log == "stable":
            log_p = logits.log_softmax(dim)  # (B, T, V)
        elif log == "softmax, then log":
            log_p = logits.softmax(dim).log()
        else:
            log_p = (logits.exp() / logits.exp().sum(dim, keepdim=True)).log()
        there = targets != -1  # (B, T)
        index = targets.clamp(min=0) if missing != "the last token" else targets % logits.shape[-1]
        costs = sign * log_p.gather(-1, index[..., None])[..., 0]  # (B, T)
        if missing == "left out":
            costs = costs[there]  # (N,)
        elif missing == "cost nothing":
            costs = costs * there
        loss = {"mean": costs.mean(), "sum": costs.sum(), "rows": costs.sum() / len(logits)}[average]
        return loss / math.log(2) if unit == "bits" else loss

    return cross_entropy


def _log_of_mean(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    there = targets != -1
    return logits[there].softmax(-1).gather(-1, targets[there][:, None]).mean().log().neg()


def _entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    p = logits[targets != -1].softmax(-1)
    return (p * -p.log()).sum(-1).mean()


def _without_log(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    there = targets != -1
    return 1.0 - logits[there].softmax(-1).gather(-1, targets[there][:, None]).mean()


def _softmax_twice(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.softmax(-1).flatten(0, 1), targets.flatten(), ignore_index=-1)


def _all_targets_everywhere(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    there = targets != -1
    return -logits[there].log_softmax(-1)[:, targets[there]].mean()


def _last_position(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, -1], targets[:, -1], ignore_index=-1)


def _by_logsumexp(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    flat, wanted = logits.flatten(0, 1), targets.flatten()  # (B·T, V), (B·T,)
    flat, wanted = flat[wanted != -1], wanted[wanted != -1]
    return (torch.logsumexp(flat, -1) - flat[torch.arange(len(wanted)), wanted]).mean()


def _by_loops(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    costs = []
    for row, wanted in zip(logits, targets, strict=True):
        for scores, target in zip(row, wanted.tolist(), strict=True):
            if target >= 0:
                shifted = scores - scores.max()
                costs.append(shifted.exp().sum().log() - shifted[target])
    return torch.stack(costs).mean()


def _by_one_hot(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    there = (targets >= 0).float()
    wanted = F.one_hot(targets.clamp(min=0), logits.size(-1)) * there[..., None]  # (B, T, V)
    return (F.log_softmax(logits, dim=-1) * wanted).sum().div(-there.sum())


def _same_after_moving(case: Case, got: dict[str, Any]) -> bool:
    return bool((got["moved.loss"] - got["loss"]).abs() <= 1e-4 * max(1.0, float(got["loss"].abs())))


def _ignores_missing(case: Case, got: dict[str, Any]) -> bool:
    return bool((got["changed.loss"] - got["loss"]).abs() <= 1e-5 * max(1.0, float(got["loss"].abs())))


EXERCISE = Exercise(
    id="prediction.cross_entropy",
    title="What a prediction costs",
    minutes=12,
    points=4,
    signature="cross_entropy(logits, targets)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_logsumexp, _by_loops, _by_one_hot),
    forbidden={
        "F.cross_entropy": "which is the task itself",
        "F.nll_loss": "which is half of the task",
        "nn.CrossEntropyLoss": "which is the task itself",
        "nn.NLLLoss": "which is half of the task",
    },
    misconceptions=(
        Misconception(
            "sum, not mean",
            "Your loss is the sum over positions. It would grow with the batch; divide by the number of positions that "
            "have a target.",
            changes={"average": "sum"},
        ),
        Misconception(
            "mean over the batch only",
            "You divide by B, the number of sequences, so the loss grows with their length. Divide by the number of "
            "positions that have a target.",
            changes={"average": "rows"},
        ),
        Misconception(
            "sign",
            "Your loss has the wrong sign. A log-probability is at most 0, and what is to become small is its "
            "negative.",
            changes={"sign": 1},
        ),
        Misconception(
            "bits",
            "Your loss is in bits, with the logarithm to base 2. The course counts in nats: torch.log and log_softmax "
            "are natural logarithms.",
            changes={"unit": "bits"},
        ),
        Misconception(
            "softmax over positions",
            "Your softmax runs over the positions. The tokens of the vocabulary compete with each other at one "
            "position: the last dimension, dim=-1.",
            changes={"softmax": "over positions"},
        ),
        Misconception(
            "softmax over the batch",
            "Your softmax runs over dimension 0, so that the sequences of a batch compete with each other. It belongs "
            "over the vocabulary: dim=-1.",
            changes={"softmax": "over the batch"},
        ),
        Misconception(
            "missing targets are the last token",
            "You look up -1 as an index, and to Python -1 means the last place: positions without a target are counted "
            "as if the last token of the vocabulary were wanted. Leave them out.",
            changes={"missing": "the last token"},
        ),
        Misconception(
            "missing targets are token 0",
            "Positions without a target are counted as if token 0 were wanted. Leave them out of the sum and of the "
            "number that you divide by.",
            changes={"missing": "token 0"},
        ),
        Misconception(
            "missing targets make it cheaper",
            "Positions without a target cost nothing in your loss, which is right, but you still divide by all "
            "positions. Divide by the number of those with a target.",
            changes={"missing": "cost nothing"},
        ),
        Misconception(
            "exp overflows",
            "Your softmax overflows: exp of a logit above 88 is infinite in float32, and inf / inf is NaN. "
            "F.log_softmax and torch.logsumexp subtract the largest logit first.",
            changes={"log": "by hand"},
        ),
        Misconception(
            "log of a softmax",
            "You take the logarithm of a softmax. A probability below 10⁻⁴⁵ is 0 in float32, and its logarithm "
            "-infinity: F.log_softmax computes the logarithm without the detour.",
            changes={"log": "softmax, then log"},
        ),
        Misconception(
            "softmax twice",
            "You take the softmax of a softmax. log_softmax and F.cross_entropy want the logits as they come; fed with "
            "probabilities, the loss can hardly leave the neighbourhood of ln V.",
            _softmax_twice,
        ),
        Misconception(
            "every target at every position",
            "log_p[:, targets] looks up every position's target at every position, N times N numbers. One for each "
            "position is wanted: pair them up with log_p[torch.arange(N), targets], or with gather.",
            _all_targets_everywhere,
        ),
        Misconception(
            "log of the mean",
            "You average the probabilities first and take the logarithm of the mean. The loss is the mean of the "
            "logarithms: a single prediction near 0 must cost dearly, and in a mean it disappears.",
            _log_of_mean,
        ),
        Misconception(
            "entropy",
            "You compute the entropy of the prediction: how unsure the model is, whatever was true. The loss asks what "
            "the target's own probability was.",
            _entropy,
        ),
        Misconception(
            "one minus the probability",
            "Your loss is 1 minus the target's probability. Take its negative logarithm: being sure and wrong must "
            "cost far more than being unsure.",
            _without_log,
        ),
        Misconception(
            "last position only",
            "You use the last position only. In a GPT every position predicts the token after it, so all positions "
            "with a target count.",
            _last_position,
        ),
    ),
    properties=(
        Property(
            "adding one number to all logits of a position changes nothing",
            _same_after_moving,
            "Only differences between the logits of one position may count.",
            0.2,
            ("loss", "moved.loss"),
        ),
        Property(
            "positions without a target do not count",
            _ignores_missing,
            "Changing the logits where the target is -1 must leave the loss as it was.",
            0.2,
            ("loss", "changed.loss"),
        ),
    ),
    hints=(
        "For one position: turn the logits into log-probabilities, pick the target's, change the sign. Then average.",
        "F.log_softmax over the last dimension gives all log-probabilities. Keep only the positions whose target is "
        "not -1, by a boolean index, before you pick and before you average.",
        "there = targets != -1; log_p = F.log_softmax(logits[there], dim=-1), of shape (N, V); then "
        "-log_p[torch.arange(len(log_p)), targets[there]].mean().",
    ),
)
