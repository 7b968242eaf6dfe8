"""Rotary positions: queries and keys turned by their position."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, H: int, positions: list[int], D: int, base: float = 10_000.0, note: str = "") -> Case:
        x = normal(rng, B, H, len(positions), D)
        x = x + torch.sign(x) * 0.3  # no number near 0, so that a wrong turn shows
        return Case({"x": x, "positions": torch.tensor(positions), "base": base}, note)

    a, b, c, d = sizes(rng, 4, 2, 6)
    far = sorted(int(t) for t in rng.choice(np.arange(20, 120), c, replace=False))
    return [
        case(1, 1, [0, 1], 4),
        case(1, 2, [0, 1, 2], 2, note="a single plane"),
        case(2, 3, [6, 7, 8, 9], 6, note="a text that goes on at position 6"),
        case(1, 2, [4, 0, 9, 2, 2], 8, 100.0, "positions in no order, another base"),
        case(a, b, list(range(c)), 2 * (d + 1), 500.0),
        case(b, a, far, 2 * (d + 2)),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(x: Any, positions: Any, base: Any) -> Any:
        return answer(x, positions, base)

    own, moved = copies(given), copies(given)
    moved["positions"] = moved["positions"] + 13
    found = {"turned": tensor(call(**own))} | afterwards(own) | gradients(call, given, "x")
    return found | {"moved.turned": tensor(call(**moved))}


def _build(
    *,
    pairs: str = "halves",
    turn: str = "rotation",
    exponent: str = "2i / D",
    counts: str = "given",
    based: str = "given",
    planes: str = "each its own",
) -> Answer:
    def rotary(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
        D = x.size(-1)
        t = {"given": positions, "from 0": torch.arange(len(positions)), "from 1": positions + 1}[counts]
        b = base if based == "given" else 10_000.0
        i = torch.arange(D // 2)
        power = {"2i / D": 2 * i / D, "i / D": i / D, "4i / D": 4 * i / D}[exponent]
        frequencies = b ** -(torch.zeros(D // 2) if planes == "all alike" else power)
        angles = t.float()[:, None] * frequencies  # (T, D/2)
        cos, sin = angles.cos(), angles.sin()
        neighbours = pairs == "neighbours"
        first, second = (x[..., 0::2], x[..., 1::2]) if neighbours else x.chunk(2, dim=-1)  # (B, H, T, D/2)
        if turn == "adds":
            new = first + sin, second + cos
        elif turn == "backwards":
            new = first * cos + second * sin, second * cos - first * sin
        elif turn == "no minus":
            new = first * cos + second * sin, second * cos + first * sin
        elif turn == "cosines only":
            new = first * cos, second * cos
        elif turn == "half":
            new = first * cos - second * sin, second
        else:
            new = first * cos - second * sin, first * sin + second * cos
        return torch.stack(new, dim=-1).flatten(-2) if neighbours else torch.cat(new, dim=-1)  # (B, H, T, D)

    return rotary


def _angles_and_halves_mixed(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    D = x.size(-1)
    angles = positions[:, None] * base ** (-torch.arange(0, D, 2) / D)  # (T, D/2)
    cos, sin = angles.cos().repeat_interleave(2, -1), angles.sin().repeat_interleave(2, -1)  # (T, D): a a b b
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _overwrites(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    D = x.size(-1)
    angles = positions[:, None] * base ** (-torch.arange(0, D, 2) / D)  # (T, D/2)
    first, second = x.chunk(2, dim=-1)
    new_first = first * angles.cos() - second * angles.sin()
    return torch.cat([new_first, new_first * angles.sin() + second * angles.cos()], dim=-1)


def _by_rotate_half(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    D = x.shape[-1]
    angles = torch.outer(positions.float(), 1.0 / base ** (torch.arange(0, D, 2).float() / D)).repeat(1, 2)  # (T, D)
    rotated = torch.cat((-x[..., D // 2 :], x[..., : D // 2]), dim=-1)
    return x * angles.cos() + rotated * angles.sin()


def _by_complex_numbers(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    D = x.size(-1)
    turns = torch.outer(positions.float(), base ** (-torch.arange(0, D, 2) / D))  # (T, D/2)
    z = torch.complex(x[..., : D // 2], x[..., D // 2 :]) * torch.polar(torch.ones_like(turns), turns)
    return torch.cat([z.real, z.imag], dim=-1)


def _by_matrices(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    T, D = x.shape[-2:]
    R = torch.zeros(T, D, D)
    for row, t in enumerate(positions.tolist()):
        for i in range(D // 2):
            angle = t * base ** (-2 * i / D)
            j = i + D // 2
            R[row, i, i] = R[row, j, j] = math.cos(angle)
            R[row, i, j], R[row, j, i] = -math.sin(angle), math.sin(angle)
    return torch.einsum("tij,bhtj->bhti", R, x)


def _lengths_stay(case: Case, got: dict[str, Any]) -> bool:
    x = case.given["x"]
    assert isinstance(x, torch.Tensor)
    same = (got["turned"].norm(dim=-1) - x.norm(dim=-1)).abs() <= 1e-3
    return bool(same.all()) and _moves(got)


def _distance_alone(case: Case, got: dict[str, Any]) -> bool:
    here, there = got["turned"], got["moved.turned"]
    same = (here @ here.mT - there @ there.mT).abs() <= 1e-3 * here.shape[-1]
    return bool(same.all()) and _moves(got)


def _moves(got: dict[str, Any]) -> bool:
    return bool(((got["turned"] - got["moved.turned"]).abs().amax(-1) > 1e-3).all())


EXERCISE = Exercise(
    id="positions.rotary",
    title="Turn vectors by their position",
    minutes=15,
    points=4,
    signature="rotary(x, positions, base)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_rotate_half, _by_complex_numbers, _by_matrices),
    tolerance=2e-4,  # an angle of 120 in fp32 is known to 1e-5, and the frequencies are rounded too
    misconceptions=(
        Misconception(
            "neighbours are paired",
            "Your turns are right, but you pair neighbours, columns 2i and 2i + 1, as the RoFormer paper does. This "
            "exercise pairs halves, columns i and i + D / 2, as the library does and the Llama of transformers.",
            changes={"pairs": "neighbours"},
        ),
        Misconception(
            "adds waves",
            "You add sines and cosines to x. That is the table of 2017; rotary positions multiply: each pair of "
            "numbers is turned by its angle, and its length stays.",
            changes={"turn": "adds"},
        ),
        Misconception(
            "turned backwards",
            "You turn the other way round, by minus the angle: the minus belongs to the first half of the result, "
            "first · cos - second · sin.",
            changes={"turn": "backwards"},
        ),
        Misconception(
            "no minus",
            "Both halves of your result have a plus. Without the minus in the first half it is no rotation: lengths "
            "change, and scores no longer depend on the distance alone.",
            changes={"turn": "no minus"},
        ),
        Misconception(
            "cosines only",
            "You multiply by the cosine and leave the sine out, so every vector shrinks. A turn mixes the two numbers "
            "of a pair.",
            changes={"turn": "cosines only"},
        ),
        Misconception(
            "second half stays",
            "Only the first half of your result is turned. Both numbers of a pair change: the second becomes "
            "first · sin + second · cos.",
            changes={"turn": "half"},
        ),
        Misconception(
            "the new first half is used",
            "For the second half you use the first half that you have just turned. Keep the old one: both lines of a "
            "rotation read the old pair.",
            _overwrites,
        ),
        Misconception(
            "halves paired, angles repeated side by side",
            "You pair halves, but repeat each angle side by side (a, a, b, b), as one does when pairing neighbours. So "
            "the two numbers of a pair are turned by different angles. Here the angles repeat as a whole: a, b, a, b.",
            _angles_and_halves_mixed,
        ),
        Misconception(
            "i / D",
            "Your planes slow down half as fast as they should: plane i turns by base^(-2i / D), and 2i runs 0, 2, 4, "
            "… up to D - 2.",
            changes={"exponent": "i / D"},
        ),
        Misconception(
            "4i / D",
            "Your planes slow down twice as fast as they should: plane i turns by base^(-2i / D), and there are D / 2 "
            "planes.",
            changes={"exponent": "4i / D"},
        ),
        Misconception(
            "all planes turn alike",
            "All your planes turn by the same angle, one radian a position. After about six tokens everything comes "
            "round again; the planes need frequencies of their own.",
            changes={"planes": "all alike"},
        ),
        Misconception(
            "base is ignored",
            "You always use 10,000. Use the argument base: models for long texts have larger ones.",
            changes={"based": "10,000"},
        ),
        Misconception(
            "counts from 0 whatever is given",
            "You turn by 0, 1, 2, … whatever the argument says. Use the numbers in positions: after a cache, the first "
            "new token does not stand at 0.",
            changes={"counts": "from 0"},
        ),
        Misconception(
            "counts from 1",
            "You are one position late: at position 0 nothing is turned.",
            changes={"counts": "from 1"},
        ),
    ),
    properties=(
        Property(
            "lengths stay",
            _lengths_stay,
            "A rotation keeps the length of every vector, and another position gives another result.",
            0.2,
            ("turned", "moved.turned"),
        ),
        Property(
            "products depend on the distance",
            _distance_alone,
            "With 13 added to all positions every vector must change, and the dot product of any two of them in the "
            "same text and head must stay what it was.",
            0.25,
            ("turned", "moved.turned"),
        ),
    ),
    hints=(
        "Three steps: an angle for each position and plane, its cosine and sine, and the rotation of each pair of "
        "numbers, which takes two lines.",
        "angles = positions[:, None] * frequencies is (T, D/2), with frequencies base ** (-2i / D); it fits "
        "first, second = x.chunk(2, dim=-1), each (B, H, T, D/2). Both lines of the rotation read the old first and "
        "second.",
        "cos, sin = angles.cos(), angles.sin(); return torch.cat([first * cos - second * sin, first * sin + second * "
        "cos], dim=-1).",
    ),
)
