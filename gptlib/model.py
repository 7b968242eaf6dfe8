"""The GPT: embeddings, a stack of blocks, and a guess at the next token; GPT-2 or Llama, by its config."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.attention import CausalSelfAttention
from gptlib.cache import KVCache, LayerCache
from gptlib.config import GPTConfig
from gptlib.layers import GATES, MLP, GatedMLP, LayerNorm, Linear, RMSNorm
from gptlib.positions import LearnedPositions, Rotary, SinusoidalPositions
from gptlib.recording import Noted


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

    def forward(self, x: Tensor, *, cache: LayerCache | None = None, padding: Tensor | None = None) -> Tensor:
        """Update the residual stream `x` (B, T, C); other arguments as for `CausalSelfAttention`."""
        if self.pre_norm:
            x = self.note("middle", x + self.attention(self.norm1(x), cache=cache, padding=padding))
            return self.note("residual", x + self.mlp(self.norm2(x)))
        x = self.note("middle", self.norm1(x + self.attention(x, cache=cache, padding=padding)))
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
            rotary = Rotary(config.n_positions, config.head_dim, base=config.rotary_base, scaling=config.rotary_scaling)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, rotary) for _ in range(config.n_layer))
        self.norm = _norm(config) if config.norm_order == "pre" else nn.Identity()
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
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
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        padding: Tensor | None = None,
        only_last: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Score the next token at every position.

        Args:
            ids: (B, T) int64, each in [0, vocab_size). With a cache, the tokens that it has not read yet.
            targets: (B, T) int64, the token that follows each; -1 for "no target here".
            cache: keys and values of what was read before; grows by T positions.
            padding: (B,) int64, how many tokens at the start of each row are fill, so that texts of unequal length end
                together; the rest of a row gets the logits that it would get alone. What stands in the fill does not
                matter, nor do the logits there; give it the target -1. A cache is told with its first chunk and
                remembers.
            only_last: compute the last position's logits alone, as decoding needs.

        Returns:
            logits (B, T, V), or (B, 1, V) with `only_last`; and the mean loss in nats per target, None without any.

        Raises:
            ValueError: if learned or sinusoidal positions end before the text does, or padding has another shape or
                comes after the first chunk.
        """
        T = ids.size(1)
        start = 0 if cache is None else cache.length
        if padding is not None and padding.shape != ids.shape[:1]:
            raise ValueError(f"padding has shape {tuple(padding.shape)}; give one count a row, ({ids.size(0)},)")
        padding = _remembered(cache, padding)
        x = self.token_embedding(ids)  # (B, T, C)
        if self.position_embedding is not None:
            if start + T > self.config.n_positions:
                raise ValueError(
                    f"{start + T} tokens, and {self.config.position} positions end at n_positions="
                    f"{self.config.n_positions}; shorten the text"
                )
            positions = torch.arange(start, start + T, device=ids.device)  # (T,)
            if padding is not None:
                positions = (positions - padding[:, None]).clamp(min=0)  # (B, T), 0 at a row's first token
            x = x + self.position_embedding(positions)  # + (T, C) or (B, T, C)
        x = self.note("embedding", self.dropout(x))
        for i, block in enumerate(self.blocks):
            x = block(x, cache=None if cache is None else cache.layers[i], padding=padding)  # (B, T, C)
        x = self.norm(x[:, -1:] if only_last else x)
        logits = self.note("logits", self.lm_head(x))  # (B, T, V)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)
        return logits, loss

    def n_parameters(self) -> int:
        """Number of parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


def _remembered(cache: KVCache | None, padding: Tensor | None) -> Tensor | None:
    if cache is None:
        return padding
    if cache.length == 0:
        cache.padding = padding
    elif padding is not None:
        raise ValueError(
            f"padding came with a cache that has read {cache.length} positions; give it with the first chunk alone"
        )
    return cache.padding
