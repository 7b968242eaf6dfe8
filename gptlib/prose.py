"""Sentences whose numbers are measured where they are said, so that text and code cannot disagree."""

from __future__ import annotations

import os
import string
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Near:
    """A measured value beside the one that the course measured; made by `near`."""

    value: float
    expected: float
    within: float

    @property
    def holds(self) -> bool:
        """Whether the value lies within the tolerance; NaN never does."""
        return abs(self.value - self.expected) <= self.within

    def __format__(self, spec: str) -> str:
        """Format the value, and when it does not hold, add in brackets what the course measured."""
        text = format(self.value, spec)
        return text if self.holds else f"{text} (the course measured {format(self.expected, spec)})"


def near(value: float, expected: float, within: float) -> Near:
    """Tag a measured number with the value that the text around it was written for.

    When the course is built, `say` and `reveal` raise for a number that is off by more than `within`; on a learner's
    machine they add in brackets what the course measured.

    Args:
        value: what was measured here; anything `float` takes, a tensor with one element included.
        expected: what the author measured.
        within: the largest difference at which the text still holds, at least 0.
    """
    if not within >= 0:
        raise ValueError(f"within={within} is below 0; give the largest difference at which the text still holds")
    return Near(float(value), float(expected), float(within))


def say(template: str, **numbers: Any) -> None:
    """Display a sentence in Markdown with measured numbers in it; outside a notebook, print it.

    Args:
        template: Markdown with a format field for each number; a brace that is meant as such is doubled.
        numbers: the values by name: numbers, tensors with one element, strings, or numbers tagged by `near`.

    Raises:
        ValueError: a field has no number, or a number no field.
        AssertionError: while the course is built, a tagged number is outside its tolerance.

    Example:
        >>> say("The loss fell to {loss:.2f} nats in {steps:,} steps.", loss=1.8834, steps=2000)
        The loss fell to 1.88 nats in 2,000 steps.
    """
    text = _filled(template, numbers)
    _display(text, text)


def reveal(answer: str, *, question: str, **numbers: Any) -> None:
    """Display a question whose answer opens on a click; outside a notebook, print both.

    Args:
        answer: Markdown with format fields, as in `say`.
        question: one line, shown as it is.
        numbers: the values of the fields.

    Raises:
        ValueError, AssertionError: as `say` does.

    Example:
        >>> reveal("{loss:.2f} nats: ln {size}.", question="What is the first loss?", loss=4.174, size=65)
        What is the first loss?
        4.17 nats: ln 65.
    """
    text = _filled(answer, numbers)
    # Markdown inside an HTML element is read as such only after an empty line.
    _display(f"<details>\n<summary>{question}</summary>\n\n{text}\n\n</details>", f"{question}\n{text}")


def _filled(template: str, numbers: dict[str, Any]) -> str:
    fields = {
        field.split(".")[0].split("[")[0] for _, field, _, _ in string.Formatter().parse(template) if field is not None
    }
    if missing := sorted(fields - numbers.keys()):
        raise ValueError(f"the text has the field {{{missing[0]}}} and no number for it; pass {missing[0] or 'name'}=…")
    if unused := sorted(numbers.keys() - fields):
        raise ValueError(f"the text has no field for {unused[0]}; write {{{unused[0]}}} where it belongs")
    for name, number in numbers.items():
        if isinstance(number, Near) and not number.holds and os.environ.get("GPTLIB_BUILD") == "1":
            raise AssertionError(
                f"{name} = {number.value:.6g} is not within {number.within:g} of {number.expected:g}, for which the "
                "text was written; find out why, or write the text for the new value"
            )
    return template.format(**numbers)


def _display(markdown: str, plain: str) -> None:
    """Show Markdown where a notebook listens, and plain text elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and hasattr(ipython.get_ipython(), "kernel"):
        ipython.display.display({"text/markdown": markdown, "text/plain": plain}, raw=True)
    else:
        print(plain)
