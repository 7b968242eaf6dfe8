"""The same weights under two sets of names: ours, and those of transformers' GPT-2 and Llama."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlib.config import GPTConfig

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}

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


def config_from_transformers(theirs: Any) -> GPTConfig:
    """Our config for a transformers GPT-2 or Llama config.

    Raises:
        ValueError: for another kind of model, or an option that changes the numbers and that `GPT` does not have.
    """
    if theirs.model_type == "gpt2":
        _refuse(theirs, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
        if theirs.activation_function not in _ACTIVATIONS:
            raise ValueError(f"activation {theirs.activation_function!r} is none of {', '.join(_ACTIVATIONS)}")
        return GPTConfig(
            vocab_size=theirs.vocab_size,
            n_positions=theirs.n_positions,
            n_embd=theirs.n_embd,
            n_layer=theirs.n_layer,
            n_head=theirs.n_head,
            n_inner=theirs.n_inner,
            mlp=_ACTIVATIONS[theirs.activation_function],
            norm_eps=theirs.layer_norm_epsilon,
            tie_weights=theirs.tie_word_embeddings,
        )
    if theirs.model_type == "llama":
        _refuse(theirs, attention_bias=False, mlp_bias=False, hidden_act="silu")
        rope = getattr(theirs, "rope_parameters", None) or {"rope_theta": theirs.rope_theta}
        if rope.get("rope_type", "default") != "default":
            raise ValueError(f"rotary positions of type {rope['rope_type']!r} are not supported; only the default is")
        return GPTConfig(
            vocab_size=theirs.vocab_size,
            n_positions=theirs.max_position_embeddings,
            n_embd=theirs.hidden_size,
            n_layer=theirs.num_hidden_layers,
            n_head=theirs.num_attention_heads,
            n_kv_head=theirs.num_key_value_heads,
            n_inner=theirs.intermediate_size,
            bias=False,
            position="rotary",
            rotary_base=float(rope["rope_theta"]),
            norm="rmsnorm",
            norm_eps=theirs.rms_norm_eps,
            mlp="swiglu",
            tie_weights=theirs.tie_word_embeddings,
        )
    raise ValueError(f"models of type {theirs.model_type!r} cannot be loaded; gpt2 and llama can")


def _refuse(theirs: Any, **needed: object) -> None:
    for name, value in needed.items():
        if getattr(theirs, name, value) != value:
            raise ValueError(f"{name}={getattr(theirs, name)!r} is not supported; only {value!r} is")


def weights_from_transformers(config: GPTConfig, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the weights of a transformers model with that config."""
    if config.position == "learned":
        ours = {name: theirs[other] for name, other in _outside(config, _GPT2)}
        for name, other, transposed in _gpt2_blocks(config):
            ours[name] = theirs[other].t().contiguous() if transposed else theirs[other]
        return ours
    ours = {name: theirs[other] for name, other in _outside(config, _LLAMA)}
    for i in range(config.n_layer):
        parts = [theirs[f"model.layers.{i}.self_attn.{part}_proj.weight"] for part in "qkv"]
        ours[f"blocks.{i}.attention.qkv.weight"] = torch.cat(parts)  # (H·D + 2 n_kv_head·D, C)
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
    for i in range(config.n_layer):
        for part, weight in zip("qkv", torch.split(ours[f"blocks.{i}.attention.qkv.weight"], sizes), strict=True):
            theirs[f"model.layers.{i}.self_attn.{part}_proj.weight"] = weight.contiguous()
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


def _llama_blocks(config: GPTConfig) -> Iterator[tuple[str, str]]:
    for i in range(config.n_layer):
        for ours, theirs in _LLAMA_BLOCK.items():
            yield f"blocks.{i}.{ours}.weight", f"model.layers.{i}.{theirs}.weight"


def config_to_transformers(config: GPTConfig) -> Any:
    """The transformers config that describes our model: GPT-2 for learned positions, Llama for rotary ones.

    Raises:
        ValueError: if no architecture of transformers computes the same numbers.
    """
    import transformers

    llama = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}
    gpt2 = {"position": "learned", "norm": "layernorm", "bias": True, "kv_heads": config.n_head}
    common = {"norm_order": "pre", "window": None, "qk_norm": False, "attention_bias": config.bias}
    if _differs(config, llama | common) is None:
        return transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.n_positions,
            hidden_size=config.n_embd,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.kv_heads,
            intermediate_size=config.inner,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
            tie_word_embeddings=config.tie_weights,
        )
    if config.mlp in _ACTIVATIONS.values() and (differs := _differs(config, gpt2 | common)) is None:
        return transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.n_positions,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_inner=config.inner,
            activation_function=next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.mlp),
            layer_norm_epsilon=config.norm_eps,
            tie_word_embeddings=config.tie_weights,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
        )
    closest = llama if config.position == "rotary" else gpt2
    differs = _differs(config, closest | common) or f"mlp={config.mlp!r}"
    raise ValueError(f"transformers has no architecture for this model ({differs}); use Llama's or GPT-2's parts")


def _differs(config: GPTConfig, needed: dict[str, Any]) -> str | None:
    return next((f"{n}={getattr(config, n)!r}" for n, value in needed.items() if getattr(config, n) != value), None)


class TransformersTokenizer:
    """A tokenizer of transformers behind the interface of ours, for models whose rules `BPETokenizer` does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.vocab_size: int = len(inner)
        self.end_id: int | None = inner.eos_token_id

    @classmethod
    def find(cls, source: str, **options: Any) -> TransformersTokenizer | None:
        """The tokenizer that goes with a model, or None when it has none."""
        import transformers

        if Path(source).is_dir() and not options and not any(Path(source).glob("*token*")):
            return None
        return cls(transformers.AutoTokenizer.from_pretrained(source, **options))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without marks of beginning or end."""
        return list(self.inner.encode(text, add_special_tokens=False))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`."""
        return str(self.inner.decode(list(ids), clean_up_tokenization_spaces=False))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each id's own text, for labels."""
        return [self.decode([i]) for i in ids]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write tokenizer.json."""
        self.inner.backend_tokenizer.save(str(path))
        return Path(path)
