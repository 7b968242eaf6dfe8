"""The shape of a GPT, as values: one config spans GPT-2 and Llama, and presets name whole models."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gptlib.layers import ACTIVATIONS, GATES
from gptlib.positions import RotaryScaling

Position = Literal["learned", "sinusoidal", "rotary", "alibi", "none"]


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. Defaults make GPT-2's kind of block; `preset` has whole models.

    Args:
        vocab_size: number of tokens, V.
        n_positions: longest text in tokens.
        n_embd: width of the residual stream, C.
        n_layer: number of blocks.
        n_head: query heads, H.
        n_kv_head: key and value heads; `n_head` if None, 1 for multi-query attention.
        n_inner: width of the feed-forward network; if None 4 C, or for a gated one 8/3 C, up to a multiple of 32.
        dropout: probability, used after the embeddings, on attention weights, and on both outputs of a block.
        bias: whether linear maps and layer norms have one.
        qkv_bias: the same for queries, keys and values alone; `bias` if None.
        position: "learned", "sinusoidal", "rotary", "alibi" or "none".
        rotary_base: above 1; the slowest plane of rotary positions turns by about 1/rotary_base a position.
        rotary_scaling: how rotary positions are stretched over longer texts than those of training; None for not.
        norm: "layernorm" or "rmsnorm".
        norm_eps: added to the variance.
        norm_order: "pre" (GPT-2 and later) or "post" (GPT-1 and the 2017 transformer).
        mlp: "relu", "relu2", "gelu", "gelu_tanh", "swiglu" or "geglu".
        window: positions a token sees, itself included; None for all.
        qk_norm: normalise queries and keys before their product.
        tie_weights: use the token embedding as the output map too.

    Raises:
        ValueError: for a shape that cannot be built, with the nearest way out.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_kv_head: int | None = None
    n_inner: int | None = None
    dropout: float = 0.0
    bias: bool = True
    qkv_bias: bool | None = None
    position: Position = "learned"
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_eps: float = 1e-5
    norm_order: Literal["pre", "post"] = "pre"
    mlp: str = "gelu_tanh"
    window: int | None = None
    qk_norm: bool = False
    tie_weights: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            _require_positive(name, getattr(self, name))
        for name in ("n_kv_head", "n_inner", "window"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        if self.n_embd % self.n_head:
            below = self.n_embd // self.n_head * self.n_head
            near = " or ".join(str(n) for n in (below, below + self.n_head) if n)
            raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}; try n_embd={near}")
        if self.n_head % self.kv_heads:
            raise ValueError(
                f"n_kv_head={self.n_kv_head} does not divide n_head={self.n_head}; use one of its divisors"
            )
        _require_choice("position", self.position, get_args(Position))
        _require_choice("norm", self.norm, ["layernorm", "rmsnorm"])
        _require_choice("norm_order", self.norm_order, ["pre", "post"])
        _require_choice("mlp", self.mlp, [*ACTIVATIONS, *GATES])
        for name in ("bias", "qk_norm", "tie_weights"):
            _require_choice(name, getattr(self, name), [True, False])
        _require_choice("qkv_bias", self.qkv_bias, [True, False, None])
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout={self.dropout!r} is no probability below 1; use 0 to 0.5")
        if not (_is_number(self.norm_eps) and self.norm_eps > 0):
            raise ValueError(f"norm_eps={self.norm_eps!r} must be above 0, or a constant row divides by zero; try 1e-5")
        self._check_positions()

    def _check_positions(self) -> None:
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions need an even n_embd, and it is {self.n_embd}")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even n_embd / n_head, and it is {self.head_dim}")
        if not (_is_number(self.rotary_base) and self.rotary_base > 1):
            raise ValueError(f"rotary_base={self.rotary_base!r} must be a number above 1; 10000 is usual")
        if self.rotary_scaling is not None and not isinstance(self.rotary_scaling, RotaryScaling):
            raise ValueError(f"rotary_scaling={self.rotary_scaling!r} is no RotaryScaling; make one, or use None")
        if self.rotary_scaling is not None and self.position != "rotary":
            raise ValueError(f"rotary_scaling stretches rotary positions, and position={self.position!r}; leave it out")

    @property
    def head_dim(self) -> int:
        """Features of one head, D."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_head or self.n_head

    @property
    def attention_bias(self) -> bool:
        """Whether queries, keys and values have a bias."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def inner(self) -> int:
        """Width of the feed-forward network."""
        if self.n_inner is not None:
            return self.n_inner
        return math.ceil(8 * self.n_embd / 3 / 32) * 32 if self.mlp in GATES else 4 * self.n_embd

    @classmethod
    def preset(cls, name: str, **changes: Any) -> GPTConfig:
        """A whole model's config by name, with `changes` made to it.

        Raises:
            ValueError: for a name that is not in `PRESETS`.

        Example:
            >>> GPTConfig.preset("gpt2").n_embd
            768
        """
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown preset {name!r}; {hint}presets: {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file; `rotary_scaling` is left out when there is none."""
        values = dataclasses.asdict(self)
        if self.rotary_scaling is None:
            del values["rotary_scaling"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GPTConfig:
        """The config of `to_dict`.

        Raises:
            ValueError: for a key that no config has, or a key that is missing.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        missing = sorted(n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values)
        if unknown or missing:
            raise ValueError(f"not a GPT config: unknown {unknown or 'none'}, missing {missing or 'none'}")
        scaling = values.get("rotary_scaling")
        if isinstance(scaling, dict):
            values = {**values, "rotary_scaling": RotaryScaling.from_dict(scaling)}
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


def _require_choice(name: str, value: object, choices: Iterable[object]) -> None:
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, choices))}")


def _gpt2(n_layer: int, n_head: int, n_embd: int) -> dict[str, Any]:
    return {"vocab_size": 50_257, "n_positions": 1024, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}


def _small(n_layer: int, n_head: int, n_embd: int) -> dict[str, Any]:
    shape = {"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head, "bias": False}
    return {**shape, "position": "rotary", "norm": "rmsnorm", "mlp": "swiglu"}


PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1024),
    "gpt2-large": _gpt2(36, 20, 1280),
    "gpt2-xl": _gpt2(48, 25, 1600),
    # Brown et al. (2020), table 2.1; the alternating sparse attention of the original changes no parameter.
    "gpt3": {**_gpt2(96, 96, 12_288), "n_positions": 2048},
    "smollm2-135m": {
        "vocab_size": 49_152,
        "n_positions": 8192,
        "n_embd": 576,
        "n_layer": 30,
        "n_head": 9,
        "n_kv_head": 3,
        "n_inner": 1536,
        "bias": False,
        "position": "rotary",
        "rotary_base": 100_000.0,
        "norm": "rmsnorm",
        "mlp": "swiglu",
    },
    # The two sizes of nanoGPT's character recipes, one that learns as much as the smaller sooner, and the model that
    # ships with the course; a corpus sets vocab_size.
    "shakespeare-cpu": {**_small(4, 4, 128), "vocab_size": 65, "n_positions": 64},
    "shakespeare-fast": {
        **_small(2, 5, 160),
        "vocab_size": 65,
        "n_positions": 64,
        "n_inner": 512,
        "qk_norm": True,
        "rotary_base": 100.0,
    },
    "shakespeare-gpu": {**_small(6, 6, 384), "vocab_size": 65, "n_positions": 256, "dropout": 0.2},
    "tales": {**_small(6, 4, 128), "vocab_size": 1024, "n_positions": 256, "qk_norm": True},
}
