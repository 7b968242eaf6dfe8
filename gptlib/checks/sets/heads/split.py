"""Cut the features into heads."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, H: int, D: int) -> Case:
        return Case({"x": normal(rng, B, T, H * D), "n_head": H})

    a, b, c, d = sizes(rng, 4, 2, 7)
    return [case(1, 2, 2, 3), case(1, 1, 3, 2), case(2, 3, 1, 4), case(2, 5, 3, 4), case(a, b, c, d), case(d, c, b, a)]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(x: Any, n_head: Any) -> Any:
        return answer(x, n_head)

    own, other = copies(given), copies(given)
    other["x"][:, -1] += 1
    found = {"heads": tensor(call(**own))} | afterwards(own) | gradients(call, given, "x")
    return found | {"changed.heads": tensor(call(**other))}


def _build(*, cut: str = "heads first", order: str = "B H T D") -> Answer:
    def split(x: torch.Tensor, n_head: int) -> torch.Tensor:
        B, T, C = x.shape
        H, D = n_head, C // n_head
        if cut == "heads first":
            heads = x.reshape(B, T, H, D)  # (B, T, H, D)
        elif cut == "features first":
            heads = x.reshape(B, T, D, H).transpose(2, 3)  # (B, T, H, D)
        else:
            heads = x.reshape(B, H, T, D).transpose(1, 2)  # (B, T, H, D), with positions mixed up
        return heads.permute(*{"B H T D": (0, 2, 1, 3), "B T H D": (0, 1, 2, 3), "H B T D": (2, 0, 1, 3)}[order])

    return split


def _repeats(x: torch.Tensor, n_head: int) -> torch.Tensor:
    return x[:, None].repeat(1, n_head, 1, 1)


def _size_is_n_head(x: torch.Tensor, n_head: int) -> torch.Tensor:
    B, T, C = x.shape
    return x.reshape(B, T, C // n_head, n_head).transpose(1, 2)  # (B, C / H, T, H)


def _transposed(x: torch.Tensor, n_head: int) -> torch.Tensor:
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head).permute(0, 2, 3, 1)  # (B, H, D, T)


def _by_chunks(x: torch.Tensor, n_head: int) -> torch.Tensor:
    return torch.stack(x.chunk(n_head, dim=-1), dim=1)


def _by_slices(x: torch.Tensor, n_head: int) -> torch.Tensor:
    D = x.size(-1) // n_head
    return torch.cat([x[:, None, :, h * D : (h + 1) * D] for h in range(n_head)], dim=1)


def _own_position(case: Case, got: dict[str, Any]) -> bool:
    change = (got["changed.heads"] - got["heads"]).abs()
    return not change[:, :, :-1].any() and bool((change[:, :, -1] > 0).all())


def _neighbours_stay(case: Case, got: dict[str, Any]) -> bool:
    x, heads = case.given["x"], got["heads"]
    assert isinstance(x, torch.Tensor)
    cut = x.reshape(*x.shape[:2], heads.shape[1], heads.shape[3])  # (B, T, H, D)
    rows = {tuple(row) for row in cut.flatten(0, 2).tolist()}
    return all(tuple(row) in rows for row in heads.flatten(0, 2).tolist())


EXERCISE = Exercise(
    id="heads.split",
    title="Cut the features into heads",
    minutes=6,
    points=2,
    signature="split(x, n_head)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(
        _by_chunks,
        _by_slices,
        lambda x, n_head: x.unflatten(-1, (n_head, -1)).transpose(1, 2),
        lambda x, n_head: x.view(*x.shape[:2], n_head, -1).permute(0, 2, 1, 3),
    ),
    misconceptions=(
        Misconception(
            "reshape alone",
            "You reshape to (B, H, T, D) in one step. The shape is right and the contents are not: reshape keeps the "
            "order in memory, so a head gets parts of other positions. Cut C into (H, D) first, then exchange T and H.",
            changes={"cut": "positions"},
        ),
        Misconception(
            "features before heads",
            "You cut C into (D, H), so that a head gets every H-th feature. A head is a run of D neighbouring "
            "features: cut C into (H, D).",
            changes={"cut": "features first"},
        ),
        Misconception(
            "not transposed",
            "Your result is (B, T, H, D). Attention multiplies the last two dimensions, and these must be T and D: "
            "exchange T and H.",
            changes={"order": "B T H D"},
        ),
        Misconception(
            "heads before the batch",
            "Your result is (H, B, T, D). The batch stays in front: (B, H, T, D).",
            changes={"order": "H B T D"},
        ),
        Misconception(
            "positions last",
            "Your result is (B, H, D, T). Rows are positions: (B, H, T, D).",
            _transposed,
        ),
        Misconception(
            "n_head taken for the size of a head",
            "You made heads of n_head features each. n_head says how many there are; each has C // n_head features.",
            _size_is_n_head,
        ),
        Misconception(
            "every head gets everything",
            "Each of your heads holds all C features. The heads share them out: each gets C // n_head, which is why "
            "many heads cost no more than one.",
            _repeats,
        ),
    ),
    properties=(
        Property(
            "a position's features stay at that position",
            _own_position,
            "Changing x at the last position must change the last row of every head, and nothing else.",
            0.25,
            ("heads", "changed.heads"),
        ),
        Property(
            "a head's features are neighbours in x",
            _neighbours_stay,
            "Each row of a head must be a run of D neighbouring features of x.",
            0.25,
            ("heads",),
        ),
    ),
    hints=(
        "Two steps: first cut the last dimension in two, then bring the heads in front of the positions.",
        "C features become H times D: a view or reshape to (B, T, H, D), with H before D. Only then exchange "
        "dimensions 1 and 2.",
        "B, T, C = x.shape; x.view(B, T, n_head, C // n_head).transpose(1, 2).",
    ),
)
