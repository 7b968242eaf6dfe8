"""A model's loss on stories, on the same footing as the entropy of the world that tells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.tales.exact import Encoder, Tokenizer, ratio
from gptlib.tales.story import Story

TOKENS_PER_BATCH = 8192  # a batch of logits stays small enough for any machine


@dataclass(frozen=True)
class Evaluation:
    """A model's loss on some stories, beside the best that is possible on the same stories.

    Attributes:
        nats_per_token: mean loss, every token of a story and its end mark counted, from the end mark before it.
        standard_error: of `nats_per_token`.
        floor: −log p of the same stories in nats per token: what the true distribution would score.
        tokens, stories: how many were counted.
    """

    nats_per_token: float
    standard_error: float
    floor: float
    tokens: int
    stories: int

    @property
    def over_floor(self) -> float:
        """Loss divided by floor: 1 for a model that has learned the language."""
        return self.nats_per_token / self.floor


def evaluate(model: nn.Module, tokenizer: Tokenizer, stories: Sequence[Story]) -> Evaluation:
    """A model's mean nats per token on `stories`, with the floor of the same stories.

    Args:
        model: called as `logits, _ = model(ids)` with `ids` (B, T); T is at most `model.config.n_positions`, if given.
        tokenizer: the model's tokenizer.
        stories: of the world, not probes.

    Raises:
        ValueError: no stories, a probe among them, or a story longer than the model's context.
    """
    if not stories:
        raise ValueError("stories is empty; pass some, for example tales.split('test', 200)")
    if any(story.log_prob == float("-inf") for story in stories):
        raise ValueError("a probe has no floor: its probability is 0; pass stories from sample or split")
    encoder = Encoder(tokenizer)
    rows = [row_of(encoder, encoder.encode(story.text)) for story in stories]
    check_length(model, max(map(len, rows)) - 1)
    start = len(encoder.end)
    losses = [-log_probs.sum().item() for log_probs in token_log_probs(model, rows, [start] * len(rows))]
    tokens = [len(row) - start for row in rows]
    nats, error = ratio(losses, tokens)
    floor = -sum(story.log_prob for story in stories) / sum(tokens)
    return Evaluation(nats, error, floor, sum(tokens), len(stories))


def row_of(encoder: Encoder, ids: list[int]) -> list[int]:
    """A story as a model reads it in training: the end mark, the story, the end mark."""
    return [*encoder.end, *ids, *encoder.end]


def check_length(model: nn.Module, length: int) -> None:
    """Raise a ValueError if `length` tokens are more than the model can read."""
    limit = getattr(getattr(model, "config", None), "n_positions", None)
    if limit is not None and length > limit:
        raise ValueError(
            f"a story of {length} tokens is longer than the model's n_positions={limit}; "
            "use a model with a longer context or a tokenizer with a larger vocabulary"
        )


def token_log_probs(model: nn.Module, rows: Sequence[list[int]], starts: Sequence[int]) -> list[Tensor]:
    """For each row of ids, the log-probability (in fp32) of each token from index `start` on, given all before it.

    Returns:
        One tensor (len(row) - start,) a row, in order.
    """
    results: list[Tensor] = [torch.empty(0)] * len(rows)
    for batch, logits in batches(model, [row[:-1] for row in rows]):
        for logits_of_row, index in zip(logits, batch, strict=True):
            row, start = rows[index], starts[index]
            log_probs = F.log_softmax(logits_of_row[start - 1 : len(row) - 1].float(), dim=-1)  # (T - start, V)
            targets = torch.tensor(row[start:], device=log_probs.device)
            results[index] = log_probs.gather(1, targets[:, None])[:, 0].cpu()  # (T - start,)
    return results


def batches(model: nn.Module, rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """The model's logits, rows of like length together: yields the rows' indices and their logits (B, T, V)."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with evaluating(model):
        while order:
            longest, size = len(rows[order[-1]]), 1
            while size < len(order) and (size + 1) * longest <= TOKENS_PER_BATCH:
                size += 1
            batch, order = order[-size:], order[:-size]
            # Padding stands at the end, where a causal model cannot see it from the tokens that count.
            padded = [rows[index] + [0] * (longest - len(rows[index])) for index in batch]
            logits, _ = model(torch.tensor(padded, device=device))  # (B, T, V)
            yield batch, logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
