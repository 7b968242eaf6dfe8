"""Which position a token has, when rows begin with fill and a part of them was read before."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(fill: list[int], S: int, n_new: int, note: str = "") -> Case:
        real = torch.arange(S) >= torch.tensor(fill)[:, None]  # (B, S)
        return Case({"real": real, "n_new": n_new}, note)

    a, b, c = sizes(rng, 3, 2, 6)
    fill = [int(n) for n in rng.integers(0, c, a)]
    return [
        case([0, 2], 4, 4, "nothing was read before"),
        case([1, 0, 3], 7, 2, "5 positions were read before"),
        case([0, 0], 6, 3, "no fill, 3 positions were read before"),
        case([2, 4, 0, 1], 6, 1, "one new token"),
        case([1, 4, 2], 8, 5, "3 positions were read before, and one row's fill goes on"),
        case([3, 1], 5, 5, "every row begins with fill"),
        case(fill, b + c, b),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, whole = copies(given), copies(given)
    found = {"positions": tensor(answer(own["real"], own["n_new"]))} | afterwards(own)
    return found | {"whole.positions": tensor(answer(whole["real"], whole["real"].shape[1]))}


def _build(
    *,
    fill: str = "not counted",
    cache: str = "counted",
    start: int = 0,
    rows: str = "each its own",
    at_fill: str = "0",
    columns: str = "new",
) -> Answer:
    def offsets(real: torch.Tensor, n_new: int) -> torch.Tensor:
        B, S = real.shape
        counted = torch.ones_like(real) if fill == "counted" else real
        if cache == "forgotten":  # as if the text began with the new tokens
            counted = torch.cat([torch.zeros_like(counted[:, : S - n_new]), counted[:, S - n_new :]], dim=1)
        positions = counted.long().cumsum(dim=1) - 1 + start  # (B, S)
        if fill == "twice":
            positions = positions - (~real).sum(dim=1, keepdim=True)
        if rows == "the first row's":
            positions = positions[:1].repeat(B, 1)
        if rows == "the longest row's":
            positions = positions[real.sum(dim=1).argmax()].repeat(B, 1)
        if at_fill != "as it comes":
            nothing = ~real if rows == "each its own" and fill == "not counted" else positions < 0
            positions = positions.masked_fill(nothing, int(at_fill))
        if columns == "all":
            return positions
        return positions[:, :n_new] if columns == "first" else positions[:, S - n_new :]

    return offsets


def _negative(real: torch.Tensor, n_new: int) -> torch.Tensor:
    S = real.shape[1]
    fill = (~real).sum(dim=1, keepdim=True)  # (B, 1)
    return torch.arange(S - n_new, S) - fill


def _by_subtraction(real: torch.Tensor, n_new: int) -> torch.Tensor:
    S = real.size(1)
    fill = S - real.sum(dim=1, keepdim=True)  # (B, 1)
    return (torch.arange(S - n_new, S) - fill).clamp(min=0)  # (B, T)


def _by_loops(real: torch.Tensor, n_new: int) -> torch.Tensor:
    rows = []
    for row in real.tolist():
        position, found = 0, []
        for token in row:
            found.append(position if token else 0)
            position += token
        rows.append(found[len(row) - n_new :])
    return torch.tensor(rows)


def _from_the_end(real: torch.Tensor, n_new: int) -> torch.Tensor:
    last = real.sum(dim=1) - 1  # (B,): the last token's position
    back = torch.arange(n_new - 1, -1, -1)  # (T,)
    return torch.relu(last[:, None] - back)


def _one_step_a_token(case: Case, got: dict[str, Any]) -> bool:
    real, n_new = case.given["real"], case.given["n_new"]
    assert isinstance(real, torch.Tensor)
    assert isinstance(n_new, int)
    both = real[:, -n_new:][:, 1:] & real[:, -n_new:][:, :-1]  # (B, T - 1)
    return bool((got["positions"].diff(dim=1)[both] == 1).all())


def _chunks_agree(case: Case, got: dict[str, Any]) -> bool:
    n_new = case.given["n_new"]
    assert isinstance(n_new, int)
    whole, part = got["whole.positions"], got["positions"]
    return bool((whole[:, whole.shape[1] - n_new :] == part).all())


def _first_is_zero(case: Case, got: dict[str, Any]) -> bool:
    real = case.given["real"]
    assert isinstance(real, torch.Tensor)
    whole = got["whole.positions"]
    first = real.long().argmax(dim=1)  # (B,): where each row's text begins
    return bool((whole[torch.arange(len(whole)), first] == 0).all())


EXERCISE = Exercise(
    id="positions.offsets",
    title="Positions with padding and a cache",
    minutes=12,
    points=3,
    signature="offsets(real, n_new)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_subtraction, _by_loops, _from_the_end),
    misconceptions=(
        Misconception(
            "fill is counted",
            "You count the fill, so a row's position depends on what else is in the batch. Its first token has "
            "position 0, however much fill stands before it.",
            changes={"fill": "counted"},
        ),
        Misconception(
            "restarts at 0 after the cache",
            "Your positions start from 0 again at the first new token. What was read before stands in front of it: go "
            "on counting from there.",
            changes={"cache": "forgotten"},
        ),
        Misconception(
            "counts from 1",
            "You are one too far: a running sum is 1 at the first token, and its position is 0.",
            changes={"start": 1},
        ),
        Misconception(
            "one too few",
            "You are one behind. If a row has read n tokens, the next one has position n, not n - 1.",
            changes={"start": -1},
        ),
        Misconception(
            "the first row's positions for all",
            "Every row of yours has the positions of row 0. Rows have different amounts of fill, so each needs a count "
            "of its own: (B, T), not one row for the batch.",
            changes={"rows": "the first row's"},
        ),
        Misconception(
            "the longest row's positions for all",
            "Every row of yours has the positions of the row with the most tokens. The shorter ones began later: each "
            "row needs a count of its own.",
            changes={"rows": "the longest row's"},
        ),
        Misconception(
            "negative at fill",
            "Your fill has negative positions. In a table of vectors, -1 is the last row, and further down there is "
            "an error; fill is to get 0.",
            _negative,
        ),
        Misconception(
            "-1 at fill",
            "Your fill has position -1, where a running sum less one begins. In a table of vectors that is the last "
            "row; fill is to get 0.",
            changes={"at_fill": "-1"},
        ),
        Misconception(
            "1 at fill",
            "Your fill has position 1. Any number that exists would do, since nobody looks there, but this exercise "
            "asks for 0.",
            changes={"at_fill": "1"},
        ),
        Misconception(
            "fill is taken off twice",
            "You count real tokens alone, and then take off the fill as well. A running sum of real has left it out "
            "already.",
            changes={"fill": "twice"},
        ),
        Misconception(
            "the positions of everything",
            "You return all S positions. The cached tokens have theirs already: return the last n_new columns.",
            changes={"columns": "all"},
        ),
        Misconception(
            "the first columns",
            "You return the first n_new columns. The new tokens are the last ones: what was read before stands in "
            "front of them.",
            changes={"columns": "first"},
        ),
    ),
    properties=(
        Property(
            "one step a token",
            _one_step_a_token,
            "From a token to the next in the same row, the position must rise by 1.",
            0.15,
            ("positions",),
        ),
        Property(
            "in one go or in two, the same",
            _chunks_agree,
            "If nothing had been read before, the same tokens must get the same positions: offsets(real, S) must end "
            "with what offsets(real, n_new) gives.",
            0.2,
            ("positions", "whole.positions"),
        ),
        Property(
            "a text begins at 0",
            _first_is_zero,
            "When all of a row is new, its first token that is no fill must have position 0.",
            0.2,
            ("whole.positions",),
        ),
    ),
    hints=(
        "A token's position is the number of real tokens before it in its own row, those in the cache included.",
        "real.cumsum(dim=1) is, at a token, the number of real tokens up to and with it. One too many, then; and at "
        "fill, one too few. Only the last n_new columns are asked for.",
        "positions = (real.cumsum(dim=1) - 1).clamp(min=0); return positions[:, -n_new:].",
    ),
)
