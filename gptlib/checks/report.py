"""What a check says, as text for a terminal and as HTML for a notebook."""

import textwrap
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

STATUSES = ("correct", "partial", "incorrect", "unanswered", "error", "timeout", "refused")


@dataclass(frozen=True)
class Report:
    """The outcome of checking one answer."""

    id: str
    title: str
    status: str  # one of STATUSES
    score: float
    max_score: float
    message: str  # what to read first
    misconception: str = ""  # its name, two joined by " + "
    evidence: tuple[tuple[str, str], ...] = ()  # label and text: on which input, what was expected, what was seen
    properties: tuple[tuple[str, bool, float], ...] = ()  # name, whether it holds, points
    advice: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True when the answer earns full marks."""
        return self.status == "correct"

    @property
    def headline(self) -> str:
        """Id, status and points in one line."""
        return f"{self.id}: {self.status}, {self.score:g} of {self.max_score:g} point{'s' * (self.max_score != 1)}"

    def as_grade(self) -> dict[str, object]:
        """Return the entry of this exercise in a grades file."""
        return {
            "id": self.id,
            "score": self.score,
            "max_score": self.max_score,
            "status": self.status,
            "misconception": self.misconception,
            "message": self.message,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values; `from_dict` reads them back, also after JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Report":
        """Rebuild a report from `as_dict`."""
        lists = ("evidence", "properties")
        rows = {name: tuple(tuple(row) for row in values[name]) for name in lists}
        return cls(**{**values, **rows, "advice": tuple(values["advice"])})

    def __str__(self) -> str:
        parts = [
            self.headline + "\n" + textwrap.fill(self.message, 100),
            "\n".join(_beside(label, text) for label, text in self.evidence),
            "\n".join(f"{_mark(held)}  {points:g}  {name}" for name, held, points in self._rows),
            *[textwrap.fill(f"note: {line}", 100) for line in self.advice],
            f"More help: {self._help}" if self._help else "",
        ]
        return "\n\n".join(part for part in parts if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        evidence = "".join(
            f'<tr><th scope="row" {_LEFT}>{escape(label)}</th><td {_LEFT}><pre {_PLAIN}>{escape(text)}</pre></td></tr>'
            for label, text in self.evidence
        )
        properties = "".join(
            f"<tr><td>{_mark(held)}</td><td>{points:g}</td><td {_LEFT}>{escape(name)}</td></tr>"
            for name, held, points in self._rows
        )
        head = f'<tr><th scope="col"></th><th scope="col">points</th><th scope="col" {_LEFT}>property</th></tr>'
        parts = [
            f"<p>{escape(self.message)}</p>",
            f"<table>{evidence}</table>" if evidence else "",
            f"<table><thead>{head}</thead><tbody>{properties}</tbody></table>" if properties else "",
            *[f"<p><em>note: {escape(line)}</em></p>" for line in self.advice],
            f"<p>More help: <code>{escape(self._help)}</code></p>" if self._help else "",
        ]
        return _section(self.headline, "".join(parts))

    @property
    def _rows(self) -> tuple[tuple[str, bool, float], ...]:
        return () if self.passed or not any(held for _, held, _ in self.properties) else self.properties

    @property
    def _help(self) -> str:
        return f'check("{self.id}", hint=1)' if self.status not in ("correct", "refused") else ""


@dataclass(frozen=True)
class Hint:
    """One stage of help."""

    id: str
    stage: int
    stages: int
    text: str

    def __str__(self) -> str:
        text = f"{self._title}\n{textwrap.fill(self.text, 100)}"
        return f"{text}\nMore: {self._next}" if self._next else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        more = f"<p>More: <code>{escape(self._next)}</code></p>" if self._next else ""
        return _section(self._title, f"<p>{escape(self.text)}</p>{more}")

    @property
    def _title(self) -> str:
        return f"{self.id}, hint {self.stage} of {self.stages}"

    @property
    def _next(self) -> str:
        return f'check("{self.id}", hint={self.stage + 1})' if self.stage < self.stages else ""


# Colours come from the page, which may be light or dark.
_LEFT = 'style="text-align:left;vertical-align:top"'
_PLAIN = 'style="margin:0;font-family:monospace;background:none"'
_BOX = 'style="border-left:3px solid currentColor;padding-left:1em;color:inherit"'


def _section(title: str, body: str) -> str:
    return f'<section aria-label="{escape(title)}" {_BOX}><p><strong>{escape(title)}</strong></p>{body}</section>'


def _mark(held: bool) -> str:
    return "earned" if held else "missed"


def _beside(label: str, text: str) -> str:
    return textwrap.indent(text, " " * 12).replace(" " * 12, label.ljust(12), 1)
