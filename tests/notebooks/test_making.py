"""Building what changed, and saying what is stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from builder import making, running
from builder.making import build, check

Cells = Callable[[str], tuple[list[str], list[NotebookNode]]]
LESSON, EXERCISE, SOLUTION = "notebooks/01_one.ipynb", "exercises/01_one.ipynb", "solutions/01_one.ipynb"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count what is executed, and in place of a kernel give each cell a plain output."""
    runs: list[str] = []

    def quick(notebook: NotebookNode) -> float:
        runs.append(notebook.metadata.gptlib.kind)
        for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"run {len(runs)}\n")]
        return 0.0

    monkeypatch.setattr(making, "run", quick)
    return runs


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def outputs(course: Path, name: str) -> list[str]:
    return [output.text for cell in read(course / name).cells for output in cell.get("outputs", ())]


def test_a_built_course_is_fresh_and_is_not_built_twice(course: Path, executed: list[str]) -> None:
    assert build(course) == []
    assert executed == ["lesson", "solution"]
    assert check(course) == []
    before = {path: path.read_bytes() for path in course.rglob("*.ipynb")}
    assert len(before) == 3
    assert build(course) == []
    assert executed == ["lesson", "solution"]
    assert {path: path.read_bytes() for path in course.rglob("*.ipynb")} == before


def test_force_builds_all_and_names_narrow_it(course: Path, executed: list[str]) -> None:
    build(course)
    build(course, ["01_one"], force=True)
    assert executed == ["lesson", "solution"] * 2


def test_changed_code_is_stale_and_executed_again_alone(course: Path, executed: list[str]) -> None:
    build(course)
    replace(course / "source/lessons/01_one.py", "6 * 7", "42")
    assert check(course) == [f"{LESSON} is stale: its source, or the library below it, has changed; run make notebooks"]
    build(course)
    assert executed == ["lesson", "solution", "lesson"]
    assert check(course) == []


def test_changed_words_keep_the_outputs(course: Path, executed: list[str]) -> None:
    build(course)
    replace(course / "source/lessons/01_one.py", "and mind", "and please mind")
    assert len(check(course)) == 1
    build(course)
    assert executed == ["lesson", "solution"]
    assert "please" in (course / LESSON).read_text()
    assert set(outputs(course, LESSON)) == {"run 1\n"}
    assert check(course) == []


def test_a_changed_room_below_makes_exactly_the_executed_notebooks_on_it_stale(
    course: Path, executed: list[str]
) -> None:
    build(course)
    replace(course / "gptlib/alone.py", "1", "2")
    assert check(course) == []
    replace(course / "gptlib/assets/model.bin", "weights", "other weights")
    assert [problem.split()[0] for problem in check(course)] == [LESSON]
    build(course)
    assert executed == ["lesson", "solution", "lesson"]


def test_a_new_tag_is_stamped_without_executing(course: Path, executed: list[str]) -> None:
    build(course)
    replace(course / "pyproject.toml", "1.2.3", "1.3.0")
    stale = check(course)
    assert len(stale) == 4
    assert stale[-1] == "README.md does not say what pyproject.toml and source/ say; run make notebooks"
    build(course)
    assert executed == ["lesson", "solution"]
    assert check(course) == []
    assert "git+https://github.com/owner/name@v1.3.0" in (course / LESSON).read_text()
    assert "v1.3.0" in (course / "README.md").read_text()
    assert "v1.2.3" not in (course / "README.md").read_text()


def test_the_readme_lists_what_exists_with_its_links(course: Path, executed: list[str]) -> None:
    build(course)
    colab = "https://colab.research.google.com/github/owner/name/blob/v1.2.3"
    text = (course / "README.md").read_text()
    assert "git clone https://github.com/owner/name\ncd name\nmake lab" in text
    assert (
        f"| 01 | [The first thing]({LESSON}) · [open in Colab]({colab}/{LESSON}) "
        f"| [Exercises: the first thing]({EXERCISE}) · [open in Colab]({colab}/{EXERCISE}) |"
    ) in text


@pytest.mark.usefixtures("executed")
def test_check_finds_an_exercise_that_holds_an_answer(course: Path) -> None:
    build(course)
    notebook = read(course / EXERCISE)
    answer = next(cell for cell in notebook.cells if cell.metadata.name == "double")
    answer.source = "def double(x: float) -> float:\n    return 2 * x"
    nbformat.write(notebook, course / EXERCISE)
    assert f"{EXERCISE} still holds an answer, in cell 'double'" in check(course)
    assert f"{EXERCISE} is stale: it was changed by hand; run make notebooks" in check(course)


@pytest.mark.usefixtures("executed")
def test_check_finds_an_exercise_that_was_run(course: Path) -> None:
    build(course)
    notebook = read(course / EXERCISE)
    cell = next(cell for cell in notebook.cells if cell.metadata.name == "check_double")
    cell.execution_count = 1
    nbformat.write(notebook, course / EXERCISE)
    assert check(course) == [f"{EXERCISE} has a cell, 'check_double', that was executed"]


@pytest.mark.usefixtures("executed")
def test_check_finds_what_was_never_run_or_raised_or_shows_this_machine(course: Path) -> None:
    build(course)
    notebook = read(course / LESSON)
    _, setup, numbers, _, figure = notebook.cells
    setup.execution_count = None
    numbers.outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=[])]
    figure.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{Path.home()}/x <A at 0x7f00aa11bb22>\n")]
    nbformat.write(notebook, course / LESSON)
    problems = "\n".join(check(course))
    assert f"{LESSON} has a cell, 'setup', that was not executed" in problems
    assert f"{LESSON} has a cell, 'numbers', that raised KeyError" in problems
    assert f"cell 'figure' shows a path of this machine, {Path.home()}/" in problems
    assert "shows the memory address 0x7f00aa11bb22" in problems


