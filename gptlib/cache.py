"""Keys and values of the tokens already read, so that a new token costs one position and not the whole text."""

from __future__ import annotations

import torch
from torch import Tensor

from gptlib.config import GPTConfig


class LayerCache:
    """Keys and values of one layer, in memory set aside once.

    Args:
        shape: (B, n_kv_head, capacity, D).
        dtype: of the keys and values to come.
        device: where they will be.
    """

    def __init__(self, shape: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device | str) -> None:
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of T new positions, both (B, n_kv_head, T, D); return all so far, (B, n_kv_head, S, D).

        Raises:
            ValueError: if the positions or the number of rows do not fit.
        """
        if k.size(0) != self.keys.size(0):
            raise ValueError(
                f"the cache was made for batches of {self.keys.size(0)} and this one has {k.size(0)} rows; "
                f"make it with batch_size={k.size(0)}"
            )
        end = self.length + k.size(2)
        if end > self.keys.size(2):
            raise ValueError(
                f"the cache holds {self.keys.size(2)} positions and {end} are needed; make it with a larger capacity"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """One `LayerCache` a layer; hand it to `GPT.forward(ids, cache=cache)` with the tokens that are new.

    Args:
        config: the model's.
        batch_size: number of rows, B.
        capacity: positions to set memory aside for; the model's `n_positions` if None.
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

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch_size, config.kv_heads, capacity or config.n_positions, config.head_dim)
        self.layers = [LayerCache(shape, dtype=dtype, device=device) for _ in range(config.n_layer)]

    @property
    def length(self) -> int:
        """Positions read so far."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Memory set aside, in bytes."""
        return sum(part.nbytes for layer in self.layers for part in (layer.keys, layer.values))
