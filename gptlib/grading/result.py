"""What grading says of one submission, as a value that can be kept as JSON."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gptlib.checks.exercise import Exercise
from gptlib.checks.judge import plain
from gptlib.checks.report import Report


@dataclass(frozen=True)
class Graded:
    """One exercise of a submission: the report, the answer's text, and notes for the instructor."""

    report: Report
    source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One submission."""

    submission: str  # the path as found
    digest: str = ""  # of the file's bytes; "" when it could not be read
    lesson: str = ""  # the set; "" when nothing in the notebook tells
    problem: str = ""  # why it could not be graded
    notes: tuple[str, ...] = ()
    exercises: tuple[Graded, ...] = field(default_factory=tuple)
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Points earned."""
        return round(sum(each.report.score for each in self.exercises), 2)

    @property
    def max_score(self) -> float:
        """Points of the whole set."""
        return sum(each.report.max_score for each in self.exercises)

    def as_grade(self) -> dict[str, object]:
        """Return the entry of this submission in grades.json."""
        exercises = [each.report.as_grade() for each in self.exercises]
        return {
            "submission": self.submission,
            "score": self.score,
            "max_score": self.max_score,
            "exercises": exercises,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with words that can be shown anywhere."""
        plain_values: dict[str, Any] = clean({**asdict(self), "submission": ""})
        return {**plain_values, "submission": self.submission}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """Rebuild a result from `as_dict`, also after JSON."""
        exercises = tuple(
            Graded(Report.from_dict(each["report"]), each["source"], tuple(each["notes"]))
            for each in values["exercises"]
        )
        return cls(**{**values, "notes": tuple(values["notes"]), "exercises": exercises})


def with_nothing(result: Result, asked: Sequence[Exercise], message: str, status: str) -> Result:
    """Return a result in which every exercise of a set has earned nothing, for one reason."""
    reports = [Graded(plain(exercise, status, message)) for exercise in asked]
    return replace(result, exercises=tuple(reports))


def clean(value: Any) -> Any:
    """Return plain values whose words hold no character that steers a terminal, a page or a text's direction."""
    if isinstance(value, str):
        return "".join(_visible(letter) for letter in value)
    if isinstance(value, Mapping):
        return {name: clean(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part) for part in value]
    return value


def _visible(letter: str) -> str:
    # Cc are controls, Cf among others the marks that turn a text round, Cs halves of characters.
    return (
        letter
        if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")
        else "\N{REPLACEMENT CHARACTER}"
    )
