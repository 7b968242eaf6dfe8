"""Positions as vectors that are added to the token embeddings: the table of sines of 2017, and GPT-2's learned rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sinusoidal(n_positions: int, n_embd: int, *, base: float = 10_000.0) -> Tensor:
    """Table of sines and cosines of geometrically falling frequency.

    Args:
        n_positions: number of rows, T.
        n_embd: width C, even.
        base: ratio between the slowest and the fastest wavelength.

    Returns:
        (T, C): even columns hold sin(t · base^(-2i/C)), odd columns the cosine of the same angle.

    Raises:
        ValueError: if `n_embd` is odd.

    Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.5.
    """
    if n_embd % 2:
        raise ValueError(f"n_embd={n_embd} is odd, and sines come in pairs with cosines; try {n_embd + 1}")
    frequencies = base ** (-torch.arange(0, n_embd, 2, dtype=torch.float32) / n_embd)  # (C/2,)
    angles = torch.arange(n_positions, dtype=torch.float32)[:, None] * frequencies  # (T, C/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (T, C/2, 2) -> (T, C)


class SinusoidalPositions(nn.Module):
    """The fixed table of `sinusoidal`, looked up by position."""

    table: Tensor

    def __init__(self, n_positions: int, n_embd: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoidal(n_positions, n_embd), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Vectors (..., C) for `positions` (...), integers below `n_positions`."""
        return self.table[positions]


class LearnedPositions(nn.Embedding):
    """One learned vector a position, as in GPT-2; beyond `n_positions` there is none."""
