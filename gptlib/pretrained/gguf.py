"""GGUF, the file of llama.cpp: a GPT-2 or Llama in one piece, mostly quantised; here it is dequantised to fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlib.config import GPTConfig
from gptlib.positions import RotaryScaling, rotary_frequencies

# Theirs to ours, for what stands outside the blocks and for what stands in blk.{i}.
_OUTSIDE = {
    "token_embd": "token_embedding",
    "position_embd": "position_embedding",
    "output_norm": "norm",
    "output": "lm_head",
}
_BLOCK = {
    "attn_norm": "norm1",
    "attn_qkv": "attention.qkv",
    "attn_output": "attention.project",
    "ffn_norm": "norm2",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.widen",
    "ffn_down": "mlp.narrow",
}
_QKV = ("attn_q", "attn_k", "attn_v")
_LLAMA_3 = {"original_n_positions": 8192, "slow_turns": 1.0, "fast_turns": 4.0}


def read_gguf(path: Path) -> tuple[GPTConfig, dict[str, Tensor], bool]:
    """Config and weights, by our names, of the GPT-2 or Llama in a .gguf file, and whether a tokenizer is in it too.

    Raises:
        ValueError: if the file is damaged, or holds something else.
        ImportError: without the package `gguf`.
    """
    try:
        import gguf
    except ImportError:
        raise ImportError(f"{path} needs the package gguf to be read; pip install gguf") from None
    try:
        reader = gguf.GGUFReader(path)
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is no whole GGUF file ({error}); fetch it again") from None

    about = _Metadata(path, reader.fields)
    if about.kind not in ("llama", "gpt2"):
        raise ValueError(f"{path} holds a model of type {about.kind!r}; gpt2 and llama can be loaded")
    weights = {n: torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type)) for n, tensor in tensors.items()}
    config = _gpt2(about, weights) if about.kind == "gpt2" else _llama(about, weights)
    return config, _ours(config, weights), "tokenizer.ggml.tokens" in reader.fields


class _Metadata:
    """The keys and values in front of the tensors."""

    def __init__(self, path: Path, fields: Any) -> None:
        self.path, self.fields = path, fields
        self.kind = str(self._value("general.architecture"))

    def _value(self, key: str) -> Any:
        field = self.fields.get(key)
        if field is None:
            return None
        raw = field.parts[field.data[0]]
        return bytes(raw).decode() if field.types[0].name == "STRING" else raw[0].item()

    def __call__(self, key: str, default: Any = None) -> Any:
        value = self._value(f"{self.kind}.{key}")
        if value is None and default is None:
            raise ValueError(f"{self.path} does not say its {self.kind}.{key}, so no model can be built from it")
        return default if value is None else value


def _gpt2(about: _Metadata, weights: dict[str, Tensor]) -> GPTConfig:
    return GPTConfig(
        vocab_size=weights["token_embd.weight"].size(0),
        n_positions=about("context_length"),
        n_embd=about("embedding_length"),
        n_layer=about("block_count"),
        n_head=about("attention.head_count"),
        n_inner=about("feed_forward_length"),
        norm_eps=about("attention.layer_norm_epsilon"),
        tie_weights=_tie(weights),
    )


def _llama(about: _Metadata, weights: dict[str, Tensor]) -> GPTConfig:
    if about("expert_count", 0):
        raise ValueError(f"{about.path} holds a mixture of {about('expert_count')} experts, which GPT does not have")
    n_embd, n_head, base = about("embedding_length"), about("attention.head_count"), about("rope.freq_base", 10_000.0)
    bias, qkv_bias = "blk.0.ffn_down.bias" in weights, "blk.0.attn_q.bias" in weights
    for key in ("rope.dimension_count", "attention.key_length"):
        if about(key, n_embd // n_head) != n_embd // n_head:
            raise ValueError(
                f"{about.path} has {key}={about(key)}, and only embedding_length / head_count is supported"
            )
    return GPTConfig(
        vocab_size=weights["token_embd.weight"].size(0),
        n_positions=about("context_length"),
        n_embd=n_embd,
        n_layer=about("block_count"),
        n_head=n_head,
        n_kv_head=about("attention.head_count_kv", n_head),
        n_inner=about("feed_forward_length"),
        bias=bias,
        qkv_bias=None if qkv_bias == bias else qkv_bias,
        position="rotary",
        rotary_base=base,
        rotary_scaling=_scaling(about, weights, n_embd // n_head, base),
        norm="rmsnorm",
        norm_eps=about("attention.layer_norm_rms_epsilon"),
        mlp="swiglu",
        tie_weights=_tie(weights),
    )


def _tie(weights: dict[str, Tensor]) -> bool:
    return "output.weight" not in weights or torch.equal(weights["output.weight"], weights["token_embd.weight"])


def _scaling(about: _Metadata, weights: dict[str, Tensor], head_dim: int, base: float) -> RotaryScaling | None:
    slowed_by = weights.pop("rope_freqs.weight", None)  # (D/2,): Llama 3's rule, worked out
    kind = about("rope.scaling.type", "none")
    if slowed_by is not None:
        scaling = RotaryScaling("llama3", factor=slowed_by.max().item(), **_LLAMA_3)  # type: ignore[arg-type]
        expected = rotary_frequencies(head_dim, base=base) / rotary_frequencies(head_dim, base=base, scaling=scaling)
        if torch.allclose(slowed_by, expected, rtol=1e-3):
            return scaling
        raise ValueError(f"{about.path} slows its rotary planes by a rule that is not Llama 3's")
    if kind == "linear":
        return RotaryScaling("linear", about("rope.scaling.factor"))
    if kind != "none":
        raise ValueError(
            f"{about.path} scales rotary positions by {kind!r}; from a GGUF file linear and llama3 are read"
        )
    return None


def _ours(config: GPTConfig, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    parts: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        place, _, kind = name.rpartition(".")  # kind is weight or bias
        block, _, part = place.rpartition(".")  # block is blk.3, or nothing
        prefix = block.replace("blk", "blocks")
        if part in _QKV:
            parts[name] = _halves(tensor, config.head_dim) if part != "attn_v" else tensor
        elif block:
            ours[f"{prefix}.{_BLOCK.get(part, part)}.{kind}"] = tensor
        elif not (config.tie_weights and part == "output"):
            ours[f"{_OUTSIDE.get(part, part)}.{kind}"] = tensor
    for name in [name for name in parts if ".attn_q." in name]:
        qkv = [parts[name.replace("attn_q", part)] for part in _QKV if name.replace("attn_q", part) in parts]
        ours[name.replace("blk", "blocks").replace("attn_q", "attention.qkv")] = torch.cat(qkv)
    return ours


def _halves(tensor: Tensor, head_dim: int) -> Tensor:
    # llama.cpp's rotary planes are neighbours, as in the paper; ours are dimension i and i + D/2.
    heads = tensor.reshape(-1, head_dim // 2, 2, *tensor.shape[1:])  # (H · D, ...) -> (H, D/2, 2, ...)
    return heads.transpose(1, 2).reshape(tensor.shape)  # (H, 2, D/2, ...) -> (H · D, ...)
