"""Configs of transformers' GPT-2, Llama and its kin, both ways; what one side cannot say is refused."""

from __future__ import annotations

import math
from typing import Any

from gptlib.config import GPTConfig
from gptlib.positions import RotaryScaling

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def config_from_transformers(theirs: Any) -> GPTConfig:
    """Our config for a transformers config of GPT-2, Llama or one of Llama's kin. Dropout is left at 0.

    Llama's kin are Mistral (Llama with a sliding window), Qwen2 (with biases on queries, keys and values alone) and
    Qwen3 (with normalised queries and keys). Refused, since `GPT` would compute other numbers:

    - any other model_type;
    - GPT-2 with cross-attention, with scores that are not divided by √D, or divided by the layer's number too;
    - Llama with biases in attention alone or in the feed-forward network alone (in both or in neither is fine); Qwen
      with a window in some layers, or Qwen3 with biases;
    - any of Llama's kin with another activation than SiLU, with heads wider or narrower than hidden_size /
      num_attention_heads, with only a part of a head rotated, or with rotary positions that differ between layers or
      are scaled by another rule than `RotaryScaling` has (LongRoPE).

    Raises:
        ValueError: for what is refused, naming the option.
    """
    if theirs.model_type == "gpt2":
        return _from_gpt2(theirs)
    if theirs.model_type == "llama":
        bias = bool(getattr(theirs, "attention_bias", False))
        if bool(getattr(theirs, "mlp_bias", False)) != bias:
            raise ValueError(f"attention_bias={bias} with mlp_bias={not bias} is not supported; both or neither is")
        return _from_llama(theirs, bias=bias)
    if theirs.model_type == "mistral":
        return _from_llama(theirs, window=theirs.sliding_window)
    if theirs.model_type == "qwen2":
        _refuse(theirs, use_sliding_window=False)
        return _from_llama(theirs, qkv_bias=True)
    if theirs.model_type == "qwen3":
        _refuse(theirs, use_sliding_window=False, attention_bias=False)
        return _from_llama(theirs, qk_norm=True)
    raise ValueError(
        f"models of type {theirs.model_type!r} cannot be loaded; gpt2, llama, mistral, qwen2 and qwen3 can"
    )


def _from_gpt2(theirs: Any) -> GPTConfig:
    _refuse(theirs, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
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


def _from_llama(theirs: Any, *, bias: bool = False, **differs: Any) -> GPTConfig:
    _refuse(theirs, hidden_act="silu")
    width, n_head = theirs.hidden_size, theirs.num_attention_heads
    if (getattr(theirs, "head_dim", None) or width // n_head) * n_head != width:
        raise ValueError(
            f"head_dim={theirs.head_dim} is not supported; only hidden_size / num_attention_heads is, here "
            f"{width / n_head:g}"
        )
    rope = dict(getattr(theirs, "rope_parameters", None) or {})
    return GPTConfig(
        vocab_size=theirs.vocab_size,
        n_positions=theirs.max_position_embeddings,
        n_embd=width,
        n_layer=theirs.num_hidden_layers,
        n_head=n_head,
        n_kv_head=theirs.num_key_value_heads,
        n_inner=theirs.intermediate_size,
        bias=bias,
        position="rotary",
        rotary_base=float(rope.get("rope_theta", 10_000.0)),
        rotary_scaling=_scaling_from_transformers(rope, theirs.max_position_embeddings),
        norm="rmsnorm",
        norm_eps=theirs.rms_norm_eps,
        mlp="swiglu",
        tie_weights=theirs.tie_word_embeddings,
        **differs,
    )


def _refuse(theirs: Any, **needed: object) -> None:
    for name, value in needed.items():
        if getattr(theirs, name, value) != value:
            raise ValueError(f"{name}={getattr(theirs, name)!r} is not supported; only {value!r} is")


def _scaling_from_transformers(rope: dict[str, Any], n_positions: int) -> RotaryScaling | None:
    if any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(f"rotary positions that differ between layers ({', '.join(rope)}) are not supported")
    kind = rope.get("rope_type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        part = rope["partial_rotary_factor"]
        raise ValueError(f"partial_rotary_factor={part} is not supported; only heads that are rotated whole are")
    if kind == "default":
        return None
    if kind not in ("linear", "dynamic", "yarn", "llama3"):
        raise ValueError(
            f"rotary positions of type {kind!r} are not supported; default, linear, dynamic, yarn, llama3 are"
        )
    original = int(rope.get("original_max_position_embeddings") or n_positions)
    factor = float(rope["factor"] if rope.get("factor") is not None else n_positions / original)
    if kind == "linear":
        return RotaryScaling("linear", factor)
    if kind == "dynamic":
        return RotaryScaling("dynamic", factor, n_positions)
    if kind == "llama3":
        slow, fast = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        return RotaryScaling("llama3", factor, original, slow_turns=slow, fast_turns=fast)
    return RotaryScaling(
        "yarn",
        factor,
        original,
        slow_turns=float(rope.get("beta_slow") or 1),
        fast_turns=float(rope.get("beta_fast") or 32),
        attention_factor=_attention_factor(rope, factor),
        rounded=rope.get("truncate", True),
    )


def _attention_factor(rope: dict[str, Any], factor: float) -> float | None:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):  # DeepSeek's way to say it
        above, below = (0.1 * rope[name] * math.log(factor) + 1.0 for name in ("mscale", "mscale_all_dim"))
        return float(above / below)
    return None


def config_to_transformers(config: GPTConfig) -> Any:
    """The transformers config that describes our model: GPT-2 for learned positions, Llama or its kin for rotary ones.

    Raises:
        ValueError: if no such architecture computes the same numbers, naming the part that differs.
    """
    llama = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "norm_order": "pre"}
    gpt2 = {"position": "learned", "norm": "layernorm", "norm_order": "pre", "bias": True, "attention_bias": True}
    gpt2 |= {"kv_heads": config.n_head, "window": None, "qk_norm": False}
    closest = llama if config.position == "rotary" else gpt2
    differs = _differs(config, closest)
    if closest is gpt2 and config.mlp not in _ACTIVATIONS.values():
        differs = differs or f"mlp={config.mlp!r}"
    if differs is not None:
        raise ValueError(f"transformers has no architecture for this model ({differs}); use Llama's or GPT-2's parts")
    return _to_llama(config) if closest is llama else _to_gpt2(config)


def _to_gpt2(config: GPTConfig) -> Any:
    import transformers

    return transformers.GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.n_positions,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_inner=config.n_inner,  # None means 4 C there too
        activation_function=next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.mlp),
        layer_norm_epsilon=config.norm_eps,
        tie_word_embeddings=config.tie_weights,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
    )


