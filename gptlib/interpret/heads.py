"""What each head looks at: attention maps, and scores that say which known pattern a head follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gptlib.model import GPT
from gptlib.recording import listening
from gptlib.tales.scoring import evaluating

PATTERNS = ("previous", "first", "self", "duplicate", "induction")
LABEL_FROM = 0.4  # a pattern names a head if it is at least so far from chance towards 1


class Label(NamedTuple):
    """A head's pattern.

    Attributes:
        name: a pattern, or "mixed" where none is clear.
        nearest: the pattern furthest above chance, clear or not.
        score: of `nearest`.
    """

    name: str
    nearest: str
    score: float


@dataclass(frozen=True)
class HeadScores:
    """Scores of every head on some text, each beside what even attention to all visible positions would score.

    A pattern's score is the share of attention that goes where the pattern says, averaged over the queries for which
    it says anything; the first query of a text has no choice and counts nowhere. It is nan when no query counts, such
    as for "duplicate" in a text that never repeats a token.

    - previous: the token just before the query.
    - first: the first token of the text, where a head parks attention that it does not need (a sink).
    - self: the query's own token.
    - duplicate: earlier occurrences of the query's token.
    - induction: the token after each earlier occurrence of the query's token.

    Attributes:
        entropy: (L, H), nats; 0 when every query looks at one token.
        distance: (L, H), mean tokens between query and key, weighted by attention.
        patterns: name to (L, H), each in [0, 1].
        chance: the same under even attention, for "entropy", "distance" and each pattern.

    Source: entropy as in Clark et al., "What Does BERT Look At?" (2019); distance as in Vig & Belinkov, "Analyzing the
    Structure of Attention in a Transformer Language Model" (2019); sinks: Xiao et al., "Efficient Streaming Language
    Models with Attention Sinks" (2023); duplicate-token heads: Wang et al., "Interpretability in the Wild" (2022);
    previous-token and induction heads: Olsson et al., "In-context Learning and Induction Heads" (2022).
    """

    entropy: Tensor
    distance: Tensor
    patterns: Mapping[str, Tensor]
    chance: Mapping[str, float]

    def above_chance(self, pattern: str) -> Tensor:
        """(L, H): 0 for even attention, 1 for a head that does nothing else.

        Raises:
            ValueError: for a pattern that has no score.
        """
        if pattern not in self.patterns:
            raise ValueError(f"{pattern!r} is no pattern; choose one of {', '.join(self.patterns)}")
        chance = self.chance[pattern]
        return (self.patterns[pattern] - chance) / (1 - chance)

    def label(self, layer: int, head: int) -> Label:
        """Which pattern a head follows: the one furthest above chance, if that is at least 0.4 of the way to 1."""
        above = {name: float(self.above_chance(name)[layer, head]) for name in self.patterns}
        nearest = max(above, key=lambda name: -math.inf if math.isnan(above[name]) else above[name])
        score = float(self.patterns[nearest][layer, head])
        return Label(nearest if above[nearest] >= LABEL_FROM else "mixed", nearest, score)

    def __str__(self) -> str:
        names = ["entropy", "distance", *self.patterns]
        lines = [f"{'layer.head':<11}{'label':<11}" + "".join(f"{name:>10}" for name in names)]
        lines.append(f"{'chance':<22}" + "".join(f"{self.chance[name]:>10.2f}" for name in names))
        values = [self.entropy, self.distance, *self.patterns.values()]
        for layer, head in torch.cartesian_prod(*map(torch.arange, self.entropy.shape)).tolist():
            row = "".join(f"{float(value[layer, head]):>10.2f}" for value in values)
            lines.append(f"{f'{layer}.{head}':<11}{self.label(layer, head).name:<11}{row}")
        return "\n".join(lines)


def attention_maps(model: GPT, ids: Tensor) -> Tensor:
    """Attention weights of every layer and head.

    Args:
        model: computes without dropout, and stays in the mode it is in.
        ids: (B, T).

    Returns:
        (L, B, H, T, T), each row summing to 1, without gradients.
    """
    layers: list[Tensor] = []

    def keep(name: str, activation: Tensor) -> Tensor:
        # Only the weights: a full recording of a large model would hold every activation for nothing.
        if name.endswith(".attention.weights"):
            layers.append(activation)
        return activation

    with evaluating(model), listening(model, keep):
        model(ids.to(model.token_embedding.weight.device))
    return torch.stack(layers)


def head_scores(model: GPT, ids: Tensor) -> HeadScores:
    """Score every head of a model on a batch of texts.

    On ordinary text few tokens repeat, and a token that does often stands in the same company: use
    `induction_scores` to tell induction from chance.

    Args:
        model: any `GPT`; with a sliding window only what a query may see counts as visible.
        ids: (B, T), T at least 2.

    Raises:
        ValueError: for texts of fewer than two tokens.
    """
    if ids.size(1) < 2:
        raise ValueError(f"a text of {ids.size(1)} token leaves a head no choice; give at least 2")
    return score_maps(attention_maps(model, ids), ids, window=model.config.window)


def induction_scores(
    model: GPT, *, length: int = 25, n: int = 8, seed: int = 0, begin: int | None = None
) -> HeadScores:
    """Score every head on random tokens that are read twice, where only copying can predict anything.

    Within a text no token stands twice in the random part, so a query of the second half has exactly one earlier
    occurrence: a perfect induction head scores 1 on "induction".

    Args:
        model: any `GPT`.
        length: of the part that is repeated.
        n: number of texts.
        seed: of the random tokens.
        begin: a token to put in front, such as the end-of-text mark that a model met at the start of every text.

    Raises:
        ValueError: if the repeated text is longer than `n_positions`, or longer than tokens can differ.

    Source: Olsson et al., "In-context Learning and Induction Heads" (2022), section "Definition of induction heads".
    """
    return head_scores(model, repeated_tokens(model, length=length, n=n, seed=seed, begin=begin))


def repeated_tokens(model: GPT, *, length: int = 25, n: int = 8, seed: int = 0, begin: int | None = None) -> Tensor:
    """The texts of `induction_scores`: (n, 2 · length), or one more with `begin`."""
    vocab_size = model.config.vocab_size
    if begin is not None and not 0 <= begin < vocab_size:
        raise ValueError(f"begin={begin} is no token of this model; use 0 to {vocab_size - 1}, or None")
    reserved = int(begin is not None)  # a place in front, and a token that is not drawn
    most = min((model.config.n_positions - reserved) // 2, vocab_size - reserved)
    if not 1 <= length <= most:
        raise ValueError(f"length={length} cannot be read twice by this model without repeats; use 1 to {most}")
    if n < 1:
        raise ValueError(f"n={n} texts cannot be scored; use at least 1")
    tokens = torch.tensor([token for token in range(vocab_size) if token != begin])
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(tokens), generator=generator)[:length] for _ in range(n)]
    once = tokens[torch.stack(drawn)]  # (n, length)
    twice = once.repeat(1, 2)  # (n, 2 · length)
    return twice if begin is None else torch.cat([torch.full((n, 1), begin), twice], dim=1)


def score_maps(weights: Tensor, ids: Tensor, *, window: int | None = None) -> HeadScores:
    """Score attention maps from anywhere.

    Args:
        weights: (L, B, H, T, T), each row summing to 1.
        ids: (B, T); of one token there is nothing to score, and all is nan.
        window: how many positions a query sees, itself included; all earlier ones if None.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    B, T = ids.shape
    if weights.dim() != 5 or weights.size(1) != B or tuple(weights.shape[-2:]) != (T, T):
        raise ValueError(f"weights {tuple(weights.shape)} do not fit ids {(B, T)}; make them (L, {B}, H, {T}, {T})")
    w = weights.double()  # (L, B, H, T, T)
    ids = ids.to(w.device)
    back = torch.arange(T, device=w.device)[:, None] - torch.arange(T, device=w.device)  # (T, T): query minus key
    visible = (back >= 0) & (back < (window or T))  # (T, T)
    even = visible.double() / visible.sum(-1, keepdim=True)  # (T, T): what a head does that looks everywhere
    entropy, even_entropy = -torch.xlogy(w, w).sum(-1), -torch.xlogy(even, even).sum(-1)  # (L, B, H, T), (T,)
    distance, even_distance = (w * back).sum(-1), (even * back).sum(-1)
    chance = {"entropy": even_entropy[1:].mean().item(), "distance": even_distance[1:].mean().item()}
    patterns = {}
    for name, keys in _pattern_keys(ids, back).items():
        keys = keys & visible  # (B, T, T)
        counts = keys.any(-1)  # (B, T): the queries for which the pattern says something
        counts[:, 0] = False
        rows = (w * keys[:, None]).sum(-1).movedim(2, 0)  # (L, B, H, T) -> (H, L, B, T)
        patterns[name] = rows[:, :, counts].mean(-1).T.float().cpu()  # (H, L) -> (L, H)
        chance[name] = (even * keys).sum(-1)[counts].mean().item()
    mean_entropy, mean_distance = (x[..., 1:].mean(dim=(1, 3)).float().cpu() for x in (entropy, distance))  # (L, H)
    return HeadScores(mean_entropy, mean_distance, patterns, chance)


def _pattern_keys(ids: Tensor, back: Tensor) -> dict[str, Tensor]:
    """For each pattern the keys where it looks: (B, T, T) or (1, T, T)."""
    same = (ids[:, :, None] == ids[:, None, :]) & (back > 0)  # (B, T, T): an earlier occurrence of the query's token
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1] & (back[:, 1:] > 0)  # the key after it, if that is not the query itself
    first = torch.zeros_like(back, dtype=torch.bool)
    first[:, 0] = True
    B, T = ids.shape
    keys = {"previous": back == 1, "first": first, "self": back == 0}
    return {name: each.expand(B, T, T) for name, each in keys.items()} | {"duplicate": same, "induction": after}
