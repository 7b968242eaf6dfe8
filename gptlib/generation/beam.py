"""Beam search: keep the most probable beginnings, not one alone, and see which of them ends best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.generation.prompts import check_ids, check_length, check_padding, check_stop
from gptlib.generation.reading import Reader
from gptlib.model import GPT


@dataclass(frozen=True)
class Beam:
    """One continuation that beam search found.

    Args:
        ids: (T + new,) int64, the prompt without its fill, and what was added, up to its stop id.
        log_prob: sum of the log-probabilities of the new tokens, in nats.
        score: log_prob / new ** length_penalty, by which the beams are ranked.
    """

    ids: Tensor
    log_prob: float
    score: float


def beam_search(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    stop_id: int | Sequence[int] | None = None,
    padding: Tensor | Sequence[int] | None = None,
    use_cache: bool = True,
) -> list[list[Beam]]:
    """Search for the most probable continuations of each row.

    At every step each beam is continued by every token, and of all these the `beams` most probable stay. A beam that
    has drawn a stop id is finished: it keeps its place, at its log-probability, until others push it out. One beam is
    greedy choice; as many as there are continuations is an exact search.

    Args:
        model: its weights' dtype and device are computed in.
        ids: (B, T) int64, at least one token.
        max_new_tokens: how many to add at most.
        beams: K, how many continuations are kept.
        length_penalty: at the end log-probabilities are divided by the number of new tokens to this power; 0 ranks by
            log-probability, which favours short ones, 1 by the mean over tokens.
        stop_id: one id or several that finish a beam.
        padding: (B,), fill tokens at the start of each row, as `left_pad` counts them.
        use_cache: keep keys and values; the same beams either way.

    Returns:
        For each row its beams, the best first, at most K.

    Raises:
        ValueError: for ids out of range, a text longer than the model's positions, or a setting outside its range.

    Example:
        >>> from gptlib import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> best = beam_search(model, torch.tensor([[1, 2, 3]]), 4, beams=5)[0][0]
        >>> tuple(best.ids.shape), best.log_prob < 0
        ((7,), True)

    Source: Sutskever et al., "Sequence to Sequence Learning with Neural Networks" (2014), section 3.2.
    """
    V = model.config.vocab_size
    check_ids(ids, V)
    fill = check_padding(padding, ids)
    if beams < 1:
        raise ValueError(f"beams={beams} keeps nothing; use 1 (greedy) or more")
    if not -float("inf") < length_penalty < float("inf"):
        raise ValueError(f"length_penalty={length_penalty} must be a finite number; 0 is none, 1 ranks by the mean")
    check_length(ids.size(1) - int(fill.min()), max_new_tokens, model.config)
    device = model.token_embedding.weight.device
    stops = check_stop(stop_id, V).to(device)

    B, T = ids.shape
    text = ids.to(device, torch.int64)  # (B · k, T), growing both ways; k beams a row, at first one
    reader = Reader(model, T, fill, max_new_tokens, use_cache)
    log_prob = torch.zeros(B, 1, device=device)
    new = torch.zeros(B, 1, dtype=torch.int64, device=device)  # tokens added so far
    finished = torch.zeros(B, 1, dtype=torch.bool, device=device)
    for _ in range(max_new_tokens):
        step = reader.next_logits(text).float().log_softmax(dim=-1).view(B, -1, V)  # (B · k, V) -> (B, k, V)
        same = torch.full_like(step, -torch.inf).scatter(2, text[:, -1].view(B, -1, 1), 0.0)
        step = torch.where(finished[..., None], same, step)  # its stop id again is all that can follow, at no cost
        candidates = (log_prob[..., None] + step).flatten(1)  # (B, k, V) -> (B, k · V)
        ordered, chosen = candidates.sort(dim=-1, descending=True, stable=True)  # of equals the lower id, as in argmax
        log_prob, chosen = ordered[:, :beams], chosen[:, :beams]  # (B, k'), k' = min(beams, k · V)
        parent, token = chosen // V, chosen % V
        new, finished = new.gather(1, parent), finished.gather(1, parent)
        new = new + ~finished
        finished = finished | torch.isin(token, stops)
        rows = (parent + torch.arange(B, device=device)[:, None] * step.size(1)).flatten()  # (B · k',)
        text = torch.cat([text[rows], token.flatten()[:, None]], dim=1)
        if bool(finished.all()):
            break
        reader.select(rows)
    score = log_prob / new.clamp(min=1) ** length_penalty
    texts = text.view(B, -1, text.size(1)).to(ids.device)  # (B, k, T + new)
    return [
        [
            Beam(texts[b, i, fill[b] : T + int(new[b, i])], log_prob[b, i].item(), score[b, i].item())
            for i in score[b].argsort(descending=True, stable=True).tolist()
            if log_prob[b, i] > -torch.inf  # with more beams than there are continuations
        ]
        for b in range(B)
    ]
