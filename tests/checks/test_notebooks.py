"""`check_notebook`: a learner's file in a shell says what the notebook says."""

import json
import re
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gptlib.checks import check, check_notebook, exercises

IMPORTS = "import math\n\nimport torch\nimport torch.nn.functional as F\n\nfrom gptlib import check"
STUB = "def {}(*args):\n    raise NotImplementedError('write your answer here')"
RIGHT_MASK = "def causal_mask(T):\n    return torch.full((T, T), -math.inf).triu(1)"
SOURCES = sorted((Path(__file__).parents[2] / "source" / "exercises").glob("*.py"))


def notebook(path, *, imports=IMPORTS, without=(), **answers):
    """Write a notebook as exercises/ has them: imports, then an answer cell for each exercise of set 03."""
    cells = [new_markdown_cell("# Exercises"), new_code_cell("%matplotlib inline\nprint('no role')")]
    if imports is not None:
        cells.append(new_code_cell(imports, metadata={"gptlib": {"role": "imports"}}))
    for exercise in exercises("attention"):
        if exercise.function in without:
            continue
        source = answers.get(exercise.function, STUB.format(exercise.function))
        mark = {"role": "answer", "exercise": exercise.id, "points": exercise.points}
        cells.append(new_code_cell(source, metadata={"gptlib": mark}))
        mark = {"role": "check", "exercise": exercise.id}
        cells.append(new_code_cell(f"check('{exercise.id}')", metadata={"gptlib": mark}))
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_says_the_same_as_the_notebook(tmp_path):
    wrong = "def causal_mask(T):\n    return torch.full((T, T), -math.inf).triu(0)"
    broken = "def scores(q, k):\n    return q @ k"
    reports = check_notebook(notebook(tmp_path / "a.ipynb", causal_mask=wrong, scores=broken))
    assert [report.id for report in reports] == [exercise.id for exercise in exercises("attention")]
    assert [report.status for report in reports] == ["partial", "error", "unanswered", "unanswered"]
    space = {}
    exec("import math\nimport torch\n" + wrong, space)
    here = check("attention.causal_mask", space["causal_mask"])
    assert reports[0] == here
    assert str(reports[0]) == str(here)
    assert dict(reports[1].evidence)["in line"] == "2: return q @ k"


def cells_of(source):
    cells = jupytext.read(source, fmt="py:percent").cells
    return cells, [(cell, cell.metadata["gptlib"]) for cell in cells if "gptlib" in cell.metadata]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_set_itself_solutions_full_stubs_zero(source, tmp_path):
    text = source.read_text(encoding="utf-8")
    ids = [mark["exercise"] for _, mark in cells_of(source)[1] if mark["role"] == "answer"]
    points = sum(exercise.points for exercise in exercises() if exercise.id in ids)
    stubs = re.sub(
        r"( +)# answer\n.*?# end answer\n", r"\1raise NotImplementedError('write your answer here')\n", text, flags=re.S
    )
    assert stubs.count("NotImplementedError('") == len(ids)
    for version, status, score in ((text, "correct", points), (stubs, "unanswered", 0)):
        nbformat.write(jupytext.reads(version, fmt="py:percent"), tmp_path / "set.ipynb")
        reports = check_notebook(tmp_path / "set.ipynb", seconds=60)
        assert [report.id for report in reports] == ids
        assert [report.status for report in reports] == [status] * len(ids)
        assert sum(report.score for report in reports) == score
        assert not any(report.advice for report in reports)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_marks_in_the_source_agree_with_the_exercises(source):
    cells, marked = cells_of(source)
    marks = [mark for _, mark in marked]
    answers = {mark["exercise"]: mark["points"] for mark in marks if mark["role"] == "answer"}
    own = exercises(next(iter(answers)).partition(".")[0])
    assert answers == {exercise.id: exercise.points for exercise in own}
    assert [mark["exercise"] for mark in marks if mark["role"] == "check"] == list(answers)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for exercise in own:
        plural = "" if exercise.points == 1 else "s"
        assert f"{exercise.minutes} minutes, {exercise.points} point{plural}" in text
        assert f"`{exercise.signature}`" in text
        assert f". {exercise.title}" in text
        assert f'check("{exercise.id}", hint=1)' in text
        (answer,) = [
            cell.source for cell, mark in marked if mark == {**mark, "role": "answer", "exercise": exercise.id}
        ]
        assert f"def {exercise.signature}:" in answer
        assert '"""' in answer
    assert "For example" in text
    names = [cell.metadata.get("name") for cell in cells]
    assert None not in names
    assert len(set(names)) == len(names)


def test_every_exercise_has_its_text():
    written = [mark["exercise"] for source in SOURCES for _, mark in cells_of(source)[1] if mark["role"] == "answer"]
    assert written == [exercise.id for exercise in exercises()]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_minutes_in_the_introduction_are_about_those_of_the_exercises(source):
    text = source.read_text(encoding="utf-8")
    (said,) = re.findall(r"[Aa]bout\s+(\d+)\s+minutes", text.replace("\n#", ""))
    own = [mark["exercise"] for _, mark in cells_of(source)[1] if mark["role"] == "answer"]
    minutes = sum(exercise.minutes for exercise in exercises() if exercise.id in own)
    assert abs(int(said) - minutes) <= 3


def test_an_endless_loop_stops_only_its_own_exercise(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        causal_mask="def causal_mask(T):\n    while True:\n        pass",
        scores="def scores(q, k):\n    return q @ k.mT / math.sqrt(q.shape[-1])",
    )
    began = time.monotonic()
    reports = check_notebook(path, seconds=6)
    assert [report.status for report in reports] == ["timeout", "correct", "unanswered", "unanswered"]
    assert "still running after 6 s" in reports[0].message
    assert reports[0].score == 0
    assert time.monotonic() - began < 100


