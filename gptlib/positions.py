"""How a model knows the order of its tokens: learned and sinusoidal vectors, rotations, and a bias on the scores."""

from __future__ import annotations

import math

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


def rotary_angles(positions: Tensor, head_dim: int, *, base: float = 10_000.0) -> Tensor:
    """Angles by which a vector at each position is turned, one for each of the D/2 planes of a head.

    Args:
        positions: (...), integers.
        head_dim: D, even.
        base: the slowest plane turns by about 1/base radians a position, the fastest by 1.

    Returns:
        (..., D/2) in radians, fp32, where a large angle keeps its fraction.
    """
    planes = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    return positions.float()[..., None] * base ** (-planes / head_dim)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each vector of `x` by its position's angles.

    Dimension i and dimension i + D/2 form a plane (Llama's pairing; the paper pairs neighbours, which is the same up to
    the order of dimensions). Lengths stay, and q·k of two turned vectors depends on their distance alone.

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
    trained to understand them is another matter.

    Raises:
        ValueError: if `head_dim` is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, n_positions: int, head_dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"a head of {head_dim} dimensions cannot be split into planes; make n_embd / n_head even")
        self.head_dim = head_dim
        self.base = base
        angles = rotary_angles(torch.arange(n_positions), head_dim, base=base)  # (n_positions, D/2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Turn `x` (..., T, D), whose first vector stands at position `start`."""
        end = start + x.size(-2)
        if end <= self.cos.size(0):
            cos, sin = self.cos[start:end], self.sin[start:end]  # (T, D/2)
        else:
            angles = rotary_angles(torch.arange(start, end, device=x.device), self.head_dim, base=self.base)
            cos, sin = angles.cos(), angles.sin()
        return rotate(x, cos.to(x.dtype), sin.to(x.dtype))


def alibi_slopes(n_head: int) -> Tensor:
    """Slope of each head's penalty on distance: 2^(-8/H), 2^(-16/H), … down to 2^-8: (H,).

    For H that is no power of two the paper's rule is followed: the slopes of the power below, then every second one
    of the power above.

    Source: Press, Smith & Lewis, "Train Short, Test Long" (2021), section 3.
    """
    below = 2 ** math.floor(math.log2(n_head))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    slopes += [2 ** (-4 * (2 * i + 1) / below) for i in range(n_head - below)]
    return torch.tensor(slopes)


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Bias to add to the scores: minus slope times distance.

    Args:
        slopes: (H,).
        query_positions: (T,).
        key_positions: (S,).

    Returns:
        (H, T, S), 0 where query and key are the same position.
    """
    distance = (query_positions[:, None] - key_positions).abs()  # (T, S)
    return -slopes[:, None, None] * distance  # (H, T, S)
