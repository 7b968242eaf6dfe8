"""Keys and values of the tokens already read, so that a new token costs one position and not the whole text."""

from __future__ import annotations

import torch
from torch import Tensor

from gptlib.config import GPTConfig


class LayerCache:
    """Keys and values of one layer, in memory set aside once.

    With a `window` only the last `window` - 1 positions are kept: the next query sees these and itself, and nothing
    before them will be asked for again. Such a cache takes a text of any length.

    Args:
        shape: (B, n_kv_head, capacity, D).
        dtype: of the keys and values to come.
        device: where they will be.
        window: positions that a query sees, itself included; None for all.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        window: int | None = None,
    ) -> None:
        B, n_kv_head, capacity, D = shape
        slots = capacity if window is None else min(capacity, window - 1)
        self.keys = torch.empty(B, n_kv_head, slots, D, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.window = window
        self.length = 0

    @property
    def held(self) -> int:
        """Positions whose keys and values are still here: all that were read, or the last `window` - 1."""
        return min(self.length, self.keys.size(2))

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of T new positions, both (B, n_kv_head, T, D); return all that these may look at.

        Returns:
            Keys and values (B, n_kv_head, S, D), S = `held` + T, the oldest position first.

        Raises:
            ValueError: if the positions, the number of rows or the heads do not fit.
        """
        self._check(k)
        held, T = self.held, k.size(2)
        if self.window is None:
            self.keys[:, :, held : held + T] = k
            self.values[:, :, held : held + T] = v
            keys, values = self.keys[:, :, : held + T], self.values[:, :, : held + T]
        else:
            keys = torch.cat([self.keys[:, :, :held], k], dim=2)  # (B, n_kv_head, held + T, D)
            values = torch.cat([self.values[:, :, :held], v], dim=2)
            kept = min(held + T, self.keys.size(2))
            self.keys[:, :, :kept] = keys[:, :, held + T - kept :]
            self.values[:, :, :kept] = values[:, :, held + T - kept :]
        self.length += T
        return keys, values

    def _check(self, k: Tensor) -> None:
        B, n_kv_head, slots, D = self.keys.shape
        if k.size(0) != B:
            raise ValueError(
                f"the cache was made for batches of {B} and this one has {k.size(0)} rows; "
                f"make it with batch_size={k.size(0)}"
            )
        if (k.size(1), k.size(3)) != (n_kv_head, D):
            raise ValueError(
                f"the cache was made for {n_kv_head} heads of {D} features and these keys have {k.size(1)} of "
                f"{k.size(3)}; make it from the config of the model that reads"
            )
        end = self.length + k.size(2)
        endless = self.window is not None and slots == self.window - 1
        if end > slots and not endless:
            raise ValueError(f"the cache holds {slots} positions and {end} are needed; make it with a larger capacity")

    def select(self, rows: Tensor) -> None:
        """Keep these `rows` (B',) in this order; a row may be named several times or not at all."""
        keys, values, held = self.keys, self.values, self.held
        self.keys = keys.new_empty(len(rows), *keys.shape[1:])
        self.values = torch.empty_like(self.keys)
        self.keys[:, :, :held] = keys[rows, :, :held]
        self.values[:, :, :held] = values[rows, :, :held]


class KVCache:
    """One `LayerCache` a layer; hand it to `GPT.forward(ids, cache=cache)` with the tokens that are new.

    Args:
        config: the model's.
        batch_size: number of rows, B.
        capacity: positions to set memory aside for; the model's `n_positions` if None. A model with a sliding window
            never needs more than its `window` - 1, however long the text gets.
        dtype: of keys and values: the dtype that the model computes in.
        device: the model's.

    Example:
        >>> import torch
        >>> from gptlib import GPT, GPTConfig, KVCache
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3)).eval()
        >>> cache = KVCache(model.config, batch_size=1)
        >>> _ = model(torch.tensor([[1, 2, 3]]), cache=cache)   # read the prompt
        >>> logits, _ = model(torch.tensor([[4]]), cache=cache)  # then one token at a time
        >>> cache.length, tuple(logits.shape)
        (4, (1, 1, 11))
    """

    padding: Tensor | None = None  # (B,) fill tokens at the start of each row, as told with the first chunk

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        capacity = config.n_positions if capacity is None else capacity
        if batch_size < 1 or capacity < 1:
            raise ValueError(f"batch_size={batch_size} and capacity={capacity} must both be at least 1")
        shape = (batch_size, config.kv_heads, capacity, config.head_dim)
        self.layers = [
            LayerCache(shape, dtype=dtype, device=device, window=config.window) for _ in range(config.n_layer)
        ]

    @property
    def length(self) -> int:
        """Positions read so far."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Memory set aside, in bytes."""
        return sum(part.nbytes for layer in self.layers for part in (layer.keys, layer.values))

    def select(self, rows: Tensor) -> None:
        """Keep these `rows` (B',) in this order, as beam search does; a row may be named several times or not at all.

        Example:
            >>> import torch
            >>> from gptlib import GPTConfig, KVCache
            >>> cache = KVCache(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3), batch_size=2)
            >>> cache.select(torch.tensor([1, 1, 0]))
            >>> tuple(cache.layers[0].keys.shape)
            (3, 3, 8, 4)
        """
        for layer in self.layers:
            layer.select(rows)
        if self.padding is not None:
            self.padding = self.padding[rows]
