"""Tales: a small language of stories whose truth is known.

Every story carries its exact log-probability, so the lowest possible loss is a number; every pronoun, fact and sum in
it is marked, so that what a model has learned is measured. The functions here are those of the default world.

    >>> story = sample(seed=0, n=1)[0]
    >>> log_prob(story.text) == story.log_prob
    True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from gptlib.tales.cast import Person
from gptlib.tales.exact import Floor, Tokenizer, Truth
from gptlib.tales.story import Mark, Story
from gptlib.tales.worlds import World, split_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gptlib.tales.ability import Abilities
    from gptlib.tales.scoring import Evaluation

__all__ = [
    "Floor",
    "Mark",
    "Person",
    "Story",
    "Truth",
    "World",
    "abilities",
    "entropy",
    "evaluate",
    "log_prob",
    "next_token_distribution",
    "parse",
    "probes",
    "sample",
    "split",
    "split_of",
    "stories",
    "tracker",
    "world",
]


@cache
def world() -> World:
    """The default world."""
    return World()


def sample(seed: int, n: int) -> list[Story]:
    """`World.sample` of the default world."""
    return world().sample(seed, n)


def stories(seed: int, split: str | None = None) -> Iterator[Story]:
    """`World.stories` of the default world."""
    return world().stories(seed, split)


def split(name: str, n: int, seed: int = 0) -> list[Story]:
    """`World.split` of the default world."""
    return world().split(name, n, seed)


def probes(seed: int, n: int, about: str | None = None) -> list[Story]:
    """`World.probes` of the default world."""
    return world().probes(seed, n, about)


def log_prob(text: str) -> float:
    """`World.log_prob` of the default world."""
    return world().log_prob(text)


def parse(text: str) -> Story:
    """`World.parse` of the default world."""
    return world().parse(text)


def entropy(tokenizer: Tokenizer, *, n: int = 10_000, seed: int = 0) -> Floor:
    """`World.entropy` of the default world."""
    return world().entropy(tokenizer, n=n, seed=seed)


def next_token_distribution(tokenizer: Tokenizer, ids: Sequence[int] | Tensor) -> Tensor:
    """`World.next_token_distribution` of the default world."""
    return world().next_token_distribution(tokenizer, ids)


def evaluate(model: nn.Module, tokenizer: Tokenizer, stories: Sequence[Story] | None = None) -> Evaluation:
    """`World.evaluate` of the default world."""
    return world().evaluate(model, tokenizer, stories)


def abilities(
    model: nn.Module,
    tokenizer: Tokenizer,
    *,
    max_stories: int = 200,
    per_kind: int = 100,
    kl_stories: int = 50,
    seed: int = 1,
) -> Abilities:
    """`World.abilities` of the default world."""
    return world().abilities(
        model, tokenizer, max_stories=max_stories, per_kind=per_kind, kl_stories=kl_stories, seed=seed
    )


def tracker(
    tokenizer: Tokenizer, *, max_stories: int = 60, per_kind: int = 30, seed: int = 1
) -> Callable[[nn.Module], dict[str, float]]:
    """`World.tracker` of the default world."""
    return world().tracker(tokenizer, max_stories=max_stories, per_kind=per_kind, seed=seed)
