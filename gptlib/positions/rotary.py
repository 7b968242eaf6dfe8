"""Rotary positions: queries and keys are turned by angles that grow with the position, so scores know the distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptlib.positions.scaling import RotaryScaling, rotary_frequencies


def rotary_angles(
    positions: Tensor,
    head_dim: int,
    *,
    base: float = 10_000.0,
    scaling: RotaryScaling | None = None,
    length: int | None = None,
) -> Tensor:
    """Angles by which a vector at each position is turned, one for each of the D/2 planes of a head.

    Args:
        positions: (...), integers.
        head_dim: D, even.
        base: the slowest plane turns by about 1/base radians a position, the fastest by 1.
        scaling: slows the planes, for longer texts.
        length: of the text in tokens; only a scaling of kind "dynamic" asks.

    Returns:
        (..., D/2) in radians, fp32, where a large angle keeps its fraction.
    """
    frequencies = rotary_frequencies(head_dim, base=base, scaling=scaling, length=length, device=positions.device)
    return positions.float()[..., None] * frequencies  # (..., 1) * (D/2,) -> (..., D/2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each vector of `x` by its position's angles.

    Dimension i and dimension i + D/2 form a plane, as in transformers; the paper, and Meta's own code of Llama, pair
    neighbours, which is the same up to the order of dimensions. Lengths stay, and q·k of two turned vectors depends on
    their distance alone.

    Args:
        x: (..., T, D), D even.
        cos: (T, D/2), cosines of `rotary_angles`.
        sin: (T, D/2), sines of the same angles.

    Source: Su et al., "RoFormer" (2021), equation 34.
    """
    first, second = x.chunk(2, dim=-1)  # 2 × (..., T, D/2)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)  # (..., T, D)


class Rotary(nn.Module):
    """Rotary positions for heads of `head_dim` dimensions: `rotate`, with cosines and sines kept for `n_positions`.

    Positions beyond the table are computed when they occur, so the model can be asked about them; whether it was
    trained to understand them is another matter, and what `scaling` is for.

    Raises:
        ValueError: if `head_dim` is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, n_positions: int, head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None
    ) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"a head of {head_dim} dimensions cannot be split into planes; make n_embd / n_head even")
        self.head_dim = head_dim
        self.base = base
        self.scaling = scaling
        if scaling is not None and scaling.kind == "dynamic":  # beyond that, the length of the text decides
            n_positions = min(n_positions, scaling.original_n_positions or n_positions)
        cos, sin = self._turns(torch.arange(n_positions))  # (n_positions, D/2)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """Turn `x` (..., T, D), whose first vector stands at position `start`, or at its row's own of (B,).

        Raises:
            ValueError: for "dynamic" scaling beyond its original length, if a row does not start at position 0.
        """
        T = x.size(-2)
        if not isinstance(start, Tensor) and start + T <= self.cos.size(0):
            cos, sin = self.cos[start : start + T], self.sin[start : start + T]  # (T, D/2)
        else:
            first = start[:, None, None] if isinstance(start, Tensor) else start  # (B, 1, 1): the same for all heads
            positions = first + torch.arange(T, device=x.device)  # (T,) or (B, 1, T)
            cos, sin = self._turns(positions, self._length(start, T))  # (T, D/2) or (B, 1, T, D/2)
        return rotate(x, cos.to(x.dtype), sin.to(x.dtype))

    def _turns(self, positions: Tensor, length: int | None = None) -> tuple[Tensor, Tensor]:
        angles = rotary_angles(positions, self.head_dim, base=self.base, scaling=self.scaling, length=length)
        scale = 1.0 if self.scaling is None else self.scaling.attention_scale
        return angles.cos() * scale, angles.sin() * scale

    def _length(self, start: int | Tensor, T: int) -> int | None:
        if self.scaling is None or self.scaling.kind != "dynamic":
            return None
        original = self.scaling.original_n_positions or 0
        length = T + (int(start.max()) if isinstance(start, Tensor) else start)
        if length > original and (isinstance(start, Tensor) or start > 0):
            raise ValueError(
                f"{length} tokens, and beyond original_n_positions={original} dynamic scaling turns every key anew as "
                f"the text grows; use neither cache nor padding there, or kind='ntk'"
            )
        return length
