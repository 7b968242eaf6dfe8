"""Where a learner stands: all exercises, what the checks said of them, in one picture and one table.

In a notebook the best report of each exercise is kept in a file in the notebook's folder, so that one notebook knows
what was solved in another. Elsewhere, and where nothing can be written, it is known until Python ends.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import Path

from gptlib.checks import registry
from gptlib.checks.exercise import Exercise
from gptlib.checks.report import STATUSES, Report

FILE = ".gptlib-progress.json"
Mark = tuple[str, float]  # status and share of the points, from 0 to 1
_seen: dict[str, Mark] = {}


def progress() -> "Progress":
    """Return all exercises with the best that checks have said of each."""
    return Progress(_stored() | _seen)


def remember(report: Report) -> None:
    """Keep what a check said, unless an earlier one said better."""
    mark = (report.status, round(report.score / report.max_score, 3))
    best = (_stored() | _seen).get(report.id)
    if best is not None and best[1] > mark[1]:
        return
    _seen[report.id] = mark
    if _in_notebook():
        with contextlib.suppress(OSError):  # a folder that cannot be written to keeps nobody from learning
            Path(FILE).write_text(json.dumps(_stored() | _seen, indent=1), encoding="utf-8")


class Progress:
    """All exercises and how far they are solved, which a notebook shows as a picture and a table."""

    def __init__(self, marks: Mapping[str, Mark]) -> None:
        self.rows = [(exercise, marks.get(exercise.id)) for exercise in registry.exercises()]

    @property
    def summary(self) -> str:
        """Exercises solved, points earned and time left, in one line."""
        solved, score, left = _sums(self.rows)
        total = sum(exercise.points for exercise, _ in self.rows)
        rest = f", about {left} minutes left" if left else ""
        return f"{solved} of {len(self.rows)} exercises solved, {score:g} of {total} points{rest}"

    def __str__(self) -> str:
        lines = [
            [*cells[:3], "  ".join(f"{_sign(mark)} {exercise.function}" for exercise, mark in rows)]
            for cells, rows in self._lessons()
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([self.summary, "", *table, "", "■ solved   ◧ begun   □ not yet"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" {_LEFT}>{name}</th>' for name in ("lesson", "points", "minutes left", ""))
        body = ""
        for cells, rows in self._lessons():
            states = ", ".join(f"{escape(exercise.function)}: {_state(mark)}" for exercise, mark in rows)
            body += f"<tr>{''.join(f'<td {_LEFT}>{cell}</td>' for cell in (*cells, states))}</tr>"
        return (
            f'<section aria-label="Progress"><p><strong>{escape(self.summary)}</strong></p>{self._picture()}'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>"
        )

    def _lessons(self) -> list[tuple[tuple[str, str, str], list[tuple[Exercise, Mark | None]]]]:
        """Return for each lesson its name, its points and the minutes left, and its exercises."""
        found = []
        for lesson, group in groupby(self.rows, key=lambda row: row[0].lesson):
            rows = list(group)
            _, score, left = _sums(rows)
            total = sum(exercise.points for exercise, _ in rows)
            found.append(((lesson, f"{score:g} of {total}", f"{left} min" if left else "–"), rows))
        return found

    def _picture(self) -> str:
        """Draw one box for each exercise, as wide as it takes minutes and filled as far as it is solved."""
        boxes, x = "", 1.0
        for _, rows in self._lessons():
            for exercise, mark in rows:
                width, full = 2.0 * exercise.minutes, 0.0 if mark is None else 20 * mark[1]
                place = f'x="{x:g}" width="{width - 2:g}"'
                boxes += f"<g><title>{escape(exercise.id)}: {_state(mark)}</title>"
                boxes += f'<rect {place} y="1" height="20" fill="none" stroke="currentColor" stroke-opacity="0.6"/>'
                boxes += f'<rect {place} y="{21 - full:g}" height="{full:g}" fill="currentColor"/></g>'
                x += width
            x += 8
        return (
            f'<svg role="img" aria-label="{escape(self.summary)}" viewBox="0 0 {x:g} 22" height="22" '
            f'style="max-width:100%;color:inherit">{boxes}</svg>'
        )


_LEFT = 'style="text-align:left"'


def _sums(rows: list[tuple[Exercise, Mark | None]]) -> tuple[int, float, int]:
    """Return how many are solved, the points earned, and the minutes that the others take."""
    solved = [mark is not None and mark[0] == "correct" for _, mark in rows]
    score = sum(round(exercise.points * mark[1], 2) for exercise, mark in rows if mark is not None)
    left = sum(exercise.minutes for (exercise, _), done in zip(rows, solved, strict=True) if not done)
    return sum(solved), round(score, 2), left


def _sign(mark: Mark | None) -> str:
    if mark is None or mark[0] == "unanswered":
        return "□"
    return "■" if mark[0] == "correct" else "◧"


def _state(mark: Mark | None) -> str:
    if mark is None or mark[0] == "unanswered":
        return "not yet"
    return "solved" if mark[0] == "correct" else f"begun ({100 * mark[1]:.0f} %)" if mark[1] else "begun"


def _in_notebook() -> bool:
    # Building the course's own notebooks must not depend on what was solved before.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel") and os.environ.get("GPTLIB_BUILD") != "1"


def _stored() -> dict[str, Mark]:
    """Read the file; what is not as `remember` writes it is passed over."""
    if not _in_notebook():
        return {}
    try:
        rows = json.loads(Path(FILE).read_text(encoding="utf-8"))
        return {str(name): (status, float(share)) for name, (status, share) in rows.items() if status in STATUSES}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