def _to_llama(config: GPTConfig) -> Any:
    import transformers

    window, biases = config.window is not None, (config.attention_bias, config.bias)
    # By window, by normalised queries and keys, and by biases in q, k, v and elsewhere. Qwen2 is left out: whatever
    # tokenizer lies beside it, transformers cuts text for it by Qwen's rule, and the ids would not be the model's.
    families = {
        (False, False, (False, False)): transformers.LlamaConfig,
        (False, False, (True, True)): transformers.LlamaConfig,
        (True, False, (False, False)): transformers.MistralConfig,
        (False, True, (False, False)): transformers.Qwen3Config,
    }
    family = families.get((window, config.qk_norm, biases))
    if family is None:
        raise ValueError(
            f"transformers has no architecture for this model (window={config.window}, qk_norm={config.qk_norm}, "
            f"qkv_bias={biases[0]}, bias={biases[1]} together); there is Llama with biases everywhere or nowhere, and "
            f"without biases it may have a window or qk_norm"
        )
    options: dict[str, Any] = {"head_dim": config.head_dim}
    if family is transformers.LlamaConfig:
        options |= {"attention_bias": config.bias, "mlp_bias": config.bias}
    if family is transformers.MistralConfig:
        options["sliding_window"] = config.window
    return family(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.n_positions,
        hidden_size=config.n_embd,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.inner,
        rms_norm_eps=config.norm_eps,
        rope_parameters=_scaling_to_transformers(config),
        tie_word_embeddings=config.tie_weights,
        attention_dropout=config.dropout,
        **options,
    )


def _differs(config: GPTConfig, needed: dict[str, Any]) -> str | None:
    return next((f"{n}={getattr(config, n)!r}" for n, value in needed.items() if getattr(config, n) != value), None)


def _scaling_to_transformers(config: GPTConfig) -> dict[str, Any]:
    scaling, base, D = config.rotary_scaling, float(config.rotary_base), config.head_dim
    if scaling is None:
        return {"rope_type": "default", "rope_theta": base}
    factor, original = float(scaling.factor), scaling.original_n_positions
    if scaling.kind == "ntk":  # which is a larger base and nothing else
        return {"rope_type": "default", "rope_theta": base * factor ** (D / (D - 2)) if D > 2 else base}
    rope: dict[str, Any] = {"rope_type": scaling.kind, "rope_theta": base, "factor": factor}
    if scaling.kind == "dynamic" and original != config.n_positions:
        raise ValueError(
            f"transformers takes n_positions={config.n_positions} for the length that dynamic scaling begins at, and "
            f"here it is original_n_positions={original}; make the two equal"
        )
    if scaling.kind in ("yarn", "llama3"):
        rope["original_max_position_embeddings"] = original
    slow, fast = float(scaling.slow_turns), float(scaling.ramp_end)
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": slow, "high_freq_factor": fast}
    if scaling.kind == "yarn":
        rope |= {"beta_slow": slow, "beta_fast": fast, "truncate": scaling.rounded}
        if scaling.attention_factor is not None:
            rope["attention_factor"] = float(scaling.attention_factor)
    return rope
