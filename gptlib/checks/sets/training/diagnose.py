"""Sick runs: from what a run has logged to what it is ill with.

The runs are recorded ones, and the notebook shows them. An answer is tried on variations of them: the same course with
its noise drawn anew, learning a little more or less, and writing a little better or worse.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property
from gptlib.checks.probing import Answer, Arrays, Given, copies, text
from gptlib.measured import recorded

HEALTHY, SCALE, WARMUP, LAST = "healthy", "initial scale", "no warmup", "last position only"
SHIFTED, LEAK, DROPOUT = "shifted targets", "leak", "dropout in evaluation"
Log = Mapping[str, Any]


LENGTH = 15  # steps over which the course of a loss is told from its noise
PAIRS = 8 * 59  # neighbours in the samples that were counted


@cache
def _recorded() -> dict[str, tuple[str, Log]]:
    """The recorded runs: a note on each, its cause, and its log."""
    found: dict[str, tuple[str, Log]] = {}
    for run in recorded("sick_runs")["runs"]:
        what = f"a healthy run{run['kind']}" if run["cause"] == HEALTHY else f"a run with the cause {run['cause']!r}"
        found[f"{what}, varied"] = run["cause"], run["log"]
    return found


def _draw(rng: np.random.Generator) -> list[Case]:
    # More and less than was recorded, and the noise twice as large for a healthy run, as half the batch would make it.
    cases = [
        Case(_varied(log, rng, level), note)
        for note, (_, log) in _recorded().items()
        for level in (rng.uniform(0.94, 0.98), rng.uniform(1.02, 1.06))
    ]
    healthy = next(note for note, (cause, _) in _recorded().items() if cause == HEALTHY)
    cases.append(Case(_varied(_recorded()[healthy][1], rng, 1.0, noisier=1.6), healthy))
    return [cases[i] for i in rng.permutation(len(cases))]


def _varied(log: Log, rng: np.random.Generator, level: float, noisier: float = 1.0) -> dict[str, Any]:
    """Another run like a recorded one.

    Args:
        log: as recorded.
        rng: of all that is random.
        level: times what the loss lies above the floor at the end; at the first step the loss is what it was.
        noisier: times the noise of the training loss.
    """
    floor, steps = log["floor"], len(log["train_loss"])

    def moved(losses: Any, share: Any) -> Any:
        return floor + (losses - floor) * (1 + (level - 1) * share)

    loss = np.array(log["train_loss"])
    padded = np.pad(loss, LENGTH // 2, mode="edge")
    course = np.median(np.lib.stride_tricks.sliding_window_view(padded, LENGTH), axis=1)
    noise = (loss - course) * rng.choice([-1, 1], steps) * noisier
    noise[0] = loss[0] - course[0]
    learned = np.minimum(1.0, np.arange(steps) / 50)
    new = np.maximum(moved(course, learned) + noise, 0.5 * loss.min())
    first, again = np.array(log["val_loss"]), np.array(log["val_loss_again"])
    spread = float(np.std(first - again)) / math.sqrt(2)  # 0 where measuring is repeatable
    at = np.minimum(1.0, np.array(log["eval_step"]) / 50)
    middle = moved((first + again) / 2, at)
    pairs = {name: rng.binomial(PAIRS, log[name]) / PAIRS for name in ("known_pairs", "known_pairs_two_apart")}
    varied = {
        "train_loss": new,
        "val_loss": middle + spread * rng.standard_normal(len(at)),
        "val_loss_again": middle + spread * rng.standard_normal(len(at)),
        "val_loss_by_position": np.array(log["val_loss_by_position"]) * level,
    }
    tensors = {name: torch.tensor(value) for name, value in log.items() if isinstance(value, list)}
    tensors |= {name: torch.from_numpy(value).float() for name, value in varied.items()}
    return {**log, **tensors, **{name: round(float(share), 4) for name, share in pairs.items()}}


def _probe(answer: Answer, given: Given) -> Arrays:
    return {"cause": text(answer(copies(given)))}


def _build(
    *,
    scale: str = "twice ln V",
    leak: str = "below the floor",
    dropout: str = "measured again",
    shifted: str = "known two apart",
    last: str = "learned little",
    warmup: str = "rate and loss",
    names: str = "right",
) -> Answer:
    def diagnose(run: Log) -> str:
        first, known = float(run["train_loss"][0]), math.log(run["vocab_size"])
        lost = float(run["val_loss"][-1])
        rate, noise = run["learning_rate"], float(run["train_loss"][-100:].diff().std())
        signs = {
            SCALE: {"twice ln V": first > 2 * known, "above ln V": first > known},
            LEAK: {
                "below the floor": lost < run["floor"],
                "bad samples": run["known_pairs"] < 0.5,
                "low": lost < 1.6,
            },
            DROPOUT: {"measured again": bool((run["val_loss"] != run["val_loss_again"]).any())},
            SHIFTED: {"known two apart": run["known_pairs_two_apart"] > 0.5, "bad samples": run["known_pairs"] < 0.5},
            LAST: {"learned little": lost > 4, "noise": noise > 0.14},
            WARMUP: {
                "rate and loss": bool(rate[0] == rate.max()) and lost > 2.15,
                "rate": bool(rate[0] == rate.max()),
                "first loss": first > 6,
            },
        }
        rules = {SCALE: scale, LEAK: leak, DROPOUT: dropout, SHIFTED: shifted, LAST: last, WARMUP: warmup}
        found = next((cause for cause, rule in rules.items() if signs[cause].get(rule, False)), HEALTHY)
        if names == "exchanged":
            return {LEAK: SHIFTED, SHIFTED: LEAK}.get(found, found)
        return found

    return diagnose


def _by_questions(run: Log) -> str:
    losses, by_position = run["val_loss"].tolist(), run["val_loss_by_position"]
    if losses[0] > 10:
        return SCALE
    if by_position[-1] > 5 * by_position.median():  # nothing comes after the last position
        return LEAK
    if max(abs(a - b) for a, b in zip(losses, run["val_loss_again"].tolist(), strict=True)) > 0:
        return DROPOUT
    if run["known_pairs_two_apart"] > 3 * run["known_pairs"]:
        return SHIFTED
    if run["train_loss"][-100:].diff().abs().mean() > 0.35:  # sixteen targets a step and not a thousand
        return LAST
    if run["learning_rate"].argmax() == 0 and run["known_pairs"] < 0.8:
        return WARMUP
    return HEALTHY


def _by_table(run: Log) -> str:
    end = run["val_loss"][-1] / run["floor"]  # times the floor
    table: list[tuple[Callable[[], Any], str]] = [
        (lambda: run["train_loss"].max() > 3 * math.log(run["vocab_size"]), SCALE),
        (lambda: end < 1, LEAK),
        (lambda: end > 18, LAST),
        (lambda: run["known_pairs"] < run["known_pairs_two_apart"], SHIFTED),
        (lambda: not torch.equal(run["val_loss"], run["val_loss_again"]), DROPOUT),
        (lambda: end > 10 and run["learning_rate"][:10].diff().max() <= 0, WARMUP),
    ]
    return next((cause for sign, cause in table if sign()), HEALTHY)


def _finds(*causes: str) -> Callable[[Case, dict[str, Any]], bool]:
    """Make a property: these causes are named where they are, and nowhere else."""

    def holds(case: Case, got: dict[str, Any]) -> bool:
        cause, _ = _recorded()[case.note]
        return (got["cause"] == cause) if cause in causes else got["cause"] not in causes

    return holds


def _sick(case: Case, got: dict[str, Any]) -> bool:
    return bool((got["cause"] == HEALTHY) == (_recorded()[case.note][0] == HEALTHY))


EXERCISE = Exercise(
    id="training.diagnose",
    title="Six sick runs",
    minutes=20,
    points=5,
    signature="diagnose(run)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_questions, _by_table),
    shown=("known_pairs", "known_pairs_two_apart"),
    misconceptions=(
        Misconception(
            "any first loss above ln V",
            "You call a first loss sick that is a few hundredths above ln V. ln 1024 = 6.93 is what a fresh model has "
            "on average; a wrong scale is off by whole nats, here by dozens.",
            changes={"scale": "above ln V"},
        ),
        Misconception(
            "wrong scale not seen",
            "You never find the wrong initial scale. Look at the very first loss: a model that knows nothing has ln V "
            "= 6.93, and more means that it is sure of wrong things before its first step.",
            changes={"scale": "unseen"},
        ),
        Misconception(
            "a low loss is a leak",
            "You call a run a leak because its loss is lower than others. A low loss is what training is for. What no "
            "honest model can reach is a loss below the floor.",
            changes={"leak": "low"},
        ),
        Misconception(
            "bad samples are a leak",
            "You call a run a leak because it writes badly. Others write badly too, with a high loss. A leak has both: "
            "bad samples, and a validation loss below the floor.",
            changes={"leak": "bad samples"},
        ),
        Misconception(
            "leak taken for a good run",
            "You call a leak healthy. Its loss is the best of all, and that is the sign: below the floor there is "
            "nothing to learn, only to see. Compare val_loss with floor, and read the sample.",
            changes={"leak": "unseen"},
        ),
        Misconception(
            "leak and shift exchanged",
            "You exchange leaks and shifted targets. With a leak the loss lies below the floor; with targets that lie "
            "two tokens on it lies far above, and the samples skip every other word.",
            changes={"names": "exchanged"},
        ),
        Misconception(
            "dropout not seen",
            "You never find the dropout that was left on. With model.eval() the same weights on the same windows give "
            "the same loss to the last digit: compare val_loss with val_loss_again.",
            changes={"dropout": "unseen"},
        ),
        Misconception(
            "bad samples are shifted targets",
            "You call targets shifted because the samples are bad. Samples are bad for many reasons. With a double "
            "shift, neighbours in the sample stand two places apart in the text: look at known_pairs_two_apart.",
            changes={"shifted": "bad samples"},
        ),
        Misconception(
            "shifted targets not seen",
            "You never find the shifted targets. The loss looks like that of a slow run, but read the sample: every "
            "other word is missing, and known_pairs_two_apart says so.",
            changes={"shifted": "unseen"},
        ),
        Misconception(
            "any noise is the last position",
            "You call a run noisy that only has the noise of its batches. With one target a window the loss jumps by "
            "half a nat from step to step, and is still above 4 at the end.",
            changes={"last": "noise"},
        ),
        Misconception(
            "last position not seen",
            "You never find the runs that learn from the last position alone. They get 16 targets a step and not "
            "1,024: the loss jumps, and after 300 steps it is still above 4.",
            changes={"last": "unseen"},
        ),
        Misconception(
            "a missing warmup is always an illness",
            "You call every run ill whose learning rate starts at its highest. With a low rate nothing is lost by it. "
            "It is an illness where it does harm: ask for the loss as well.",
            changes={"warmup": "rate"},
        ),
        Misconception(
            "a high first loss is a missing warmup",
            "You take the first loss for a sign of a missing warmup. Warmup cannot touch it, for it is measured before "
            "the first step. Look at how learning_rate begins, and at what became of the loss.",
            changes={"warmup": "first loss"},
        ),
        Misconception(
            "missing warmup not seen",
            "You never find the missing warmup. The first learning rate is the highest of all, 0.01, and after 300 "
            "steps the validation loss is twice that of a healthy run.",
            changes={"warmup": "unseen"},
        ),
    ),
    properties=(
        Property(
            "tells healthy from sick",
            _sick,
            "A healthy run must be called healthy, whatever its settings, and a sick one must not.",
            0.12,
            ("cause",),
        ),
        Property(
            "finds the initial scale",
            _finds(SCALE),
            "The initial scale shows in the first loss, which should be ln V.",
            0.08,
            ("cause",),
        ),
        Property(
            "finds the leak",
            _finds(LEAK),
            "A leak shows in a validation loss below the floor, beside bad samples.",
            0.08,
            ("cause",),
        ),
        Property(
            "finds the dropout",
            _finds(DROPOUT),
            "Dropout in evaluation shows when the same thing is measured twice.",
            0.08,
            ("cause",),
        ),
        Property(
            "finds the shifted targets",
            _finds(SHIFTED),
            "Shifted targets show in the samples: neighbours there are no neighbours in the text, but stand two apart.",
            0.08,
            ("cause",),
        ),
        Property(
            "finds the last position",
            _finds(LAST),
            "The loss of the last position alone shows in its jumps from step to step, and in how little is learned.",
            0.08,
            ("cause",),
        ),
        Property(
            "finds the missing warmup",
            _finds(WARMUP),
            "A missing warmup shows in how the learning rate begins, together with a loss that stays high.",
            0.08,
            ("cause",),
        ),
    ),
    hints=(
        "Each illness has a sign that no other has. Begin with those that can be told from one number, and leave the "
        "question of high or low losses to the end.",
        "Against ln V: the first loss. Against the floor: the last validation loss. Against each other: val_loss and "
        "val_loss_again. Against a half: known_pairs_two_apart. Then: a loss that is hardly better than at the start, "
        "and a rate that begins at its highest with a loss above 2.",
        "In this order: train_loss[0] > 10; val_loss[-1] < floor; (val_loss != val_loss_again).any(); "
        "known_pairs_two_apart > 0.5; val_loss[-1] > 4; learning_rate[0] == learning_rate.max() and val_loss[-1] > "
        "2.15; else healthy.",
    ),
)
