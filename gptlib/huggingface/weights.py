"""Names of weights: ours, and those of transformers' GPT-2, Llama and its kin; numbers are moved and never changed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gptlib.config import GPTConfig

# Ours to theirs, for what stands outside the blocks and for what stands in block {i}.
_GPT2 = {
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "lm_head.weight": "lm_head.weight",
}
_GPT2_BLOCK = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.project": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.widen": "mlp.c_fc",
    "mlp.narrow": "mlp.c_proj",
}
_LLAMA = {
    "token_embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_LLAMA_BLOCK = {
    "norm1": "input_layernorm",
    "attention.project": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.widen": "mlp.up_proj",
    "mlp.narrow": "mlp.down_proj",
}


def weights_from_transformers(config: GPTConfig, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the weights of a transformers model with that config."""
    if config.position == "learned":
        ours = {name: theirs[other] for name, other in _outside(config, _GPT2)}
        for name, other, transposed in _gpt2_blocks(config):
            ours[name] = theirs[other].t().contiguous() if transposed else theirs[other]
        return ours
    ours = {name: theirs[other] for name, other in _outside(config, _LLAMA)}
    for name, others in _llama_qkv(config):
        ours[name] = torch.cat([theirs[other] for other in others])  # (H·D + 2 n_kv_head·D, C), of a bias without C
    ours.update({name: theirs[other] for name, other in _llama_blocks(config)})
    return ours


def weights_to_transformers(config: GPTConfig, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `weights_from_transformers`."""
    if config.position == "learned":
        theirs = {other: ours[name] for name, other in _outside(config, _GPT2)}
        for name, other, transposed in _gpt2_blocks(config):
            theirs[other] = ours[name].t().contiguous() if transposed else ours[name]
        return theirs
    theirs = {other: ours[name] for name, other in _outside(config, _LLAMA)}
    sizes = [n * config.head_dim for n in (config.n_head, config.kv_heads, config.kv_heads)]
    for name, others in _llama_qkv(config):
        parts = torch.split(ours[name], sizes)  # of H·D, n_kv_head·D and n_kv_head·D rows
        theirs.update({other: part.contiguous() for other, part in zip(others, parts, strict=True)})
    theirs.update({other: ours[name] for name, other in _llama_blocks(config)})
    return theirs


def _outside(config: GPTConfig, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((n, o) for n, o in names.items() if not (config.tie_weights and n == "lm_head.weight"))


def _gpt2_blocks(config: GPTConfig) -> Iterator[tuple[str, str, bool]]:
    for i in range(config.n_layer):
        for ours, theirs in _GPT2_BLOCK.items():
            # GPT-2 keeps its linear maps as (in, out), the other way round than nn.Linear.
            yield f"blocks.{i}.{ours}.weight", f"transformer.h.{i}.{theirs}.weight", "norm" not in ours
            yield f"blocks.{i}.{ours}.bias", f"transformer.h.{i}.{theirs}.bias", False


def _llama_qkv(config: GPTConfig) -> Iterator[tuple[str, list[str]]]:
    for i in range(config.n_layer):
        for kind in ("weight", "bias") if config.attention_bias else ("weight",):
            others = [f"model.layers.{i}.self_attn.{part}_proj.{kind}" for part in "qkv"]
            yield f"blocks.{i}.attention.qkv.{kind}", others


def _llama_blocks(config: GPTConfig) -> Iterator[tuple[str, str]]:
    for i in range(config.n_layer):
        for ours, theirs in _LLAMA_BLOCK.items():
            yield f"blocks.{i}.{ours}.weight", f"model.layers.{i}.{theirs}.weight"
            if config.bias and "norm" not in ours:
                yield f"blocks.{i}.{ours}.bias", f"model.layers.{i}.{theirs}.bias"
        for part in ("q_norm", "k_norm") if config.qk_norm else ():
            yield f"blocks.{i}.attention.{part}.weight", f"model.layers.{i}.self_attn.{part}.weight"
