"""The course itself: what was built is fresh, and it runs from start to end in any folder."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from builder.compose import ANSWER, BLANK, Target, targets
from builder.making import check
from builder.project import ROOT
from builder.running import WIDGET, run
from gptlib.measured import recorded
from measure import ladder

TARGETS = targets(ROOT)
EXECUTED = [target for target in TARGETS if target.runs]


def name(target: Target) -> str:
    return target.path.relative_to(ROOT).as_posix()


def read(target: Target) -> NotebookNode:
    return nbformat.read(target.path, as_version=4)


def test_the_course_begins_with_the_notebook_that_make_lab_opens() -> None:
    assert name(TARGETS[0]) == "notebooks/00_welcome.ipynb"


def test_every_built_notebook_is_there_fresh_and_whole() -> None:
    assert check(ROOT) == []


@pytest.mark.parametrize("target", EXECUTED, ids=name)
def test_an_executed_notebook_keeps_its_pictures_and_reads_without_a_kernel(target: Target) -> None:
    outputs = [output for cell in read(target).cells for output in cell.get("outputs", ())]
    assert outputs
    kinds = [set(output.get("data", {})) for output in outputs]
    assert not any(WIDGET in kind for kind in kinds)
    if target.kind == "lesson":
        assert any("image/png" in kind for kind in kinds)


@pytest.mark.parametrize("target", [target for target in TARGETS if target.kind == "exercise"], ids=name)
def test_no_answer_stands_anywhere_in_an_exercise(target: Target) -> None:
    sources = [cell.source for cell in read(target).cells]
    answers = [answer for _, answer in ANSWER.findall(target.source.read_text(encoding="utf-8"))]
    assert sum(source.count(BLANK) for source in sources) == len(answers) > 0
    for answer in answers:
        # A line or two may well stand in a hint or an example; the answer as a whole may not.
        assert not any(re.sub(r"\s+", " ", answer.strip()) in re.sub(r"\s+", " ", source) for source in sources)


@pytest.mark.parametrize("target", [target for target in TARGETS if target.kind == "exercise"], ids=name)
def test_the_text_of_an_exercise_and_its_value_agree(target: Target) -> None:
    from gptlib.checks import exercises

    given = [
        cell.metadata.gptlib for cell in read(target).cells if cell.metadata.get("gptlib", {}).get("role") == "answer"
    ]
    lesson = given[0].exercise.partition(".")[0]
    assert [(each.exercise, each.points) for each in given] == [(each.id, each.points) for each in exercises(lesson)]
    asked = [
        cell.metadata.gptlib for cell in read(target).cells if cell.metadata.get("gptlib", {}).get("role") == "check"
    ]
    assert [each.exercise for each in asked] == [each.exercise for each in given]


def test_the_running_chart_shows_what_the_lessons_measured() -> None:
    assert {**recorded("ladder")} == ladder.points()


@pytest.mark.parametrize("target", [target for target in TARGETS if target.kind == "lesson"], ids=name)
def test_a_lesson_shows_the_points_of_the_lessons_before_as_they_are_recorded(target: Target) -> None:
    pictures = [
        output.get("metadata", {}).get("image/png", {})
        for cell in read(target).cells
        for output in cell.get("outputs", ())
    ]
    shown = re.findall(
        r"(?:^|; )([^;]+): ([\d.]+) nats above the floor \(recorded\)", "; ".join(p.get("alt", "") for p in pictures)
    )
    for point, nats in shown:
        assert abs(float(nats) - recorded("ladder")[point]) < 0.02, f"{point} moved; build the lesson anew"


@pytest.mark.parametrize("target", EXECUTED, ids=name)
def test_a_notebook_runs_from_start_to_end_offline_with_an_empty_cache(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path))
    run(read(target))
