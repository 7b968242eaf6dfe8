"""From logits to one token: temperature, filters, a penalty on repetition, and the draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How a next token is chosen from the logits; the defaults draw from the model's own distribution.

    Args:
        temperature: see `next_token_probabilities`, as for the next three; 0 takes the most probable token.
        top_k: keep this many.
        top_p: keep the fewest that reach this probability.
        min_p: keep those of at least this share of the largest.
        repetition_penalty: see `penalise_repetition`; 1 for none.

    Raises:
        ValueError: for a setting outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature={self.temperature} must be 0 (greedy) or above; 1 leaves the model's distribution as it "
                "is"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} keeps no token; use 1 or more, or leave it out")
        if self.top_k is not None and self.top_k % 1:
            raise ValueError(f"top_k={self.top_k} is a number of tokens; use a whole one")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must lie above 0 and at most at 1; 1 keeps everything")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p} must lie between 0 (keeps everything) and 1 (keeps the largest)")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError(f"repetition_penalty={self.repetition_penalty} must be above 0; 1 is no penalty")

    def choose(self, logits: Tensor, text: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The next token of each row.

        Args:
            logits: (B, V).
            text: (B, T) int64, the text so far, which the repetition penalty looks at.
            generator: of the draws; the global one if None. Greedy choice draws nothing.

        Returns:
            (B,) int64.
        """
        if self.repetition_penalty != 1:
            logits = penalise_repetition(logits, text, self.repetition_penalty)
        if self.temperature == 0:
            return logits.argmax(dim=-1)  # (B,)
        p = next_token_probabilities(
            logits, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p
        )
        return torch.multinomial(p, 1, generator=generator)[:, 0]  # (B, 1) -> (B,)


def next_token_probabilities(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """The distribution from which the next token is drawn.

    Steps, in this order: divide by the temperature, keep the k largest, keep the fewest that reach p together, keep
    those of at least `min_p` times the largest, renormalise. What is filtered out has probability exactly 0.

    Args:
        logits: (..., V).
        temperature: 1 leaves the model's own distribution, less sharpens it, more flattens it, 0 is greedy.
        top_k: number of tokens kept, at least 1; of equal ones the lower id goes first.
        top_p: probability that the kept tokens reach together, in (0, 1].
        min_p: share of the largest probability that a token needs, in [0, 1].

    Returns:
        (..., V) fp32, each row summing to 1.

    Raises:
        ValueError: for a setting outside its range.

    Source: temperature, Ackley et al. (1985); top-k, Fan et al. (2018); top-p, Holtzman et al. (2019); min-p, Nguyen et
    al. (2024).
    """
    Sampling(temperature, top_k, top_p, min_p)
    logits = logits.float()
    if temperature == 0:
        largest = logits.argmax(dim=-1, keepdim=True)  # (..., 1), the lowest id among equals
        return torch.zeros_like(logits).scatter(-1, largest, 1.0)
    tiny = torch.finfo(logits.dtype).tiny  # below it fp32 has 0, and 0 / 0 is no number
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, tiny)  # the largest at 0: no overflow
    if top_k is None and top_p is None and min_p is None:
        return torch.softmax(logits, dim=-1)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[..., top_k:] = -torch.inf
    if top_p is not None and top_p < 1:
        p = torch.softmax(ordered, dim=-1)
        before = p.cumsum(dim=-1) - p  # probability of all that stand ahead; 0 for the first, which always stays
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    if min_p is not None:
        p = torch.softmax(ordered, dim=-1)
        ordered = ordered.masked_fill(p < min_p * p[..., :1], -torch.inf)
    return torch.zeros_like(logits).scatter(-1, ids, torch.softmax(ordered, dim=-1))


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Lower the logits of tokens that the text already holds.

    Args:
        logits: (B, V).
        ids: (B, T), the text so far.
        penalty: 1 changes nothing; positive logits are divided by it, negative ones multiplied.

    Source: Keskar et al., "CTRL" (2019), section 4.1.
    """
    seen = logits.gather(1, ids)  # (B, T)
    return logits.scatter(1, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def check_sampling(*, seed: int | None = None, **sampling: Any) -> Sampling:
    """The settings as a `Sampling`; ValueError, naming value and range, for one that makes no sense, or the `seed`."""
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(
            f"seed={seed} must be a whole number from 0 to {2**63 - 1}; leave it out for another each time"
        )
    return Sampling(**sampling)
