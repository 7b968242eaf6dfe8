"""Positions as waves: the table of sines and cosines of 2017."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(positions: list[int], n_embd: int, note: str = "") -> Case:
        return Case({"positions": torch.tensor(positions), "n_embd": n_embd}, note)

    a, b, c, d = sizes(rng, 4, 3, 9)
    far = sorted(int(t) for t in rng.choice(np.arange(20, 200), b, replace=False))
    return [
        case([0, 1, 2], 4),
        case([5, 6, 7, 8, 9], 6, "a text that goes on at position 5"),
        case([3, 3, 0, 7, 1, 4, 2], 10, "positions in no order"),
        case([0, 1, 2, 3], 2, "a single pair"),
        case(list(range(a)), 2 * (c + 2), "from the start"),
        case(far, 2 * d),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, moved = copies(given), copies(given)
    moved["positions"] = moved["positions"] + 11
    found = {"vectors": tensor(answer(own["positions"], own["n_embd"]))} | afterwards(own)
    return found | {"moved.vectors": tensor(answer(moved["positions"], moved["n_embd"]))}


def _build(
    *,
    columns: str = "side by side",
    waves: str = "sine, cosine",
    exponent: str = "2i / C",
    grows: bool = False,
    angle: str = "radians",
    counts: str = "given",
) -> Answer:
    def sinusoidal(positions: torch.Tensor, n_embd: int) -> torch.Tensor:
        C = n_embd
        t = positions.double()
        t = {"given": t, "from 0": torch.arange(len(t)).double(), "from 1": t + 1}[counts]
        i = torch.arange(C // 2).double()  # (C/2,)
        power = {
            "2i / C": 2 * i / C,
            "i / C": i / C,
            "column": 2 * i / C,
            "ends at the base": i / max(C // 2 - 1, 1),
            "4i / C": 4 * i / C,
            "column, doubled": 4 * i / C,
        }[exponent]
        sign, turn = 1 if grows else -1, 2 * math.pi if angle == "turns" else 1.0
        angles = t[:, None] * 10_000.0 ** (sign * power) * turn  # (T, C/2)
        odd = {"column": (2 * i + 1) / C, "column, doubled": 2 * (2 * i + 1) / C}.get(exponent, power)
        second = t[:, None] * 10_000.0 ** (sign * odd) * turn
        sine, cosine = angles.sin(), second.cos()
        if waves == "sines only":
            cosine = second.sin()
        if waves == "cosine, sine":
            sine, cosine = angles.cos(), second.sin()
        if columns == "halves":
            return torch.cat([sine, cosine], dim=-1).float()
        return torch.stack([sine, cosine], dim=-1).flatten(-2).float()  # (T, C/2, 2) -> (T, C)

    return sinusoidal


def _by_slices(positions: torch.Tensor, n_embd: int) -> torch.Tensor:
    table = torch.zeros(len(positions), n_embd)
    slowing = torch.exp(torch.arange(0, n_embd, 2) * (-math.log(10_000.0) / n_embd))  # (C/2,)
    table[:, 0::2] = torch.sin(positions[:, None] * slowing)
    table[:, 1::2] = torch.cos(positions[:, None] * slowing)
    return table


def _by_loops(positions: torch.Tensor, n_embd: int) -> torch.Tensor:
    rows = []
    for t in positions.tolist():
        row = []
        for column in range(n_embd):
            angle = t / 10_000 ** ((column - column % 2) / n_embd)
            row.append(math.cos(angle) if column % 2 else math.sin(angle))
        rows.append(row)
    return torch.tensor(rows)


def _by_a_shifted_sine(positions: torch.Tensor, n_embd: int) -> torch.Tensor:
    column = torch.arange(n_embd)
    frequencies = 10_000.0 ** (-(column - column % 2) / n_embd)  # (C,)
    return torch.sin(torch.outer(positions.float(), frequencies) + column % 2 * (math.pi / 2))


def _on_circles(case: Case, got: dict[str, Any]) -> bool:
    pairs = got["vectors"].unflatten(-1, (-1, 2))  # (T, C/2, 2)
    return bool((((pairs**2).sum(-1) - 1).abs() <= 1e-4).all())


def _distance_alone(case: Case, got: dict[str, Any]) -> bool:
    here, there = got["vectors"], got["moved.vectors"]
    same = ((here @ here.T) - (there @ there.T)).abs() <= 1e-3 * here.shape[-1]
    return bool(same.all()) and bool(((here - there).abs().amax(-1) > 1e-3).all())


EXERCISE = Exercise(
    id="positions.sinusoidal",
    title="A vector of waves for each position",
    minutes=10,
    points=3,
    signature="sinusoidal(positions, n_embd)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_slices, _by_loops, _by_a_shifted_sine),
    tolerance=2e-4,  # an angle of 200 in fp32 is known to 1e-5, and the frequencies are rounded too
    misconceptions=(
        Misconception(
            "sines first, then cosines",
            "The waves are right and stand in another order: you put all sines first and all cosines after them. Here "
            "each sine has its cosine beside it, columns 2i and 2i + 1.",
            changes={"columns": "halves"},
        ),
        Misconception(
            "cosine before sine",
            "Sine and cosine are exchanged: even columns hold the sine, odd columns the cosine.",
            changes={"waves": "cosine, sine"},
        ),
        Misconception(
            "sines only",
            "All your columns are sines. The cosine beside each sine is what makes a step along the text a rotation; "
            "with sines alone, it is none.",
            changes={"waves": "sines only"},
        ),
        Misconception(
            "i / C",
            "Your waves slow down half as fast as they should: for pair i the exponent is 2i / C, and 2i runs "
            "0, 2, 4, … up to C - 2.",
            changes={"exponent": "i / C"},
        ),
        Misconception(
            "4i / C",
            "Your waves slow down twice as fast as they should: for pair i the exponent is 2i / C, where i counts "
            "pairs, 0, 1, 2, …, and not columns.",
            changes={"exponent": "4i / C"},
        ),
        Misconception(
            "each column its own frequency",
            "Your odd columns have a frequency of their own. The sine and the cosine of a pair share one angle, that "
            "of the even column: the exponent is 2i / C for both.",
            changes={"exponent": "column"},
        ),
        Misconception(
            "each column its own frequency, twice as steep",
            "You put the number of the column for i. In the formula i counts pairs: columns 2i and 2i + 1 are the sine "
            "and the cosine of one angle, with the exponent 2i / C.",
            changes={"exponent": "column, doubled"},
        ),
        Misconception(
            "ends at the base",
            "Your slowest wave is slower than asked. You divide by the number of pairs less one, so that the last "
            "exponent is 1; the formula divides 2i by C, and the last exponent is (C - 2) / C.",
            changes={"exponent": "ends at the base"},
        ),
        Misconception(
            "frequencies grow",
            "Your frequencies grow with the column, up to thousands of radians a token. The exponent is negative, or "
            "one divides by the power: the waves get slower.",
            changes={"grows": True},
        ),
        Misconception(
            "counts from 0 whatever is given",
            "Your rows are those of positions 0, 1, 2, … whatever the argument says. Use the numbers in positions: a "
            "text that goes on at position 5 wants row 5 first.",
            changes={"counts": "from 0"},
        ),
        Misconception(
            "counts from 1",
            "You are one position late. Position 0 has the angle 0, so that its sines are 0 and its cosines 1.",
            changes={"counts": "from 1"},
        ),
        Misconception(
            "whole turns",
            "You multiply by 2π. The angle is position times frequency, in radians: the first wave comes round every "
            "6.28 tokens, and not every single one.",
            changes={"angle": "turns"},
        ),
    ),
    properties=(
        Property(
            "each pair is a point on a circle",
            _on_circles,
            "Columns 2i and 2i + 1 are the sine and the cosine of one angle, so their squares sum to 1.",
            0.2,
            ("vectors",),
        ),
        Property(
            "products of rows depend on the distance",
            _distance_alone,
            "With 11 added to all positions every row must change, and the dot product of any two rows must stay what "
            "it was.",
            0.25,
            ("vectors", "moved.vectors"),
        ),
    ),
    hints=(
        "Three steps: a frequency for each of the C / 2 pairs, an angle for each position and pair, then sine and "
        "cosine of it.",
        "torch.arange(0, n_embd, 2) holds 2i. positions[:, None] * frequencies has shape (T, C/2). To put sines and "
        "cosines side by side, fill columns 0::2 and 1::2 of a table, or stack them on a new last dimension and "
        "flatten it.",
        "frequencies = 10_000.0 ** (-torch.arange(0, n_embd, 2) / n_embd); angles = positions[:, None] * frequencies; "
        "return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).",
    ),
)
