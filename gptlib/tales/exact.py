"""The language as a number: its entropy, and its true next-token distribution after any beginning of a story.

Footing, here and in `scoring`: a stream of tokens is the end mark, a story, the end mark, a story, …; a story is
predicted from the end mark before it, and the end mark after it counts as one of its tokens. Ids are those of the
tokenizer's own encoding, in which no token may span the space before a word (true of byte-level BPE as in GPT-2, and of
characters).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gptlib.tales.grammar import Grammar, State
from gptlib.tales.reader import advance, unfold
from gptlib.tales.story import Story

END = "<|endoftext|>"


class Tokenizer(Protocol):
    """The part of a tokenizer that the truth about tokens needs."""

    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    def encode(self, text: str) -> list[int]: ...  # noqa: D102
    def decode(self, ids: Iterable[int]) -> str: ...  # noqa: D102


class Encoder:
    """A tokenizer that remembers the words it has met; `end` are the ids of the end mark."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end: list[int] = list(tokenizer.encode(END))
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, word by word, each with the space before it."""
        ids: list[int] = []
        for at, word in enumerate(text.split(" ")):
            word = " " + word if at else word
            known = self._words.get(word)
            if known is None:
                known = self._words[word] = list(self.tokenizer.encode(word))
            ids += known
        return ids


@dataclass(frozen=True)
class Floor:
    """The entropy of a world: no model can do better, on average, than this.

    Attributes:
        nats_per_story, nats_per_token, nats_per_character: the entropy, by the mean of −log p over stories drawn from
            the world; tokens include the end mark of each story, characters do not.
        story_error, token_error, character_error: their standard errors.
        tokens_per_story: mean number of tokens, the end mark included.
        longest: the most tokens that a story had, the end mark included.
        by_kind: the nats per story that each kind of choice carries; they add up to `nats_per_story`.
        stories: how many were drawn.
    """

    nats_per_story: float
    nats_per_token: float
    nats_per_character: float
    story_error: float
    token_error: float
    character_error: float
    tokens_per_story: float
    longest: int
    by_kind: dict[str, float] = field(repr=False)
    stories: int


def entropy(tokenizer: Tokenizer, stories: Sequence[Story]) -> Floor:
    """The entropy, estimated from stories drawn from the world."""
    encoder = Encoder(tokenizer)
    nats = [-story.log_prob for story in stories]
    tokens = [len(encoder.encode(story.text)) + len(encoder.end) for story in stories]
    kinds: dict[str, float] = defaultdict(float)
    for story in stories:
        for kind, log_prob in story.choices:
            kinds[kind] -= log_prob / len(stories)
    per_story, story_error = ratio(nats, [1] * len(nats))
    per_token, token_error = ratio(nats, tokens)
    per_character, character_error = ratio(nats, [len(story.text) for story in stories])
    return Floor(
        nats_per_story=per_story,
        nats_per_token=per_token,
        nats_per_character=per_character,
        story_error=story_error,
        token_error=token_error,
        character_error=character_error,
        tokens_per_story=sum(tokens) / len(tokens),
        longest=max(tokens),
        by_kind=dict(sorted(kinds.items(), key=lambda item: -item[1])),
        stories=len(stories),
    )


def ratio(amounts: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    """The total of `amounts` by the total of `sizes`, and its standard error by the delta method."""
    n, value = len(amounts), sum(amounts) / sum(sizes)
    residuals = sum((amount - value * size) ** 2 for amount, size in zip(amounts, sizes, strict=True))
    error = math.sqrt(residuals / (n - 1) / n) / (sum(sizes) / n) if n > 1 else math.nan
    return value, error


class Truth:
    """The true distribution of the next token after the beginning of a story, for one world and tokenizer."""

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer) -> None:
        self._grammar = grammar
        self._encoder = Encoder(tokenizer)

    def after(self, ids: Sequence[int]) -> dict[int, float]:
        """The probability of each token that can follow `ids`.

        Args:
            ids: the beginning of a story; what stands before the last end mark in them does not matter, and after an
                end mark, or with no ids at all, the next token begins a story.

        Raises:
            ValueError: no story begins like this.
        """
        ids = _after_end(list(ids), self._encoder.end)
        return next(self.along(ids, [len(ids)]))

    def along(self, ids: Sequence[int], positions: Iterable[int]) -> Iterator[dict[int, float]]:
        """The distributions after `ids[:t]` for each t of `positions`, which must ascend; faster than one by one."""
        ids = list(ids)
        done, states, known = 0, [self._grammar.start()], 0  # the text and the ids up to the start of the last word
        for position in positions:
            text = self._encoder.tokenizer.decode(ids[:position])
            word = max(text.partition(END[0])[0].rfind(" "), 0)
            if word > done:
                states = advance(self._grammar, states, text[done:word])
                spelled = self._encoder.encode(text[done:word])
                if ids[known : known + len(spelled)] != spelled:
                    raise ValueError(_no_story(text, "its ids are not how the tokenizer writes this text"))
                known += len(spelled)
                done = word
            found = self._continued(states, text[done:], ids[known:position])
            if not found:
                raise ValueError(_no_story(text, "no story begins like this"))
            yield found

    def _continued(self, states: list[State], begun: str, ids: list[int]) -> dict[int, float]:
        grammar, encoder = self._grammar, self._encoder
        spoken = begun.partition(END[0])[0]  # with a tokenizer of characters, the end mark itself may have begun
        weights: dict[int, float] = defaultdict(float)

        def enough(words: str) -> bool:
            return (spoken + words).rfind(" ") > len(spoken)  # a word is complete when the space after it is there

        base = None
        for state in advance(grammar, states, spoken) if spoken else states:
            for unfolded in unfold(grammar, state, enough):
                text = spoken + unfolded.words
                if unfolded.ended:
                    tokens = encoder.encode(text) + encoder.end
                else:
                    tokens = encoder.encode(text[: text.rfind(" ")])
                if len(tokens) > len(ids) and tokens[: len(ids)] == ids:
                    base = unfolded.log_prob if base is None else base
                    weights[tokens[len(ids)]] += math.exp(unfolded.log_prob - base)
        total = sum(weights.values())
        return {token: weight / total for token, weight in weights.items()}


def _after_end(ids: list[int], end: list[int]) -> list[int]:
    for start in range(len(ids) - len(end), -1, -1):
        if ids[start : start + len(end)] == end:
            return ids[start + len(end) :]
    return ids


def _no_story(text: str, why: str) -> str:
    return f"{why}: {text if len(text) <= 60 else '…' + text[-60:]!r}; pass the beginning of a story of this world"
