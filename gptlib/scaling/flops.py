"""Floating-point operations of reading, training and writing."""

from __future__ import annotations

from gptlib.config import GPTConfig
from gptlib.layers import GATES
from gptlib.scaling.count import Count, require_at_least


def forward_flops(
    config: GPTConfig, n_tokens: int, *, batch_size: int = 1, n_cached: int = 0, only_last: bool = False
) -> Count:
    """Floating-point operations of a forward pass: two for each multiply-and-add of its matrix products.

    What else there is (norms, activations, softmax) grows with the width and not with its square, and is not counted.
    Attention is counted over all T · S scores, as the plain form computes them; a kernel that skips what the causal
    mask or a window forbids does up to half, or nearly all, of these less.

    Args:
        config: the model's.
        n_tokens: tokens that are read in a row, T.
        batch_size: rows, B.
        n_cached: tokens read before, whose keys and values a cache holds; S = `n_cached` + T.
        only_last: logits of the last position alone, as decoding needs.

    Returns:
        FLOPs by part: the maps of attention (q, k, v and output), its scores and values, feed-forward, output map.

    Example:
        >>> count = forward_flops(GPTConfig.preset("gpt2"), 1024)
        >>> round(count.share("attention scores and values"), 2)
        0.13
    """
    require_at_least(1, n_tokens=n_tokens, batch_size=batch_size)
    require_at_least(0, n_cached=n_cached)
    C, n, L = config.n_embd, batch_size * n_tokens, config.n_layer
    n_keys = visible_positions(config, n_cached) + n_tokens
    maps = n * C * (C + 2 * config.kv_heads * config.head_dim) + n * C * C
    scores_and_values = 2 * batch_size * n_tokens * n_keys * C  # (T, D) @ (D, S) and (T, S) @ (S, D), in H heads
    matrices = 3 if config.mlp in GATES else 2
    logits = (batch_size if only_last else n) * C * config.vocab_size
    return Count(
        {
            "attention maps": 2 * L * maps,
            "attention scores and values": 2 * L * scores_and_values,
            "feed-forward": 2 * L * matrices * n * C * config.inner,
            "output map": 2 * logits,
        },
        "FLOPs",
    )


def training_flops(config: GPTConfig, n_tokens: int | None = None, *, batch_size: int = 1) -> Count:
    """Floating-point operations of a forward and a backward pass, counted as in `forward_flops`.

    Each product `x @ w` of the forward pass has two in the backward pass, one for the gradient of `x` and one for that
    of `w`, so a training step costs three forward passes. A fused kernel on a GPU computes the scores once more in its
    backward pass to save memory; that is work of the machine and not of the model, and is not counted.

    Args:
        config: the model's.
        n_tokens: tokens of a row, T; `n_positions` if None.
        batch_size: rows, B.

    Source: Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1, whose 6 N a token leaves out
    the scores and the values of attention.
    """
    forward = forward_flops(config, config.n_positions if n_tokens is None else n_tokens, batch_size=batch_size)
    return Count({part: 3 * amount for part, amount in forward.items()}, "FLOPs")


def training_flops_per_token(config: GPTConfig, n_tokens: int | None = None) -> float:
    """`training_flops` of one row, divided by its tokens."""
    n_tokens = config.n_positions if n_tokens is None else n_tokens
    return training_flops(config, n_tokens).total / n_tokens


def visible_positions(config: GPTConfig, n_cached: int) -> int:
    """How many of the cached positions are kept: with a window, what the next query can still see."""
    return n_cached if config.window is None else min(n_cached, config.window - 1)
