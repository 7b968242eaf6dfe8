"""What may be asked: token ids, texts of unequal length, and how long a text may get."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptlib.config import GPTConfig


def left_pad(prompts: Sequence[Tensor | Sequence[int]], *, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Texts of unequal length as one batch: each is filled up at its start, so that all end together.

    Args:
        prompts: one row of token ids each, at least one token long.
        fill: id to fill up with; what it is does not matter, for nobody looks at it.

    Returns:
        ids (B, T) int64, T the longest prompt; and padding (B,) int64, how many tokens of each row are fill: the two
        that `generate`, `stream`, `beam_search` and `GPT` take.

    Raises:
        ValueError: if there is no prompt, or one of them is no row of ids.

    Example:
        >>> left_pad([[5, 6, 7], [8]])
        (tensor([[5, 6, 7],
                [0, 0, 8]]), tensor([0, 2]))
    """
    rows = [torch.as_tensor(prompt) for prompt in prompts]
    if not rows:
        raise ValueError("there is no prompt to pad; give at least one row of token ids")
    for i, row in enumerate(rows):
        if row.dim() != 1 or row.numel() == 0 or row.is_floating_point() or row.dtype == torch.bool:
            raise ValueError(
                f"prompt {i} has shape {tuple(row.shape)} and dtype {row.dtype}; give one row of integer ids, at least "
                "one token long"
            )
    T = max(len(row) for row in rows)
    padding = torch.tensor([T - len(row) for row in rows], device=rows[0].device)
    ids = torch.full((len(rows), T), fill, device=rows[0].device)
    for row, start, text in zip(ids, padding.tolist(), rows, strict=True):
        row[start:] = text
    return ids, padding


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless `ids` is a (B, T) tensor of token ids, T ≥ 1, each in [0, vocab_size)."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"ids are a {type(ids).__name__}; give a tensor (batch, tokens), as in torch.tensor([[1, 2]])")
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; give (batch, tokens) with at least one token")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers, so use ids.long()")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        bad = low if low < 0 else high
        raise ValueError(
            f"token id {bad} is outside [0, {vocab_size}); was the text encoded with this model's tokenizer?"
        )


def check_padding(padding: Tensor | Sequence[int] | None, ids: Tensor) -> Tensor:
    """`padding` as a (B,) int64 tensor on the CPU, zeros for None; ValueError unless it leaves each row a token."""
    B, T = ids.shape
    if padding is None:
        return torch.zeros(B, dtype=torch.int64)
    counts = torch.as_tensor(padding).cpu()
    if counts.shape != (B,) or counts.is_floating_point() or counts.dtype == torch.bool:
        raise ValueError(
            f"padding has shape {tuple(counts.shape)} and dtype {counts.dtype}; give one whole number a row, ({B},)"
        )
    if int(counts.min()) < 0 or int(counts.max()) >= T:
        raise ValueError(
            f"padding {counts.tolist()} must lie between 0 and {T - 1}, so that each row of {T} keeps a token; "
            "left_pad counts it"
        )
    return counts.long()


def check_stop(stop_id: int | Sequence[int] | None, vocab_size: int) -> Tensor:
    """The stop ids as a tensor, empty for None; ValueError for one that the model cannot write."""
    ids = [] if stop_id is None else [stop_id] if isinstance(stop_id, int) else [int(i) for i in stop_id]
    for i in ids:
        if not 0 <= i < vocab_size:
            raise ValueError(f"stop_id={i} is outside [0, {vocab_size}), so it would never stop; leave it out for none")
    return torch.tensor(ids, dtype=torch.int64)


def context_limit(config: GPTConfig) -> int | None:
    """Longest text in tokens, the prompt included, that the model can go on with; None if there is no end.

    Learned and sinusoidal positions end at `n_positions`, and beyond it distances occur that no training has shown,
    unless a sliding window keeps every distance small and the positions (rotary, ALiBi or none) know distances alone.
    """
    relative = config.position in ("rotary", "alibi", "none")
    if relative and config.window is not None and config.window <= config.n_positions:
        return None
    return config.n_positions


def check_length(prompt: int, new: int, config: GPTConfig, *, slide: bool | None = None) -> None:
    """Raise ValueError if the text would outgrow what the model can read; `slide` is None where that is no way out."""
    if new < 0:
        raise ValueError(f"max_new_tokens={new} is negative; use 0 or more")
    limit = context_limit(config)
    if slide or limit is None or prompt + new <= limit:
        return
    way_out = ", or pass slide=True to forget the older half of the text when it is full" if slide is False else ""
    raise ValueError(
        f"{prompt} prompt tokens and {new} new ones exceed n_positions={limit}; shorten the prompt, ask for at most "
        f"{max(0, limit - prompt)} new tokens{way_out}"
    )
