"""Bytes that training and writing need."""

from __future__ import annotations

import math
from typing import Literal

import torch

from gptlib.config import GPTConfig
from gptlib.layers import GATES
from gptlib.scaling.count import Count, require_at_least
from gptlib.scaling.flops import visible_positions
from gptlib.scaling.parameters import parameter_shapes, parameters

FLOAT, LONG = 4, 8  # bytes of a number of fp32, of a token id


def training_memory(
    config: GPTConfig,
    batch_size: int,
    n_tokens: int | None = None,
    *,
    optimizer: Literal["adamw", "muon"] = "adamw",
) -> Count:
    """What a training step in fp32 holds at its fullest, when the forward pass has ended and gradients are there.

    The temporary results of single operations come on top, and depend on the machine.

    Args:
        config: the model's.
        batch_size: rows of a pass, B.
        n_tokens: tokens of a row, T; `n_positions` if None.
        optimizer: as in `TrainConfig`.

    Returns:
        Bytes of weights, gradients, optimizer state and activations.

    Example:
        >>> memory = training_memory(GPTConfig.preset("gpt2"), batch_size=8)
        >>> [round(memory[part] / 1e9, 2) for part in memory]
        [0.5, 0.5, 1.0, 6.54]
    """
    weights = FLOAT * parameters(config).total
    return Count(
        {
            "weights": weights,
            "gradients": weights,
            "optimizer": optimizer_memory(config, optimizer),
            "activations": activation_memory(config, batch_size, n_tokens).total,
        },
        "bytes",
    )


def optimizer_memory(config: GPTConfig, optimizer: Literal["adamw", "muon"] = "adamw") -> int:
    """Bytes that the optimizer keeps from step to step, in fp32.

    AdamW keeps two numbers for each parameter, the means of its gradient and of the square, and for each tensor the
    number of steps. Muon keeps one, for the matrices inside the blocks; the rest is left to AdamW.

    Raises:
        ValueError: for another optimizer.
    """
    if optimizer not in ("adamw", "muon"):
        raise ValueError(f"optimizer={optimizer!r} is unknown; choose one of adamw, muon")
    total = 0
    for name, shape in parameter_shapes(config).items():
        by_muon = optimizer == "muon" and name.startswith("blocks.") and len(shape) == 2
        total += FLOAT * (math.prod(shape) if by_muon else 2 * math.prod(shape) + 1)
    return total


def activation_memory(config: GPTConfig, batch_size: int, n_tokens: int | None = None) -> Count:
    """What a forward pass in training keeps for its backward pass.

    Counted is each piece of memory once that autograd saves and that is neither a weight nor a table of positions, in
    fp32, with the fused attention of PyTorch's CPU kernels. It keeps the T · T weights of no head, only one number for
    each row of them (Dao et al., "FlashAttention", 2022, section 3.1); except with dropout, which that kernel does not
    do, so that weights, dropout mask and their product are kept. Kernels of other devices keep somewhat other pieces.

    Args:
        config: the model's.
        batch_size: rows, B.
        n_tokens: tokens of a row, T, as far as the table of positions reaches; `n_positions` if None.

    Returns:
        Bytes by part; what a map reads is counted with the part that the map is in. Exact for at least 2 tokens, 2
        heads and 4 features a head (and 2 rows, with dropout); below, PyTorch spares a copy here and makes one there.
    """
    T = config.n_positions if n_tokens is None else n_tokens
    require_at_least(1, batch_size=batch_size, n_tokens=T)
    n, C, L = batch_size * T, config.n_embd, config.n_layer
    dropped = n * C if config.dropout else 0  # the mask of a dropout, as numbers
    n_norms = 2 * L + (config.norm_order == "pre")
    embeddings = LONG * (n + (T if config.position == "learned" else 0)) + FLOAT * dropped
    output = FLOAT * (n * C + n * config.vocab_size + 1) + LONG * n  # log-probabilities; targets; how many there are
    return Count(
        {
            "embeddings": embeddings,
            "norms": FLOAT * n_norms * _norm(config, n),
            "attention": FLOAT * L * (n * C + _attention(config, batch_size, T) + dropped),
            "feed-forward": FLOAT * L * (n * C + _feed_forward(config, n) + dropped),
            "output and loss": output,
        },
        "bytes",
    )


def _norm(config: GPTConfig, n: int) -> int:
    if config.norm == "rmsnorm":
        return n * (2 * config.n_embd + 1)  # before and after the division, and what it divides by
    return n * (config.n_embd + 2)  # before, mean and deviation


def _attention(config: GPTConfig, B: int, T: int) -> int:
    n, H, K = B * T, config.n_head, config.kv_heads
    queries, keys = n * config.n_embd, n * K * config.head_dim  # numbers in them; as many values as keys
    heads = queries  # what the heads found, before it is projected
    norms = (queries + keys) + n * (H + K) if config.qk_norm else 0  # divided, and what they were divided by
    qkv = queries + 2 * keys  # the map's result, one piece of memory
    if config.dropout:
        copies = 3 * queries  # queries, keys and values, these last two repeated for every head
        weights = 3 * B * H * T * T  # before dropout, its mask, after
        return (qkv + norms if config.qk_norm else 0) + copies + weights + heads
    changed = config.qk_norm or config.position == "rotary"
    if changed:  # queries and keys in memory of their own, and the heads' results copied to be merged
        norms += queries + keys + heads
    mask = H * T * T if config.position == "alibi" else T * T if config.window is not None else 0
    return qkv + norms + heads + n * H + mask  # n · H: each row's log of the sum of its exponentials


def _feed_forward(config: GPTConfig, n: int) -> int:
    if config.mlp in GATES:
        return 4 * n * config.inner  # gate before and after its bend, its partner, their product
    return (1 if config.mlp == "relu" else 2) * n * config.inner  # ReLU's backward pass needs its result alone


def cache_memory(
    config: GPTConfig, n_positions: int | None = None, *, batch_size: int = 1, dtype: torch.dtype = torch.float32
) -> int:
    """Bytes of a `KVCache`: a key and a value for each layer, row, position and key-value head.

    Args:
        config: the model's; with a sliding window the cache holds `window` - 1 positions at most.
        n_positions: positions to hold; the config's if None.
        batch_size: rows, B.
        dtype: of keys and values.

    Example:
        >>> config = GPTConfig.preset("gpt2")
        >>> cache_memory(config, 1024)  # 2 · 12 layers · 1,024 positions · 768 features · 4 bytes
        75497472
    """
    n_positions = config.n_positions if n_positions is None else n_positions
    require_at_least(1, n_positions=n_positions, batch_size=batch_size)
    per_position = 2 * config.n_layer * config.kv_heads * config.head_dim
    return batch_size * visible_positions(config, n_positions) * per_position * dtype.itemsize
