"""A text becomes a notebook: roles, names, blanks, stamps, and the cell that Colab runs first."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode

from builder.compose import BLANK, answered, blank, compose, targets
from builder.project import BuildError, Project


def composed(course: Path, kind: str) -> NotebookNode:
    (target,) = (target for target in targets(course) if target.kind == kind)
    return compose(target, Project.read(course))


def cell(notebook: NotebookNode, name: str) -> NotebookNode:
    (found,) = (cell for cell in notebook.cells if cell.metadata.name == name)
    return found


def rewrite(course: Path, kind: str, old: str, new: str) -> None:
    path = course / f"source/{kind}s/01_one.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_each_text_goes_where_its_kind_goes(course: Path) -> None:
    paths = [target.path.relative_to(course).as_posix() for target in targets(course)]
    assert paths == ["notebooks/01_one.ipynb", "exercises/01_one.ipynb", "solutions/01_one.ipynb"]
    with pytest.raises(BuildError, match=r"has no 02_two; it has 01_one"):
        targets(course, ["02_two"])


def test_the_same_text_gives_the_same_bytes_and_the_notebook_is_valid(course: Path) -> None:
    for kind in ("lesson", "exercise", "solution"):
        first, second = composed(course, kind), composed(course, kind)
        assert nbformat.writes(first) == nbformat.writes(second)
        nbformat.validate(first)
        assert "jupytext" not in nbformat.writes(first)


def test_an_exercise_holds_blanks_and_a_solution_the_answers_without_their_markers(course: Path) -> None:
    exercise, solution = composed(course, "exercise"), composed(course, "solution")
    assert cell(exercise, "double").source == (
        'def double(x: float) -> float:\n    """Double `x`."""\n    raise NotImplementedError("write your answer here")'
    )
    assert cell(solution, "double").source.endswith('"""Double `x`."""\n    two = math.sqrt(4)\n    return two * x')
    assert "sqrt" not in nbformat.writes(exercise)


def test_metadata_carry_what_the_graders_read(course: Path) -> None:
    for kind in ("exercise", "solution"):
        notebook = composed(course, kind)
        assert cell(notebook, "imports").metadata.gptlib == {"role": "imports"}
        assert cell(notebook, "double").metadata.gptlib == {"role": "answer", "exercise": "one.double", "points": 2}
        assert cell(notebook, "check_double").metadata.gptlib == {"role": "check", "exercise": "one.double"}
        assert notebook.metadata.gptlib.kind == kind
        assert notebook.metadata.gptlib.source == "source/exercises/01_one.py"


def test_ids_follow_names_and_not_places_or_contents(course: Path) -> None:
    before = composed(course, "lesson")
    rewrite(
        course, "lesson", '# %% name="numbers"\nvalue = 6 * 7', '# %% name="new"\n1\n\n# %% name="numbers"\nvalue = 42'
    )
    after = composed(course, "lesson")
    assert cell(after, "numbers").id == cell(before, "numbers").id
    assert cell(after, "figure").id == cell(before, "figure").id
    assert len({c.id for c in after.cells}) == len(after.cells)
    assert cell(before, "title").id != cell(composed(course, "exercise"), "title").id


def test_stamps_are_filled_in_words_and_what_only_looks_like_one_stays(course: Path) -> None:
    lesson = composed(course, "lesson")
    link = "https://colab.research.google.com/github/owner/name/blob/v1.2.3/notebooks/01_one.ipynb"
    assert cell(lesson, "title").source == f"# The first thing\n[Open in Colab]({link})"
    assert cell(lesson, "words").source == "Read `v1.2.3` at https://github.com/owner/name, and mind x^{{2}}."
    assert "v1.2.3/exercises/01_one.ipynb" in cell(composed(course, "exercise"), "title").source
    assert "v1.2.3/solutions/01_one.ipynb" in cell(composed(course, "solution"), "title").source


@pytest.mark.parametrize(
    ("kind", "old", "new", "sentence"),
    [
        ("lesson", ' name="numbers"', "", "begins 'value = 6 \\* 7.*has no name of its own"),
        ("lesson", 'name="figure"', 'name="numbers"', "more than one cell is called 'numbers'"),
        ("lesson", 'name="figure"', 'name="setup"', "no name of its own"),
        ("lesson", "{{badge}}", "{{bagde}}", "{{bagde}} is no stamp; the stamps are {{badge}}"),
        ("lesson", "value = 6", "value = = 6", "invalid syntax, at 'value = = 6"),
        ("exercise", '"role": "check"', '"role": "chekc"', "cell 'check_double': the role 'chekc' is unknown"),
        ("exercise", '"points": 2', '"points": "2"', "needs 'points', of type int"),
        ("exercise", "    # end answer\n", "", "one of them is alone"),
        ("exercise", "    # answer\n", "", "one of them is alone"),
        ("exercise", "two = math.sqrt(4)\n", "# answer\n    two = math.sqrt(4)\n", "one of them is alone"),
        ("exercise", "import math\n", "# answer\nimport math\n# end answer\n", "role 'answer' go together"),
        (
            "exercise",
            "    # answer\n    two = math.sqrt(4)\n    return two * x\n    # end answer",
            "    ...",
            "go together",
        ),
    ],
)
def test_a_text_that_is_not_right_is_refused_with_the_cell_and_the_way_out(
    course: Path, kind: str, old: str, new: str, sentence: str
) -> None:
    rewrite(course, kind, old, new)
    with pytest.raises(BuildError, match=sentence) as error:
        composed(course, "solution" if kind == "exercise" else kind)
    assert str(error.value).startswith(f"source/{kind}s/01_one.py") or "stamp" in str(error.value)


LINES = st.lists(
    st.sampled_from(["x = 1", "    return x", "", "# a remark", "# the answer is 42"]), min_size=1, max_size=5
)


@given(before=LINES, answer=LINES, after=LINES, indent=st.sampled_from(["", "    ", "\t"]))
def test_blanks_and_answers_keep_everything_outside_the_markers(
    before: list[str], answer: list[str], after: list[str], indent: str
) -> None:
    code = "\n".join([*before, f"{indent}# answer", *answer, f"{indent}# end answer", *after])
    assert blank(code) == "\n".join([*before, indent + BLANK, *after])
    assert answered(code) == "\n".join([*before, *answer, *after])


def test_two_answers_in_a_cell_become_two_blanks() -> None:
    code = "# answer\na = 1\n# end answer\nprint(a)\n# answer\nb = 2\n# end answer"
    assert blank(code) == f"{BLANK}\nprint(a)\n{BLANK}"


class Colab:
    """Google Colab, as far as the first cell looks at it, with a pip that is only noted."""

    def __init__(self, installed: dict[str, str], drive: types.ModuleType | None = None) -> None:
        self.installed, self.drive, self.calls = installed, drive, list[list[str]]()

    def run(self, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        google = types.ModuleType("google")
        google.colab = types.ModuleType("google.colab")  # type: ignore[attr-defined]
        google.colab.drive = self.drive  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "google", google)
        monkeypatch.setitem(sys.modules, "google.colab", google.colab)
        packages = [types.SimpleNamespace(name=name, version=version) for name, version in self.installed.items()]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: packages)
        monkeypatch.setattr(subprocess, "run", lambda command, check: self.calls.append(command))
        exec(code, {})


COURSE = "gptlib-course @ git+https://github.com/owner/name@v1.2.3"
INSTALL = [sys.executable, "-m", "pip", "install", "--quiet"]


def test_the_first_code_cell_is_the_set_up_folded_away_in_every_notebook(course: Path) -> None:
    for kind in ("lesson", "exercise", "solution"):
        notebook = composed(course, kind)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        assert first.metadata.gptlib == {"role": "setup"}
        assert first.metadata.jupyter == {"source_hidden": True}
        assert notebook.cells[0].metadata.name == "title"


def test_outside_colab_the_set_up_does_nothing_and_says_nothing(course: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(cell(composed(course, "lesson"), "setup").source, {})
    assert printed.getvalue() == ""
    assert "google" not in sys.modules or "google.colab" not in sys.modules


def test_in_colab_the_set_up_installs_the_tag_alone_when_nothing_is_missing(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab = Colab({"numpy": "2.1.3", "never-heard-of-it": "1"})
    colab.run(monkeypatch, cell(composed(course, "lesson"), "setup").source)
    assert colab.calls == [[*INSTALL, "--no-deps", COURSE]]


def test_in_colab_the_set_up_adds_only_what_is_missing_and_holds_what_colab_stands_on(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab = Colab({"numpy": "2.1.3", "torch": "2.11.0+cu128", "IPython": "7.34.0"})
    colab.run(monkeypatch, cell(composed(course, "lesson"), "setup").source)
    held = ["torch==2.11.0+cu128", "numpy==2.1.3", "ipython==7.34.0"]
    assert colab.calls == [[*INSTALL, "never-heard-of-it>=1", *held], [*INSTALL, "--no-deps", COURSE]]


def test_in_colab_work_goes_to_drive_for_those_who_ask(
    course: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted = list[str]()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "makedirs", lambda path, exist_ok: mounted.append(path))
    monkeypatch.setattr(os, "chdir", mounted.append)
    drive = types.ModuleType("google.colab.drive")
    drive.mount = mounted.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    code = cell(composed(course, "lesson"), "setup").source
    colab = Colab({"numpy": "2.1.3", "never-heard-of-it": "1"}, drive=drive)
    colab.run(monkeypatch, code)
    assert mounted == []
    colab.run(monkeypatch, code.replace("keep_in_drive = False", "keep_in_drive = True"))
    assert mounted == ["/content/drive", *2 * ["/content/drive/MyDrive/inside-gpt"]]


@pytest.mark.parametrize("address", ["", "https://example.org/x", "https://github.com/owner/name/"])
def test_an_address_of_another_form_is_refused(course: Path, address: str) -> None:
    path = course / "pyproject.toml"
    path.write_text(path.read_text().replace("https://github.com/owner/name", address))
    with pytest.raises(BuildError, match="not of the form https"):
        Project.read(course)
