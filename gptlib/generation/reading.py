"""How a growing text is fed to the model: as little of it as the cache allows, and never more than fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gptlib.cache import KVCache
from gptlib.generation.prompts import context_limit
from gptlib.model import GPT


class Reader:
    """Reads a batch of texts that grow by a token at a time.

    A row that fills the model's `n_positions` forgets its older half, and only such a row: every row is treated as if
    it were alone. Where rows know of unequally many tokens, the shorter ones are filled up on the left.

    Args:
        model: its weights' dtype and device are computed in.
        length: T, tokens of the prompts, fill included.
        padding: (B,) int64 on the CPU, fill tokens at the start of each row.
        max_new_tokens: how many will be added at most.
        use_cache: keep keys and values of what was read.
    """

    def __init__(self, model: GPT, length: int, padding: Tensor, max_new_tokens: int, use_cache: bool) -> None:
        self.model = model
        self.limit = context_limit(model.config)
        self.capacity = length + max_new_tokens
        self.begin = padding  # (B,), the first token of each row that the model still knows of
        if self.limit is not None:
            self.capacity = min(self.limit, self.capacity)
            self.begin = padding.clamp(min=length - self.limit)
        self.first = int(self.begin.min())
        # Beyond this length dynamic scaling turns all keys anew with every token, and each row by its own length.
        scaling = model.config.rotary_scaling
        self.rereads = scaling.original_n_positions if scaling is not None and scaling.kind == "dynamic" else None
        self.use_cache = use_cache
        self.cache: KVCache | None = None
        self.read = 0  # tokens of the text that lie behind the cache

    def next_logits(self, text: Tensor) -> Tensor:
        """Logits (B, V) after `text` (B, T)."""
        T = text.size(1)
        if self.limit is not None and T - self.first > self.limit:
            self.begin = torch.where(T - self.begin > self.limit, T - max(1, self.limit // 2), self.begin)
            self.first, self.cache = int(self.begin.min()), None
        if self.rereads is not None and T - self.first > self.rereads:
            self.cache = None
            rows = [self._logits(row[None, begin:]) for row, begin in zip(text, self.begin, strict=True)]
            return torch.cat(rows)  # B × (1, V) -> (B, V)
        if self.cache is not None:
            unread, padding = text[:, self.read :], {}  # of the padding the cache knows
        else:
            unread, fill = text[:, self.first :], self.begin - self.first  # (B, T'), (B,)
            padding = {"padding": fill.to(text.device)} if fill.any() else {}
            if self.use_cache:
                self.cache = self._new_cache(len(text))
        self.read = T
        return self._logits(unread, cache=self.cache, **padding)

    def _new_cache(self, rows: int) -> KVCache:
        weight = self.model.token_embedding.weight
        return KVCache(self.model.config, rows, capacity=self.capacity, dtype=weight.dtype, device=weight.device)

    def _logits(self, text: Tensor, **options: Any) -> Tensor:
        with _evaluating(self.model), torch.inference_mode():
            logits: Tensor = self.model(text, only_last=True, **options)[0]
        return logits[:, -1]  # (B, 1, V) -> (B, V)

    def select(self, rows: Tensor) -> None:
        """Go on with these `rows` (B',) of the texts, in this order."""
        self.begin = self.begin[rows.cpu()]
        self.first = int(self.begin.min())
        if self.cache is not None:
            with torch.inference_mode():
                self.cache.select(rows)


@contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    training = model.training
    if training:
        model.eval()  # dropout left on would make a different model write each token
    try:
        yield
    finally:
        if training:
            model.train()
