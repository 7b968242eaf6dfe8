"""Grades for other graders, in the formats that they document."""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gptlib.grading.result import Result, clean
from gptlib.grading.tables import cell, write_text


def write_gradescope(folder: Path, results: Sequence[Result]) -> None:
    """Write what Gradescope reads as results.json, one file for each submission in `gradescope/`.

    A lone submission, as it stands in Gradescope's container, is written to `results.json` as well.
    """
    for result, name in zip(results, students(results), strict=True):
        text = json.dumps(gradescope(result), indent=1) + "\n"
        write_text(folder / "gradescope" / f"{_file_name(name)}.json", text)
        if len(results) == 1:
            write_text(folder / "results.json", text)


def gradescope(result: Result) -> dict[str, object]:
    """Return a submission as Gradescope's results.json (gradescope-autograders.readthedocs.io, "Output Format")."""
    tests = [
        {
            "name": each.report.id,
            "score": each.report.score,
            "max_score": each.report.max_score,
            "status": "passed" if each.report.passed else "failed",
            "output": _words(each.report.message, *each.notes),
            "output_format": "text",
            "visibility": "visible",
        }
        for each in result.exercises
    ]
    return {
        "score": result.score,
        "output": _words(result.problem, *result.notes),
        "output_format": "text",
        "visibility": "visible",
        "execution_time": round(result.seconds),
        "tests": tests,
    }


NBGRADER_COLUMNS = (
    *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
    *("raw_score", "late_submission_penalty", "score", "max_score"),
)


def write_nbgrader(folder: Path, results: Sequence[Result]) -> None:
    """Write `nbgrader.csv`, with the columns of `nbgrader export`: what reads those grades reads these."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(NBGRADER_COLUMNS)
    for result, name in zip(results, students(results), strict=True):
        score, most = f"{result.score:g}", f"{result.max_score:g}"
        table.writerow([cell(result.lesson), "", "", cell(name), "", "", "", score, "0.0", score, most])
    write_text(folder / "nbgrader.csv", file.getvalue())


WRITERS: dict[str, Callable[[Path, Sequence[Result]], None]] = {
    "gradescope": write_gradescope,
    "nbgrader": write_nbgrader,
}


def students(results: Sequence[Result]) -> list[str]:
    """Return a name for each submission: its folder below the one that all share, else its file's name."""
    paths = [Path(os.path.abspath(result.submission)) for result in results]
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    inside = [path.relative_to(root).parts for path in paths]
    names = [parts[0] if len(parts) > 1 else path.stem for parts, path in zip(inside, paths, strict=True)]
    return names if len(set(names)) == len(names) else ["/".join(parts) for parts in inside]


def _words(*lines: str) -> str:
    return str(clean("\n".join(line for line in lines if line)))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".") or "_"
