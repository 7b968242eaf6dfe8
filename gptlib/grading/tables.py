"""Grades as files: grades.json for programs and grades.csv for a spreadsheet, both written by nobody else."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from gptlib.grading.result import Result, clean


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write grades.json and grades.csv.

    Args:
        folder: where; made when it is not there.
        results: in the order in which they are to stand.
    """
    grades = json.dumps([result.as_grade() for result in results], indent=1)
    write_text(folder / "grades.json", grades + "\n")
    write_text(folder / "grades.csv", _csv(results))


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    new.write_text(text, encoding="utf-8", newline="")
    os.replace(new, file)


def cell(text: str) -> str:
    """Return words that a spreadsheet shows and does not compute."""
    plain = str(clean(text.encode("utf-8", "replace").decode()))
    return "'" + plain if plain.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else plain


def _csv(results: Sequence[Result]) -> str:
    ids = list(dict.fromkeys(each.report.id for result in results for each in result.exercises))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\r\n")
    table.writerow(["submission", "score", "max_score", *ids, *(f"{name} status" for name in ids), "problem"])
    for result in results:
        reports = {each.report.id: each.report for each in result.exercises}
        scores = [f"{reports[name].score:g}" if name in reports else "" for name in ids]
        status = [reports[name].status if name in reports else "" for name in ids]
        row = [cell(result.submission), f"{result.score:g}", f"{result.max_score:g}"]
        table.writerow([*row, *scores, *status, cell(result.problem)])
    return file.getvalue()
