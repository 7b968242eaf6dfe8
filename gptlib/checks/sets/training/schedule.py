"""The learning rate of each step: up in a straight line, down on half a cosine."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property
from gptlib.checks.probing import Answer, Arrays, Given, number


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(steps: int, warmup: int, highest: float, lowest: float, note: str = "") -> Case:
        return Case({"steps": steps, "warmup": warmup, "highest": highest, "lowest": lowest}, note)

    steps, warmup = int(rng.integers(20, 60)), int(rng.integers(3, 9))
    rate = float(np.round(rng.uniform(2e-3, 9e-3), 4))
    return [
        case(6, 2, 0.004, 0.0004),
        case(5, 0, 0.003, 0.001, "without a warmup"),
        case(12, 4, 0.001, 0.0, "down to 0"),
        case(8, 1, 0.002, 0.002, "with lowest = highest"),
        case(steps, warmup, rate, round(rate / 10, 5)),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own: dict[str, Any] = dict(given)
    steps = own["steps"]
    found = [number(answer(t, steps, own["warmup"], own["highest"], own["lowest"])) for t in range(steps)]
    rates = [value for value in found if isinstance(value, torch.Tensor)]
    odd = [value for value in found if not isinstance(value, torch.Tensor)]
    return {"rates": odd[0] if odd else torch.stack(rates)}


def _build(
    *,
    rise: str = "from one part",
    fall: str = "after the warmup",
    ends: str = "at the last step",
    shape: str = "half a cosine",
    low: str = "lowest",
) -> Answer:
    def schedule(step: int, steps: int, warmup: int, highest: float, lowest: float) -> float:
        if step < warmup and rise != "none":
            return highest * (step + 1 if rise == "from one part" else step) / warmup
        begin = warmup if fall == "after the warmup" else 0
        end = steps - 1 if ends == "at the last step" else steps
        p = (step - begin) / (end - begin) if fall != "backwards" else step / end
        p = max(p, 0.0)
        down = {
            "half a cosine": (1 + math.cos(math.pi * p)) / 2,
            "no pi": (1 + math.cos(p)) / 2,
            "degrees": (1 + math.cos(180 * p)) / 2,
            "a whole cosine": (1 + math.cos(2 * math.pi * p)) / 2,
            "not halved": 1 + math.cos(math.pi * p),
            "quarter": math.cos(math.pi * p / 2),
            "upwards": (1 - math.cos(math.pi * p)) / 2,
            "a line": 1 - p,
        }[shape]
        if low == "left out":
            return highest * down
        if low == "on top":
            return lowest + highest * down
        if low == "cut off":
            return max(lowest, highest * down)
        return lowest + (highest - lowest) * down

    return schedule


def _by_minimum(step: int, steps: int, warmup: int, highest: float, lowest: float) -> float:
    angle = math.pi * max(0, step - warmup) / (steps - 1 - warmup)
    down = (highest + lowest) / 2 + (highest - lowest) / 2 * math.cos(angle)
    return min(down, highest * (step + 1) / max(1, warmup)) if step < warmup else down


def _by_tensors(step: int, steps: int, warmup: int, highest: float, lowest: float) -> Any:
    up = torch.arange(1, warmup + 1, dtype=torch.float64) * highest / max(warmup, 1)
    p = torch.linspace(0, 1, steps - warmup, dtype=torch.float64)
    down = lowest + (highest - lowest) * torch.cos(p * torch.pi / 2) ** 2
    return torch.cat([up, down])[step]


def _by_numpy(step: int, steps: int, warmup: int, highest: float, lowest: float) -> Any:
    angles = np.linspace(0, np.pi, steps - warmup)
    rates = np.concatenate(
        [np.linspace(0, highest, warmup + 1)[1:], lowest + (highest - lowest) * (1 + np.cos(angles)) / 2]
    )
    return rates[step]


def _rises(case: Case, got: dict[str, Any]) -> bool:
    rates, warmup, highest = got["rates"], case.given["warmup"], case.given["highest"]
    assert isinstance(warmup, int)
    assert isinstance(highest, float)
    ramp = torch.arange(1, warmup + 1, dtype=torch.float64) * highest / max(warmup, 1)
    return bool(((rates[:warmup] - ramp).abs() <= 1e-8).all()) and abs(float(rates.max()) - highest) <= 1e-8


def _falls(case: Case, got: dict[str, Any]) -> bool:
    rates, warmup, lowest, highest = (
        got["rates"],
        case.given["warmup"],
        case.given["lowest"],
        case.given["highest"],
    )
    assert isinstance(warmup, int)
    assert isinstance(lowest, float)
    assert isinstance(highest, float)
    after = rates[warmup:]
    ends = abs(float(after[-1]) - lowest) <= 1e-8 and abs(float(after[0]) - highest) <= 1e-8
    return ends and bool((after.diff() <= 1e-12).all())


EXERCISE = Exercise(
    id="training.schedule",
    title="Warmup and cosine",
    minutes=8,
    points=3,
    signature="schedule(step, steps, warmup, highest, lowest)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_minimum, _by_tensors, _by_numpy),
    tolerance=1e-8,  # the rates themselves are thousandths
    misconceptions=(
        Misconception(
            "the first step does nothing",
            "Your warmup starts from 0, so the first step has a learning rate of 0 and changes nothing. Step 0 is the "
            "first of the warmup's steps: highest * (step + 1) / warmup.",
            changes={"rise": "from zero"},
        ),
        Misconception(
            "no warmup",
            "Your learning rate does not rise. During the first warmup steps it goes up in a straight line.",
            changes={"rise": "none"},
            also=(_build(rise="none", fall="over the whole run"),),
        ),
        Misconception(
            "cosine over the whole run",
            "Your cosine runs over the whole run, so that part of it is gone when the warmup ends, and the rate jumps "
            "there. It begins where the warmup ends: (step - warmup) / (steps - 1 - warmup).",
            changes={"fall": "over the whole run"},
        ),
        Misconception(
            "lowest is never reached",
            "Your cosine would end one step after the run. Steps count from 0, so the last one is steps - 1: divide by "
            "steps - 1 - warmup.",
            changes={"ends": "after it"},
        ),
        Misconception(
            "degrees",
            "You hand 180 to the cosine. math.cos counts in radians: half a turn is math.pi.",
            changes={"shape": "degrees"},
        ),
        Misconception(
            "no pi",
            "Your cosine goes from 0 to 1 radian, and half a turn is pi: the rate hardly falls. Multiply the progress "
            "by math.pi.",
            changes={"shape": "no pi"},
        ),
        Misconception(
            "a whole cosine",
            "Your rate goes down and comes up again: a whole turn of the cosine. Half a turn, math.pi, takes it from 1 "
            "to -1.",
            changes={"shape": "a whole cosine"},
        ),
        Misconception(
            "not halved",
            "1 + cos goes from 2 to 0, so your rate starts above highest. Halve it.",
            changes={"shape": "not halved"},
        ),
        Misconception(
            "a quarter of a turn",
            "You take the cosine over a quarter of a turn. It starts flat and ends steep; half a turn, moved up by 1 "
            "and halved, is flat at both ends.",
            changes={"shape": "quarter"},
        ),
        Misconception(
            "upside down",
            "Your rate rises after the warmup: it is (1 + cos) / 2 that goes from 1 down to 0.",
            changes={"shape": "upwards"},
        ),
        Misconception(
            "a straight line down",
            "After the warmup your rate falls in a straight line. A cosine is asked for: it stays high for longer, and "
            "ends gently.",
            changes={"shape": "a line"},
        ),
        Misconception(
            "down to 0",
            "Your rate falls to 0, whatever lowest says. It goes from highest to lowest: lowest + (highest - lowest) * "
            "a number from 1 to 0.",
            changes={"low": "left out"},
        ),
        Misconception(
            "lowest on top",
            "You add lowest to a cosine that is already highest high, so the rate begins above highest. Only the "
            "difference, highest - lowest, goes down.",
            changes={"low": "on top"},
        ),
        Misconception(
            "cut off at lowest",
            "You let the cosine fall to 0 and cut it off at lowest, so the last part of the run is flat. The cosine "
            "itself ends at lowest: scale it by highest - lowest.",
            changes={"low": "cut off"},
        ),
    ),
    properties=(
        Property(
            "it rises to highest during the warmup",
            _rises,
            "Over the warmup the rate must rise in equal parts, the first one at step 0, up to highest, and never "
            "above.",
            0.3,
            ("rates",),
        ),
        Property(
            "it falls from highest to lowest",
            _falls,
            "After the warmup the rate must start at highest, never rise again, and be lowest at the last step, "
            "steps - 1.",
            0.3,
            ("rates",),
        ),
    ),
    hints=(
        "Two parts, told apart by step < warmup. For the second, first work out the progress: 0 at step warmup, 1 at "
        "the last step.",
        "Warmup: highest * (step + 1) / warmup. After it, progress = (step - warmup) / (steps - 1 - warmup), and (1 + "
        "math.cos(math.pi * progress)) / 2 goes from 1 to 0.",
        "if step < warmup: return highest * (step + 1) / warmup. Then: return lowest + (highest - lowest) * (1 + "
        "math.cos(math.pi * progress)) / 2.",
    ),
)
