"""Pages for an instructor: one for the class, one for each submission. Every word on them is escaped."""

import hashlib
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gptlib.grading.result import Graded, Result, clean
from gptlib.grading.tables import write_text

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #0072b2; --soft: #8882; }
@media (prefers-color-scheme: dark) { :root { --bar: #56b4e9; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: var(--soft); padding: .5rem; margin: 0; font-size: .875rem; }
.bar { fill: var(--bar); } svg { max-width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; }
.note { border-left: 3px solid var(--bar); padding-left: .75rem; }
"""
_STATUS = {
    "correct": "full marks",
    "partial": "some of the marks",
    "incorrect": "wrong",
    "unanswered": "no answer",
    "error": "raised or ended",
    "timeout": "out of time",
    "refused": "not taken",
}


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write index.html and a page for each submission in `submissions/`."""
    for result in results:
        write_text(folder / page_of(result), _page(result.submission, _submission(result)))
    write_text(folder / "index.html", _page("Grades", _class(results)))


def page_of(result: Result) -> str:
    """Return where a submission's page stands, seen from the class's page."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(result.submission).with_suffix("").as_posix())[-60:].strip("-")
    return f"submissions/{name}-{hashlib.sha256(os.fsencode(result.submission)).hexdigest()[:8]}.html"


def _page(title: str, body: str) -> str:
    # The policy lets nothing load or run, even if something slipped through the escaping.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


# The class


def _class(results: Sequence[Result]) -> str:
    parts = [f"<h1>Grades of {len(results)} submission{'s' * (len(results) != 1)}</h1>"]
    for lesson in dict.fromkeys(result.lesson for result in results):
        same = [result for result in results if result.lesson == lesson]
        if lesson:
            parts += [_set(lesson, same)]
    return "".join([*parts, "<h2>Submissions</h2>", _everybody(results)])


def _set(lesson: str, results: Sequence[Result]) -> str:
    shares = [result.score / result.max_score if result.max_score else 0.0 for result in results]
    scores = [result.score for result in results]
    middle = f"median {statistics.median(scores):g} of {results[0].max_score:g} points"
    said = f"{len(results)} submissions, {middle}, from {min(scores):g} to {max(scores):g}."
    return (
        f"<h2>Set: {_text(lesson)}</h2><p>{said}</p>{_distribution(shares)}"
        f"<h3>Exercises, the hardest first</h3>{_hardest(results)}"
        f"<h3>Most frequent misconceptions</h3>{_misconceptions(results)}"
    )


def _distribution(shares: Sequence[float]) -> str:
    """Draw how many submissions earned which share of the points, in ten steps; the table says the same."""
    counts = [0] * 10
    for share in shares:
        counts[min(9, int(share * 10 + 1e-9))] += 1
    most, bars = max(counts), []
    for step, count in enumerate(counts):
        height = 100 * count / most if most else 0
        bars.append(f'<rect class="bar" x="{10 + 45 * step}" y="{120 - height:.1f}" width="40" height="{height:.1f}"/>')
        bars.append(f'<text x="{30 + 45 * step}" y="{115 - height:.1f}" text-anchor="middle">{count or ""}</text>')
        bars.append(f'<text x="{30 + 45 * step}" y="138" text-anchor="middle">{10 * step}</text>')
    steps = [f"{10 * step} to {10 * step + 10} %" for step in range(10)]
    said = "; ".join(f"{name}: {count}" for name, count in zip(steps, counts, strict=True) if count)
    return (
        f'<svg viewBox="0 0 470 160" width="470" role="img" aria-label="Submissions by share of the points. {said}">'
        f'{"".join(bars)}<text x="235" y="156" text-anchor="middle">percent of the points</text></svg>'
        f"<p>Submissions by share of the points: {said}.</p>"
    )


def _hardest(results: Sequence[Result]) -> str:
    rows = []
    for name in dict.fromkeys(each.report.id for result in results for each in result.exercises):
        reports = [each.report for result in results for each in result.exercises if each.report.id == name]
        share = sum(report.score for report in reports) / max(1, sum(report.max_score for report in reports))
        counted = Counter(report.status for report in reports)
        states = ", ".join(f"{_STATUS[status]}: {count}" for status, count in counted.most_common())
        rows.append((share, [_text(name), f"{100 * share:.0f} %", _text(states)]))
    rows.sort(key=lambda row: row[0])
    return _table(["exercise", "points earned", "answers"], [cells for _, cells in rows])


def _misconceptions(results: Sequence[Result]) -> str:
    found = Counter(
        (each.report.id, each.report.misconception)
        for result in results
        for each in result.exercises
        if each.report.misconception
    )
    rows = [[_text(name), _text(what), str(count)] for (name, what), count in found.most_common(15)]
    return _table(["exercise", "misconception", "answers"], rows) if rows else "<p>None that is known by name.</p>"


def _everybody(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        link = f'<a href="{escape(page_of(result))}">{_text(result.submission)}</a>'
        remarks = len(result.notes) + sum(len(each.notes) + len(each.report.advice) for each in result.exercises)
        remark = result.problem or (f"{remarks} remark{'s' * (remarks != 1)}" if remarks else "")
        rows.append([link, f"{result.score:g}", f"{result.max_score:g}", _text(remark)])
    return _table(["submission", "points", "of", "remarks"], rows)


# One submission


def _submission(result: Result) -> str:
    total = f"{result.score:g} of {result.max_score:g} points"
    notes = [result.problem, *result.notes]
    return "".join(
        [
            f'<p><a href="../index.html">All submissions</a></p><h1>{_text(result.submission)}</h1>',
            f"<p><strong>{total}</strong>" + (f", set {_text(result.lesson)}" if result.lesson else "") + "</p>",
            _remarks(notes),
            *[_exercise(each) for each in result.exercises],
        ]
    )


def _exercise(each: Graded) -> str:
    report = each.report
    status = _STATUS.get(report.status, report.status)
    evidence = [[_text(label), f"<pre>{_text(text)}</pre>"] for label, text in report.evidence]
    properties = [
        ["earned" if held else "missed", f"{points:g}", _text(name)] for name, held, points in report.properties
    ]
    named = f"<p>Misconception: <strong>{_text(report.misconception)}</strong></p>" if report.misconception else ""
    return "".join(
        [
            f"<h2>{_text(report.id)}: {report.score:g} of {report.max_score:g}, {_text(status)}</h2>",
            f"<p>{_text(report.message)}</p>{named}",
            _table(["", "on one input"], evidence) if evidence else "",
            _table(["", "points", "property"], properties) if properties and report.score else "",
            _remarks([*each.notes, *report.advice]),
            f"<details><summary>The answer</summary><pre>{_text(each.source)}</pre></details>" if each.source else "",
        ]
    )


def _remarks(lines: Iterable[str]) -> str:
    return "".join(f'<p class="note">{_text(line)}</p>' for line in lines if line)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    top = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    number = re.fullmatch(r"[\d.]+( %)?", text) is not None
    return f'<td class="number">{text}</td>' if number else f"<td>{text}</td>"


def _text(words: str) -> str:
    return escape(str(clean(words.encode("utf-8", "replace").decode())))
