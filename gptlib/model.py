"""The GPT: embeddings, a stack of blocks, and a guess at the next token; GPT-2 or Llama, by its config."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.attention import CausalSelfAttention
from gptlib.cache import KVCache, LayerCache
from gptlib.layers import ACTIVATIONS, GATES, MLP, GatedMLP, LayerNorm, RMSNorm
from gptlib.positions import LearnedPositions, Rotary, SinusoidalPositions
from gptlib.recording import Noted

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
        rotary_base: slowest wavelength of rotary positions.
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
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is no probability below 1; use 0 to 0.5")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even n_embd / n_head, and it is {self.head_dim}")
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions need an even n_embd, and it is {self.n_embd}")
        _require_choice("position", self.position, ["learned", "sinusoidal", "rotary", "alibi", "none"])
        _require_choice("norm", self.norm, ["layernorm", "rmsnorm"])
        _require_choice("norm_order", self.norm_order, ["pre", "post"])
        _require_choice("mlp", self.mlp, [*ACTIVATIONS, *GATES])

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
        """Plain values, for a JSON file."""
        return dataclasses.asdict(self)

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
        return cls(**values)


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


def _require_choice(name: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")


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
    # The two sizes of nanoGPT's character recipes, and the model that ships with the course; a corpus sets vocab_size.
    "shakespeare-cpu": {**_small(4, 4, 128), "vocab_size": 65, "n_positions": 64},
    "shakespeare-gpu": {**_small(6, 6, 384), "vocab_size": 65, "n_positions": 256, "dropout": 0.2},
    "tales": {**_small(6, 4, 128), "vocab_size": 1024, "n_positions": 256},
}


class Block(Noted):
    """Attention gathers from other positions, then the feed-forward network works on each; both add to the stream.

    Source: pre-norm as in Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.3.
    """

    def __init__(self, config: GPTConfig, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.pre_norm = config.norm_order == "pre"
        self.norm1 = _norm(config)
        self.attention = CausalSelfAttention(config, rotary)
        self.norm2 = _norm(config)
        self.mlp = _mlp(config)

    def forward(self, x: Tensor, *, cache: LayerCache | None = None) -> Tensor:
        """Update the residual stream `x` (B, T, C)."""
        if self.pre_norm:
            x = self.note("middle", x + self.attention(self.norm1(x), cache=cache))
            return self.note("residual", x + self.mlp(self.norm2(x)))
        x = self.note("middle", self.norm1(x + self.attention(x, cache=cache)))
        return self.note("residual", self.norm2(x + self.mlp(x)))


def _norm(config: GPTConfig) -> nn.Module:
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, eps=config.norm_eps)
    return LayerNorm(config.n_embd, bias=config.bias, eps=config.norm_eps)


def _mlp(config: GPTConfig) -> nn.Module:
    if config.mlp in GATES:
        return GatedMLP(config.n_embd, config.inner, gate=config.mlp, bias=config.bias, dropout=config.dropout)
    return MLP(config.n_embd, config.inner, activation=config.mlp, bias=config.bias, dropout=config.dropout)


class GPT(Noted):
    """A decoder-only transformer that reads token ids and scores every token as the next one.

    Args:
        config: its shape.

    Example:
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> logits, loss = model(torch.tensor([[1, 2, 3]]), targets=torch.tensor([[2, 3, -1]]))
        >>> logits.shape
        torch.Size([1, 3, 11])
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding: LearnedPositions | SinusoidalPositions | None = None
        if config.position == "learned":
            self.position_embedding = LearnedPositions(config.n_positions, config.n_embd)
        elif config.position == "sinusoidal":
            self.position_embedding = SinusoidalPositions(config.n_positions, config.n_embd)
        rotary = None
        if config.position == "rotary":
            rotary = Rotary(config.n_positions, config.head_dim, base=config.rotary_base)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, rotary) for _ in range(config.n_layer))
        self.norm = _norm(config) if config.norm_order == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.lm_head.weight = self.token_embedding.weight
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        # GPT-2's way: 0.02 everywhere, and less for the two maps of a block that write to the residual stream, so that
        # the stream's variance does not grow with depth: 2 · n_layer terms are added to it.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Block):
            for writes in (module.attention.project, module.mlp.narrow):
                nn.init.normal_(writes.weight, std=0.02 / math.sqrt(2 * self.config.n_layer))  # type: ignore[union-attr, arg-type]

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, *, cache: KVCache | None = None, only_last: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Score the next token at every position.

        Args:
            ids: (B, T) int64, each in [0, vocab_size). With a cache, the tokens that it has not read yet.
            targets: (B, T) int64, the token that follows each; -1 for "no target here".
            cache: keys and values of what was read before; grows by T positions.
            only_last: compute the last position's logits alone, as decoding needs.

        Returns:
            logits (B, T, V), or (B, 1, V) with `only_last`; and the mean loss in nats per target, None without any.

        Raises:
            ValueError: if learned or sinusoidal positions end before the text does.
        """
        T = ids.size(1)
        start = 0 if cache is None else cache.length
        x = self.token_embedding(ids)  # (B, T, C)
        if self.position_embedding is not None:
            if start + T > self.config.n_positions:
                raise ValueError(
                    f"{start + T} tokens, and {self.config.position} positions end at n_positions="
                    f"{self.config.n_positions}; shorten the text"
                )
            x = x + self.position_embedding(torch.arange(start, start + T, device=ids.device))  # + (T, C)
        x = self.note("embedding", self.dropout(x))
        for i, block in enumerate(self.blocks):
            x = block(x, cache=None if cache is None else cache.layers[i])  # (B, T, C)
        x = self.norm(x[:, -1:] if only_last else x)
        logits = self.note("logits", self.lm_head(x))  # (B, T, V)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)
        return logits, loss

    def n_parameters(self) -> int:
        """Number of parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
