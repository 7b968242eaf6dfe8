"""The loop: read, choose, append, and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gptlib.generation.choosing import check_sampling
from gptlib.generation.prompts import check_ids, check_length, check_padding, check_stop
from gptlib.generation.reading import Reader
from gptlib.model import GPT


def generate(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_id: int | Sequence[int] | None = None,
    padding: Tensor | Sequence[int] | None = None,
    use_cache: bool = True,
    slide: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Continue each row of `ids`.

    Args:
        model: its weights' dtype and device are computed in.
        ids: (B, T) int64, at least one token.
        max_new_tokens: how many to add at most.
        temperature: see `Sampling`, as for the next four; 0 takes the most probable token.
        top_k: keep this many.
        top_p: keep the fewest that reach this probability.
        min_p: keep those of at least this share of the largest.
        repetition_penalty: lowers what the text already holds; 1 for none.
        stop_id: one id or several: a row that draws one of them is finished and repeats it; when all are, generation
            ends.
        padding: (B,), how many tokens at the start of each row are fill, as `left_pad` counts them; each row is then
            continued as it would be alone.
        use_cache: keep keys and values; the same tokens either way, only slower without.
        slide: when a row fills `n_positions`, forget the older half of it and go on; else refuse such a request. A
            model with a sliding window and rotary, ALiBi or no positions needs neither: it goes on for ever.
        seed: of the draws; the global generator if None.

    Returns:
        (B, T + new) int64, the prompt and its fill included.

    Raises:
        ValueError: for ids out of range, a text longer than the model's positions, or a setting outside its range.

    Example:
        >>> from gptlib import GPT, GPTConfig
        >>> from gptlib.generation import left_pad
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> generate(model, torch.tensor([[1, 2, 3]]), 4, temperature=0).shape
        torch.Size([1, 7])
        >>> ids, padding = left_pad([[1, 2, 3], [4]])
        >>> generate(model, ids, 4, temperature=0, padding=padding).shape
        torch.Size([2, 7])
    """
    new = stream(
        model,
        ids,
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop_id=stop_id,
        padding=padding,
        use_cache=use_cache,
        slide=slide,
        seed=seed,
    )
    return torch.cat([ids.long(), *(token[:, None] for token in new)], dim=1)  # (B, T) and (B, 1) each -> (B, T + new)


def stream(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    stop_id: int | Sequence[int] | None = None,
    padding: Tensor | Sequence[int] | None = None,
    use_cache: bool = True,
    slide: bool = False,
    seed: int | None = None,
    **sampling: Any,
) -> Iterator[Tensor]:
    """As `generate`, handing out each new token, (B,) int64, as soon as it is drawn; arguments are checked at once.

    Args:
        model: as for `generate`, like all that follow.
        ids: (B, T) int64.
        max_new_tokens: how many at most.
        stop_id: one id or several that finish a row.
        padding: (B,), fill tokens at the start of each row.
        use_cache: keep keys and values.
        slide: forget the older half of a row that is full.
        seed: of the draws.
        **sampling: the settings of `Sampling`, by name: `temperature=0.8, top_k=40`.

    Raises:
        ValueError: as `generate`.
    """
    choice = check_sampling(seed=seed, **sampling)
    check_ids(ids, model.config.vocab_size)
    fill = check_padding(padding, ids)  # (B,)
    check_length(ids.size(1) - int(fill.min()), max_new_tokens, model.config, slide=slide)
    device = model.token_embedding.weight.device
    stops = check_stop(stop_id, model.config.vocab_size).to(device)
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)

    def loop() -> Iterator[Tensor]:
        text = own_fill(ids.to(device, torch.int64), fill)  # (B, T), growing
        reader = Reader(model, text.size(1), fill, max_new_tokens, use_cache)
        finished = torch.zeros(len(text), dtype=torch.bool, device=device)
        for _ in range(max_new_tokens):
            token = choice.choose(reader.next_logits(text), text, generator)
            if len(stops):
                token = torch.where(finished, text[:, -1], token)  # the stop id that the row ended with, again
                finished = finished | torch.isin(token, stops)
            text = torch.cat([text, token[:, None]], dim=1)
            yield token.to(ids.device)
            if len(stops) and bool(finished.all()):
                return

    return loop()


def own_fill(text: Tensor, padding: Tensor) -> Tensor:
    """`text` (B, T) with each row filled up by its own first token, so that the fill tells a penalty nothing new."""
    places = torch.arange(text.size(1)).maximum(padding[:, None])  # (B, T)
    return text.gather(1, places.to(text.device))  # (B, T)
