"""ALiBi: no vectors at all, but a penalty on the scores that grows with distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
