"""One input, what the answer made of it, and what the reference makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gptlib.checks.compare import agrees, same_distribution
from gptlib.checks.exercise import Case, Exercise, is_draw, results
from gptlib.checks.probing import Answer, Arrays, Odd, Outcome, Raised, Value, run


@dataclass(frozen=True)
class Trial:
    """An outcome beside the expected one; what the outcome lacks is odd, what it has too much is ignored."""

    case: Case
    seen: Outcome
    expected: Arrays
    tolerance: float

    def __getitem__(self, name: str) -> Value:
        return Odd("nothing") if isinstance(self.seen, Raised) else self.seen.get(name, Odd("nothing"))

    def right(self, name: str) -> bool:
        """Say whether one value agrees with the reference's, or numbers drawn at random with its distribution."""
        if is_draw(name):
            return same_distribution(self[name], self.expected[name])
        return agrees(self[name], self.expected[name], self.tolerance)

    @property
    def wrong(self) -> list[str]:
        """The names of the values that do not agree, results first."""
        return [name for name in self.expected if not self.right(name)]

    @property
    def unanswered(self) -> bool:
        """True when an unfinished function was called: it raised NotImplementedError or returned None or `...`."""
        if isinstance(self.seen, Raised):
            return self.seen.type == "NotImplementedError"
        return all(self[name] in (Odd("None"), Odd("...")) for name in results(self.expected))

    def like(self, other: Outcome, names: Sequence[str], *, any_dtype: bool) -> bool:
        """Say whether another outcome is wrong in the same way: the same exception, or the same values."""
        if isinstance(self.seen, Raised) or isinstance(other, Raised):
            return isinstance(self.seen, Raised) and isinstance(other, Raised) and self.seen.type == other.type
        return all(
            name in other
            and (
                same_distribution(self[name], other[name])
                if is_draw(name) and isinstance(self[name], torch.Tensor)
                else agrees(self[name], other[name], self.tolerance, nan_agrees=True, any_dtype=any_dtype)
            )
            for name in names
        )


def trials(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> list[Trial]:
    """Put what an answer made of each input beside what the reference makes of it."""
    return [
        Trial(case, seen, _reference(exercise, case), exercise.tolerance)
        for case, seen in zip(cases, outcomes, strict=True)
    ]


def attempt(exercise: Exercise, answer: Answer, cases: Sequence[Case]) -> list[Outcome]:
    """Probe an answer on every input, here and now."""
    return [run(exercise.probe, answer, case.given) for case in cases]


def _reference(exercise: Exercise, case: Case) -> Arrays:
    outcome = run(exercise.probe, exercise.reference, case.given)
    if isinstance(outcome, Raised):
        raise ValueError(f"{exercise.id}: the reference itself raised {outcome.type}: {outcome.message}")
    return outcome
