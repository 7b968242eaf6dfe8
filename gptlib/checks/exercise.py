"""An exercise as a value: inputs, a probe, a reference, and the mistakes that are known by name.

The same value gives practice feedback, grades submissions and tests itself.
"""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch

from gptlib.checks.probing import Answer, Arrays, Given, Probe


@dataclass(frozen=True)
class Case:
    """One input, and what is worth knowing about it; the note never reaches the answer."""

    given: Given
    note: str = ""


@dataclass(frozen=True)
class Misconception:
    """A wrong idea, as code that acts on it, and the sentence that helps.

    Either `wrong` is the implementation, or `changes` are the settings with which the exercise's `build` makes it;
    two misconceptions that change different settings can be recognised together.
    """

    name: str
    sentence: str
    wrong: Answer | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    also: tuple[Answer, ...] = ()  # other ways of writing the same mistake


@dataclass(frozen=True)
class Property:
    """Something that is true of every correct answer and can be true of a wrong one: it earns a share of the points."""

    name: str
    # Called for each case with what the answer returned, by name: arrays of the right shape, or a str, list or dict.
    holds: Callable[[Case, dict[str, Any]], bool]
    sentence: str  # what to say when it does not hold
    share: float  # of the exercise's points
    reads: tuple[str, ...]  # the values that `holds` looks at


@dataclass(frozen=True)
class Exercise:
    """All that is known about one exercise."""

    id: str  # lesson.function
    title: str
    minutes: int
    points: int
    signature: str  # as the learner writes it
    draw: Callable[[np.random.Generator], list[Case]]  # edge cases first, then random shapes
    probe: Probe
    reference: Answer
    misconceptions: tuple[Misconception, ...]
    properties: tuple[Property, ...]
    hints: tuple[str, str, str]  # direction, location, nearly the answer
    alternatives: tuple[Answer, ...] = ()  # correct answers that are written differently
    build: Callable[..., Answer] | None = None  # build() is a correct answer, build(**changes) a wrong one
    forbidden: Mapping[str, str] = field(default_factory=dict)  # calls that are the task itself, and why
    tolerance: float = 1e-5
    shown: tuple[str, ...] = ()  # which inputs to show; all when empty

    @property
    def function(self) -> str:
        """The name of the function that the learner writes."""
        return self.id.partition(".")[2]

    @property
    def lesson(self) -> str:
        """The first half of the id."""
        return self.id.partition(".")[0]

    def wrong(self, misconception: Misconception) -> tuple[Answer, ...]:
        """Return the implementations of a misconception."""
        if misconception.wrong is not None:
            return (misconception.wrong, *misconception.also)
        if self.build is None:
            raise ValueError(f"{self.id}: misconception {misconception.name!r} has no code; give wrong= or a build")
        return (self.build(**misconception.changes), *misconception.also)

    def pairs(self) -> list[tuple[Misconception, Misconception, Answer]]:
        """Return every two misconceptions that compose, with an implementation that has both."""
        if self.build is None:
            return []
        single = [m for m in self.misconceptions if m.wrong is None]
        return [
            (a, b, self.build(**{**a.changes, **b.changes}))
            for a, b in combinations(single, 2)
            if not a.changes.keys() & b.changes.keys()
        ]

    def probe_source(self) -> str:
        """Return the probe's own source; it runs with `torch`, `math`, `Any` and the names of `probing` alone."""
        return textwrap.dedent(inspect.getsource(self.probe))


def results(arrays: Arrays) -> list[str]:
    """Return the names of what the answer itself returned, or drew."""
    return [name for name in arrays if "." not in name or is_draw(name)]


def is_draw(name: str) -> bool:
    """Say whether a name is that of numbers drawn at random, which are compared by distribution."""
    return name.startswith("draws.")


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Draw float32 numbers from the standard normal distribution."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def sizes(rng: np.random.Generator, count: int, low: int = 2, high: int = 9) -> list[int]:
    """Draw sizes between low and high, all different, so that no dimension can pass for another."""
    return [int(size) for size in rng.choice(np.arange(low, high + 1), count, replace=False)]