@pytest.mark.usefixtures("executed")
def test_check_finds_missing_broken_and_stray_notebooks(course: Path) -> None:
    build(course)
    (course / LESSON).unlink()
    (course / SOLUTION).write_text("{")
    (course / "exercises/99_gone.ipynb").write_text("{}")
    assert check(course) == [
        f"{LESSON} is not there, or is no notebook; run make notebooks",
        f"{SOLUTION} is not there, or is no notebook; run make notebooks",
        "exercises/99_gone.ipynb has no source; delete it",
    ]


def test_one_broken_text_does_not_stop_the_others(course: Path, executed: list[str]) -> None:
    replace(course / "source/lessons/01_one.py", ' name="numbers"', "")
    (problem,) = build(course)
    assert "has no name of its own" in problem
    assert executed == ["solution"]
    assert not (course / LESSON).exists()


@pytest.mark.usefixtures("executed")
def test_sizes_are_watched(course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(making, "LARGE_BYTES", 100)
    build(course)
    assert "01_one.ipynb (lesson) has " in capsys.readouterr().err
    monkeypatch.setattr(making, "MOST_BYTES", 200)
    replace(course / "source/lessons/01_one.py", "6 * 7", "42")
    before = (course / LESSON).read_bytes()
    (problem,) = build(course)
    assert "and 200 is the most" in problem
    assert (course / LESSON).read_bytes() == before


def test_a_notebook_is_executed_for_real_and_built_again_with_the_same_code(course: Path) -> None:
    assert build(course) == []
    assert outputs(course, LESSON) == ["42\n"]
    lesson = read(course / LESSON)
    assert [cell.execution_count for cell in lesson.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert lesson.metadata.language_info == {"name": "python"}
    assert set(lesson.metadata) == {"gptlib", "kernelspec", "language_info"}
    assert read(course / SOLUTION).cells[-1].outputs[0].data["text/plain"] == "8.0"
    first = json.loads((course / LESSON).read_text())
    build(course, force=True)
    assert json.loads((course / LESSON).read_text()) == first
    assert check(course, again=True) == []


@pytest.fixture
def cells(course: Path) -> Cells:
    """Replace the lesson's code by one cell and build it; return (problems, outputs)."""

    def with_code(code: str) -> tuple[list[str], list[NotebookNode]]:
        (course / "source/lessons/01_one.py").write_text(f'# %% name="only"\n{code}\n')
        problems = build(course, ["01_one"])
        path = course / LESSON
        return problems, read(path).cells[-1].outputs if path.exists() else []

    (course / "source/exercises/01_one.py").unlink()
    (course / "README.md").unlink()
    return with_code


def test_a_cell_that_raises_is_named_with_its_error_and_nothing_is_written(cells: Cells, course: Path) -> None:
    ((problem,), _) = cells("1 / 0")
    assert problem.startswith("source/lessons/01_one.py: cell 'only' raised ZeroDivisionError: division by zero\n")
    assert "\x1b" not in problem
    assert not (course / LESSON).exists()


def test_a_number_outside_its_tolerance_fails_the_build(cells: Cells) -> None:
    ((problem,), _) = cells("from gptlib.prose import near, say\nsay('{loss:.2f}', loss=near(1.95, 1.88, 0.05))")
    assert "AssertionError: loss = 1.95 is not within 0.05 of 1.88" in problem


def test_surroundings_are_the_same_everywhere(cells: Cells) -> None:
    code = f"import os, sys, torch\nassert sys.executable == {sys.executable!r}\n"
    code += "print(os.listdir(), torch.get_num_threads(), torch.cuda.is_available(), os.environ['GPTLIB_BUILD'])"
    problems, (output,) = cells(code)
    assert problems == []
    assert output.text == "[] 2 False 1\n"


def test_paths_and_addresses_of_this_machine_never_get_into_a_notebook(cells: Cells, course: Path) -> None:
    ((problem,), _) = cells("import warnings\nwarnings.warn('careful')")
    assert "cell 'only' shows a path of this machine" in problem
    ((problem,), _) = cells("object()")
    assert "shows the memory address 0x" in problem
    assert not (course / LESSON).exists()


def test_progress_bars_and_running_widgets_leave_nothing_and_pictures_stay(cells: Cells) -> None:
    code = """
import sys
from IPython.display import display
print("before"); print("after")
for i in range(3):
    print(f"\\r{i}/3", end="", file=sys.stderr, flush=True)
print(file=sys.stderr)
view = "application/vnd.jupyter.widget-view+json"
display({view: {"model_id": "1"}, "text/plain": "IntSlider()"}, raw=True)
display({view: {"model_id": "2"}, "text/plain": "A view", "image/png": "iVBORw0KGgo="}, raw=True)
"""
    problems, found = cells(code)
    assert problems == []
    assert found[0].text == "before\nafter\n"
    assert [set(output.data) for output in found[1:]] == [{"text/plain", "image/png"}]


def test_a_cell_that_hangs_is_ended(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS_PER_CELL", 2)
    ((problem,), _) = cells("import time\ntime.sleep(60)")
    assert "source/lessons/01_one.py: cell 'only' took longer than 2 s" in problem