def test_an_endless_loop_at_the_top_of_a_cell(tmp_path):
    path = notebook(tmp_path / "a.ipynb", causal_mask="while True: pass")
    assert check_notebook(path, "attention.causal_mask", seconds=2)[0].status == "timeout"


def test_answers_that_end_the_process(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        causal_mask="import os\n\ndef causal_mask(T):\n    os._exit(3)",
        scores="import sys\nsys.exit()",
        attend="def attend(q, k, v, mask=None):\n    exit()",
    )
    reports = check_notebook(path)
    assert [report.status for report in reports] == ["error", "error", "error", "unanswered"]
    assert "exit code 3" in reports[0].message
    assert "SystemExit" in reports[1].message


def test_cells_that_do_not_run(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        causal_mask="def causal_mask(T)\n    return 1",
        scores="x = 1\nscores = nothing + x",
        attend="def atend(q, k, v):\n    return q",
        leaks="raise NotImplementedError('write your answer here')",
    )
    syntax, name, missing, stub = check_notebook(path)
    assert (syntax.status, syntax.score) == ("error", 0)
    assert "no valid Python" in syntax.message
    assert "line 1: def causal_mask(T)" in syntax.message
    assert (name.status, name.message) == (
        "error",
        "Your cell raised NameError in line 2: name 'nothing' is not defined",
    )
    assert missing.status == "unanswered"
    assert "Nothing is called attend yet" in missing.message
    assert stub.status == "unanswered"


def test_answers_stand_alone(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        causal_mask=RIGHT_MASK + "\n\nhelper = causal_mask",
        scores="def scores(q, k):\n    return helper(3)",
    )
    reports = check_notebook(path)
    assert reports[0].passed
    assert (reports[1].status, reports[1].message) == (
        "error",
        "Your answer raised NameError: name 'helper' is not defined",
    )


def test_printing_and_asking_do_no_harm(tmp_path, capfd):
    noisy = "print('{\"forged\": 1}')\nimport os\nos.system('echo hello')\n" + RIGHT_MASK.replace(
        ":\n", ":\n    print('ready', T, flush=True)\n"
    )
    path = notebook(tmp_path / "a.ipynb", causal_mask=noisy, scores="def scores(q, k):\n    return input()")
    reports = check_notebook(path)
    assert reports[0].passed
    assert "EOFError" in reports[1].message
    assert capfd.readouterr() == ("", "")


def test_library_functions_are_refused(tmp_path):
    path = notebook(tmp_path / "a.ipynb", causal_mask="from gptlib import causal_mask")
    report = check_notebook(path, "attention.causal_mask")[0]
    assert (report.status, report.score) == ("refused", 0)


def test_one_exercise_and_missing_cells(tmp_path):
    path = notebook(tmp_path / "a.ipynb", without=["leaks"], causal_mask=RIGHT_MASK)
    assert [report.headline for report in check_notebook(path, "attention.causal_mask")] == [
        "attention.causal_mask: correct, 2 of 2 points"
    ]
    last = check_notebook(path, "attention.leaks")[-1]
    assert (last.id, last.status) == ("attention.leaks", "unanswered")
    assert "no answer cell" in last.message


def test_the_last_of_two_cells_counts_and_is_said(tmp_path):
    path = notebook(tmp_path / "a.ipynb", causal_mask="def causal_mask(T):\n    return None")
    book = nbformat.read(path, 4)
    mark = {"role": "answer", "exercise": "attention.causal_mask", "points": 2}
    book.cells.append(new_code_cell(RIGHT_MASK, metadata={"gptlib": mark}))
    nbformat.write(book, path)
    report = check_notebook(path, "attention.causal_mask")[0]
    assert report.passed
    assert "2 answer cells" in report.advice[-1]


def test_without_an_import_cell_the_usual_imports_are_there(tmp_path):
    path = notebook(tmp_path / "a.ipynb", imports=None, causal_mask=RIGHT_MASK)
    assert check_notebook(path, "attention.causal_mask")[0].passed


def test_a_file_called_torch_beside_the_notebook_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('wrong torch')")
    monkeypatch.chdir(tmp_path)
    path = notebook(tmp_path / "a.ipynb", causal_mask=RIGHT_MASK)
    assert check_notebook(path, "attention.causal_mask")[0].passed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no Jupyter notebook"),
        ("[]", "is no Jupyter notebook"),
        ("{}", "is no Jupyter notebook"),
        ('{"cells": [1]}', "is no Jupyter notebook"),
        ('{"cells": 3}', "is no Jupyter notebook"),
        ("\x00\x01", "is no Jupyter notebook"),
        ('{"cells": []}', "has no answer cells"),
        ('{"cells": [{"cell_type": "code", "metadata": {"gptlib": 3}, "source": "x"}]}', "has no answer cells"),
    ],
)
def test_files_that_are_no_exercise(tmp_path, text, words):
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        check_notebook(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.ipynb").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ValueError, match=r"is no Jupyter notebook"):
        check_notebook(tmp_path / "a.ipynb")


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.ipynb is not there; give the path"):
        check_notebook(tmp_path / "missing.ipynb")
    path = notebook(tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match=r"did you mean attention.leaks"):
        check_notebook(path, "attention.leak")
    cell = {
        "cell_type": "code",
        "source": "",
        "metadata": {"gptlib": {"role": "answer", "exercise": "attention.masks"}},
    }
    path.write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ValueError, match=r"no exercise is called 'attention.masks'"):
        check_notebook(path)
