"""Put the heads side by side again."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, H: int, T: int, D: int) -> Case:
        # As attention leaves it: exchanged dimensions, so that memory and shape differ.
        return Case({"heads": normal(rng, B, H, T, D)})

    a, b, c, d = sizes(rng, 4, 2, 7)
    return [case(1, 2, 2, 3), case(1, 3, 1, 2), case(2, 1, 3, 4), case(2, 3, 5, 4), case(a, b, c, d), case(d, c, b, a)]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(heads: Any) -> Any:
        return answer(heads)

    own, other = copies(given), copies(given)
    other["heads"][:, :, -1] += 1
    found = {"x": tensor(call(**own))} | afterwards(own) | gradients(call, given, "heads")
    return found | {"changed.x": tensor(call(**other))}


def _build(*, order: str = "positions first", features: str = "heads first", heads_are: str = "side by side") -> Answer:
    def merge(heads: torch.Tensor) -> torch.Tensor:
        B, H, T, D = heads.shape
        if heads_are == "added":
            return heads.sum(1)  # (B, T, D)
        if heads_are == "averaged":
            return heads.mean(1)  # (B, T, D)
        if order == "no transpose":
            return heads.reshape(B, T, H * D)
        if order == "behind each other":
            return heads.reshape(B, H * T, D)
        rows = heads.transpose(1, 2)  # (B, T, H, D)
        rows = rows if features == "heads first" else rows.transpose(2, 3)  # (B, T, D, H)
        return rows.reshape(B, T, H * D)

    return merge


def _view(heads: torch.Tensor) -> torch.Tensor:
    B, H, T, D = heads.shape
    return heads.transpose(1, 2).view(B, T, H * D)


def _four_dimensions(heads: torch.Tensor) -> torch.Tensor:
    return heads.transpose(1, 2)


def _last_head_first(heads: torch.Tensor) -> torch.Tensor:
    return torch.cat([*reversed(heads.unbind(1))], dim=-1)


def _by_slices(heads: torch.Tensor) -> torch.Tensor:
    B, H, T, D = heads.shape
    x = torch.zeros(B, T, H * D)
    for h in range(H):
        x[:, :, h * D : (h + 1) * D] = heads[:, h]
    return x


def _own_position(case: Case, got: dict[str, Any]) -> bool:
    change = (got["changed.x"] - got["x"]).abs()
    return not change[:, :-1].any() and bool((change[:, -1] > 0).all())


def _runs_stay(case: Case, got: dict[str, Any]) -> bool:
    heads, x = case.given["heads"], got["x"]
    assert isinstance(heads, torch.Tensor)
    rows = {tuple(row) for row in heads.flatten(0, 2).tolist()}
    return all(tuple(row) in rows for row in x.reshape(-1, heads.shape[-1]).tolist())


EXERCISE = Exercise(
    id="heads.merge",
    title="Put the heads together",
    minutes=5,
    points=2,
    signature="merge(heads)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    alternatives=(
        _by_slices,
        lambda heads: torch.cat(heads.unbind(1), dim=-1),
        lambda heads: heads.permute(0, 2, 1, 3).flatten(2),
        lambda heads: heads.transpose(1, 2).contiguous().view(heads.size(0), heads.size(2), -1),
    ),
    misconceptions=(
        Misconception(
            "reshape alone",
            "You reshape to (B, T, C) in one step. The shape is right, and the rows are mixed up: reshape keeps the "
            "order in memory, where one head's positions stand behind each other. Exchange H and T first.",
            _build(order="no transpose"),
        ),
        Misconception(
            "view after transpose",
            "The idea is right, but view only gives memory another shape, and after transpose the numbers stand in "
            "another order than the shape says. reshape copies them when it must; so does contiguous() before view.",
            _view,
        ),
        Misconception(
            "features before heads",
            "You put feature 0 of all heads first, then feature 1. The heads stand side by side, each with its D "
            "features together, so that merge undoes split.",
            _build(features="features first"),
        ),
        Misconception(
            "heads behind each other",
            "You put the heads behind each other, as if each brought new positions: (B, H · T, D). They are side by "
            "side: the positions stay, the features add up to C.",
            _build(order="behind each other"),
        ),
        Misconception(
            "adds the heads",
            "You add the heads up. Each found something of its own, and a sum cannot tell which: put them side by side "
            "and leave the mixing to the projection that follows.",
            _build(heads_are="added"),
        ),
        Misconception(
            "averages the heads",
            "You average over the heads. Each found something of its own: put them side by side, H · D features long.",
            _build(heads_are="averaged"),
        ),
        Misconception(
            "four dimensions left",
            "Your result still has four dimensions, (B, T, H, D). Make the last two into one of length H · D.",
            _four_dimensions,
        ),
        Misconception(
            "last head first",
            "Your heads stand in the reverse order: head 0 comes first.",
            _last_head_first,
        ),
    ),
    properties=(
        Property(
            "a position's features stay at that position",
            _own_position,
            "Changing all heads at the last position must change the whole last row of x, and nothing else.",
            0.25,
            ("x", "changed.x"),
        ),
        Property(
            "each head's features stay together",
            _runs_stay,
            "Each row of x must be made of whole rows of heads.",
            0.25,
            ("x",),
        ),
    ),
    hints=(
        "It is split backwards: its two steps, each undone, in the other order.",
        "First exchange H and T, which gives (B, T, H, D). Then make the last two dimensions into one, with reshape "
        "rather than view.",
        "B, H, T, D = heads.shape; heads.transpose(1, 2).reshape(B, T, H * D).",
    ),
)
