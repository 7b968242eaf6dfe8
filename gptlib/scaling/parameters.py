"""Every parameter of a config's model: its name, its shape, and how many there are in each part."""

from __future__ import annotations

import math

from gptlib.config import GPTConfig
from gptlib.layers import GATES
from gptlib.scaling.count import Count


def parameter_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, under the name that it has in `GPT(config)`.

    Example:
        >>> parameter_shapes(GPTConfig.preset("gpt2"))["blocks.11.attention.qkv.weight"]
        (2304, 768)
    """
    C, I, D = config.n_embd, config.inner, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (config.vocab_size, C)}
    if config.position == "learned":
        shapes["position_embedding.weight"] = (config.n_positions, C)
    for i in range(config.n_layer):
        block = f"blocks.{i}"
        shapes |= _norm(f"{block}.norm1", config)
        shapes |= _linear(f"{block}.attention.qkv", C, (config.n_head + 2 * config.kv_heads) * D, config.attention_bias)
        shapes |= _linear(f"{block}.attention.project", C, C, config.bias)
        if config.qk_norm:
            shapes |= {f"{block}.attention.{name}_norm.weight": (D,) for name in "qk"}
        shapes |= _norm(f"{block}.norm2", config)
        if config.mlp in GATES:
            shapes |= _linear(f"{block}.mlp.gate", C, I, config.bias)
        shapes |= _linear(f"{block}.mlp.widen", C, I, config.bias)
        shapes |= _linear(f"{block}.mlp.narrow", I, C, config.bias)
    if config.norm_order == "pre":
        shapes |= _norm("norm", config)
    if not config.tie_weights:
        shapes["lm_head.weight"] = (config.vocab_size, C)
    return shapes


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs, inputs)}
    return weight | {f"{name}.bias": (outputs,)} if bias else weight


def _norm(name: str, config: GPTConfig) -> dict[str, tuple[int, ...]]:
    shift = config.norm == "layernorm" and config.bias
    return {f"{name}.{part}": (config.n_embd,) for part in (["weight", "bias"] if shift else ["weight"])}


def parameters(config: GPTConfig) -> Count:
    """Parameters by part, a tied weight counted once; the total is `GPT(config).n_parameters()`.

    Example:
        >>> print(parameters(GPTConfig.preset("gpt2")))
        token embeddings      38,597,376  31.0 %
        position embeddings      786,432   0.6 %
        attention             28,348,416  22.8 %
        feed-forward          56,669,184  45.5 %
        norms                     38,400   0.0 %
        total                124,439,808  parameters
    """
    count = dict.fromkeys(
        ["token embeddings", "position embeddings", "attention", "feed-forward", "norms", "output map"], 0
    )
    for name, shape in parameter_shapes(config).items():
        count[_part(name)] += math.prod(shape)
    return Count(count, "parameters")


def _part(name: str) -> str:
    words = {
        "token_embedding": "token embeddings",
        "position_embedding": "position embeddings",
        "norm": "norms",
        "mlp": "feed-forward",
        "attention": "attention",
    }
    return next((part for word, part in words.items() if word in name), "output map")
