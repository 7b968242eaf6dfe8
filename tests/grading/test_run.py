"""Whole runs: a class of honest and hostile submissions, what is written, interruptions, and the command."""

import csv
import html.parser
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptlib import cli
from gptlib.checks import find_exercise
from gptlib.grading import formats, run, work
from gptlib.grading import sandbox as room
from gptlib.grading.course import load_course
from gptlib.grading.result import Result, clean
from gptlib.grading.run import grade

STATUSES = {"correct", "partial", "incorrect", "unanswered", "error", "timeout", "refused"}
UNSCALED = "def scores(q, k):\n    return q @ k.transpose(-2, -1)\n"
PARTIAL = """
def attend(q, k, v, mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)) * 1.1
    weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
    return weights @ v, weights
"""
KILLER = "import os, signal\nos.kill(os.getppid(), 9)\n"
SCRIPT = "def causal_mask(T):\n    raise ValueError('<script>alert(1)</script>=cmd()')\n"
EVIL_NAME = "=cmd()<b onmouseover=alert(1)>\u202e.ipynb"

needs_sandbox = pytest.mark.skipif(room.problem() != "", reason=room.problem() or "there is one")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("class")


@pytest.fixture
def submissions(folder, notebook, write, right) -> Path:
    """A class: nested and flat, honest and not."""
    there = folder / "submissions"
    if there.exists():
        return there
    write(there / "ada" / "03_attention.ipynb", notebook(right))
    write(there / "ben" / "03_attention.ipynb", notebook())
    write(
        there / "cy" / "03_attention.ipynb",
        notebook({**right, "attention.scores": UNSCALED, "attention.attend": PARTIAL}),
    )
    write(
        there / "eve" / "03_attention.ipynb",
        notebook({**right, "attention.causal_mask": KILLER, "attention.leaks": "while True: pass"}),
    )
    write(there / EVIL_NAME, notebook({"attention.causal_mask": SCRIPT}))
    (there / "broken.ipynb").write_text("{", encoding="utf-8")
    os.symlink(there / "ada" / "03_attention.ipynb", there / "link.ipynb")
    return there


@pytest.fixture
def graded(folder, submissions, monkeypatch):
    """The grades of the class, made once; a library that is edited meanwhile does not make them stale."""
    monkeypatch.setattr(run, "_settings", lambda private, timeout, unsafe: {"timeout": timeout})
    out, said = folder / "report", []
    if not (out / "grades.json").exists():
        grade([submissions], out, jobs=2, timeout=40, format="gradescope", say=said.append)
        (folder / "said").write_text("\n".join(said), encoding="utf-8")
    return out, {Path(each["submission"]).relative_to(submissions).as_posix(): each for each in grades(out)}


def grades(out: Path) -> list:
    return json.loads((out / "grades.json").read_text(encoding="utf-8"))


def statuses(submission) -> list[str]:
    return [each["status"] for each in submission["exercises"]]


@needs_sandbox
def test_everybody_gets_what_they_earned(graded):
    _, found = graded
    ada, ben, cy, eve = (found[f"{name}/03_attention.ipynb"] for name in ("ada", "ben", "cy", "eve"))
    assert (ada["score"], ada["max_score"], statuses(ada)) == (12, 12, ["correct"] * 4)
    assert (ben["score"], ben["max_score"], statuses(ben)) == (0, 12, ["unanswered"] * 4)
    assert statuses(cy)[0] == statuses(cy)[3] == "correct"
    scores = find_exercise("attention.scores")
    unscaled = next(m for m in scores.misconceptions if m.name == "no scaling")
    assert cy["exercises"][1]["misconception"] == "no scaling"
    assert cy["exercises"][1]["message"] == unscaled.sentence
    assert cy["exercises"][1]["score"] < 2
    assert statuses(cy)[2] == "partial"
    assert 0 < cy["exercises"][2]["score"] < 4
    assert statuses(eve) == ["error", "correct", "correct", "timeout"]
    assert eve["score"] == 6
    for name, why in (("broken.ipynb", "no Jupyter notebook"), ("link.ipynb", "symbolic link")):
        assert (found[name]["score"], found[name]["max_score"]) == (0, 12)
        assert statuses(found[name]) == ["refused"] * 4
        assert why in found[name]["exercises"][0]["message"]


@needs_sandbox
def test_grades_have_the_form_that_was_promised(graded, submissions):
    out, found = graded
    assert [each["submission"] for each in grades(out)] == [str(path) for path in run.find_notebooks([submissions])]
    for each in found.values():
        assert set(each) == {"submission", "score", "max_score", "exercises"}
        assert each["score"] == round(sum(e["score"] for e in each["exercises"]), 2)
        for e in each["exercises"]:
            assert set(e) == {"id", "score", "max_score", "status", "misconception", "message"}
            assert e["status"] in STATUSES
            assert 0 <= e["score"] <= e["max_score"]
            assert e["message"]


@needs_sandbox
def test_the_table_says_the_same_and_computes_nothing(graded):
    out, found = graded
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [each["score"] for each in grades(out)]
    assert all(
        float(row["attention.leaks"]) == each["exercises"][3]["score"]
        for row, each in zip(rows, grades(out), strict=True)
    )
    assert not [value for row in rows for value in row.values() if value.startswith(("=", "+", "-", "@"))]
    assert len(rows) == len(found) == 7


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name == "href"]
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@needs_sandbox
def test_pages_show_all_and_run_nothing(graded):
    out, found = graded
    files = [out / "index.html", *sorted((out / "submissions").iterdir())]
    assert len(files) == 1 + len(found)
    for file in files:
        text = file.read_text(encoding="utf-8")
        page = Page(text)
        assert not page.open
        assert not {tag for tag, _ in page.tags} & {"script", "b", "iframe", "img", "link", "object"}
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "default-src 'none'" in text
        assert "prefers-color-scheme: dark" in text
        assert all((file.parent / link).is_file() for link in page.links)
        assert "\u202e" not in text
    index = (out / "index.html").read_text(encoding="utf-8")
    for words in (
        "Grades of 7 submissions",
        "median",
        "no scaling",
        "attention.leaks",
        "hardest first",
        "eve/03_attention.ipynb",
    ):
        assert words in index
    evil = next(
        path.read_text(encoding="utf-8")
        for path in files
        if "alert(1)" in path.read_text(encoding="utf-8") and path.name != "index.html"
    )
    assert "&lt;script&gt;" in evil


@needs_sandbox
def test_a_second_run_repeats_nothing_but_what_changed(
    graded, folder, submissions, write, notebook, right, monkeypatch
):
    out, _ = graded
    before = grades(out)
    said: list[str] = []
    seen = []
    real = run._work
    monkeypatch.setattr(
        run, "_work", lambda tasks, jobs: seen.append([t.path.parent.name for t in tasks]) or real(tasks, jobs)
    )
    grade([submissions], out, jobs=1, timeout=40, say=said.append)
    assert seen == [["submissions"]]  # the link, which was not read, is looked at again
    assert said == ["6 of 7 submissions were graded before and have not changed since"]
    assert grades(out) == before
    ben = submissions / "ben" / "03_attention.ipynb"
    old = ben.read_bytes()
    write(ben, notebook({"attention.causal_mask": right["attention.causal_mask"]}))
    results = grade([ben], out, jobs=1, timeout=40, say=said.append)
    assert [result.score for result in results] == [2]
    ben.write_bytes(old)
    grade([submissions], out, jobs=1, timeout=40, say=said.append)
    assert grades(out) == before
    other = grade([submissions / "ada"], folder / "report2", jobs=1, timeout=41, say=said.append)
    assert other[0].score == 12
    grade([submissions / "ada"], folder / "report2", jobs=1, timeout=42, say=said.append)
    assert "anew" in said[-1]


@needs_sandbox
def test_a_killed_run_goes_on_where_it_was(submissions, tmp_path, notebook, write):
    for number in range(4):
        write(tmp_path / "in" / f"{number}.ipynb", notebook())
    command = [
        sys.executable,
        "-m",
        "gptlib",
        "grade",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    for how in (signal.SIGKILL, signal.SIGINT):
        count = len(list((tmp_path / "out" / "state").glob("*.json"))) if (tmp_path / "out").exists() else 0
        child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_heed)
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("state/*.json"))) < max(2, count + 1):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(how)
        _, err = child.communicate(timeout=60)
        assert child.returncode == (-9 if how == signal.SIGKILL else 130)
        assert "Traceback" not in err
        assert not (tmp_path / "out" / "grades.json").exists()
    kept = {path: path.read_bytes() for path in (tmp_path / "out" / "state").glob("*.json")}
    assert 3 <= len(kept) <= 4
    said: list[str] = []
    assert len(grade([tmp_path / "in"], tmp_path / "out", jobs=1, say=said.append)) == 4
    assert said == [f"{len(kept) - 1} of 4 submissions were graded before and have not changed since"]
    assert all(path.read_bytes() == data for path, data in kept.items())


def _heed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@needs_sandbox
def test_sandboxes_end_with_their_grader(kit, submissions):
    task = work.Task(submissions / "eve" / "03_attention.ipynb", kit, 1, 600.0)
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=work.serve, args=(task, sender), daemon=True)
    worker.start()

    def family() -> list[int]:
        try:
            return list(room._family(worker.pid))[1:]
        except OSError:
            return []

    deadline = time.monotonic() + 60
    while len(family()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    inside = family()
    worker.kill()
    worker.join()
    while any(_runs(pid) for pid in inside):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    receiver.close()


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


@needs_sandbox
def test_a_worker_that_breaks_harms_its_own_submission_only(tmp_path, notebook, write):
    good, bad = write(tmp_path / "good.ipynb", notebook()), tmp_path / "bad.ipynb"
    bad.write_bytes(b"x")
    tasks = [work.Task(good, tmp_path / "no kit", 1, 5.0), work.Task(bad, tmp_path / "no kit", 1, 5.0)]
    found = dict(run._work(tasks, 2))
    assert "could not finish" in found[0].problem
    assert "sandbox did not start" in found[0].problem
    assert found[0].digest == ""
    assert "was not read" in found[1].problem


def test_without_a_sandbox_nothing_runs(monkeypatch, submissions, tmp_path, capsys):
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^no sandbox, so nothing was run: bubblewrap is missing; .*--unsafe-no-sandbox"
    ):
        grade([submissions], tmp_path / "out")
    assert not (tmp_path / "out" / "grades.json").exists()
    monkeypatch.setattr(sys, "argv", ["gptlib", "grade", str(submissions), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("gptlib: no sandbox")


@pytest.mark.parametrize("broken", ["namespaces", "old"])
def test_why_there_is_no_sandbox_is_said(monkeypatch, broken, tmp_path):
    fake = tmp_path / "bwrap"
    words = "--size BYTES" if broken == "namespaces" else ""
    fake.write_text(
        f"#!/bin/sh\nif [ \"$1\" = --help ]; then echo '{words}'; exit; fi\necho 'bwrap: No permissions' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    real = room.shutil.which
    monkeypatch.setattr(room.shutil, "which", lambda name: str(fake) if name == "bwrap" else real(name))
    assert ("No permissions" if broken == "namespaces" else "too old") in room.problem()


def test_the_unsafe_way_is_asked_for_and_shouts(submissions, tmp_path):
    said: list[str] = []
    (result,) = grade([submissions / "cy"], tmp_path / "out", jobs=1, timeout=60, unsafe=True, say=said.append)
    assert said[0].startswith("WARNING: NO SANDBOX")
    assert [each.report.status for each in result.exercises][:2] == [
        "correct",
        "partial" if result.exercises[1].report.score else "incorrect",
    ]


# Other graders


@needs_sandbox
def test_gradescope_reads_the_scores(graded):
    out, found = graded
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (out / "gradescope").iterdir()}
    assert len(files) == len(found)
    for name in ("ada", "cy", "eve"):
        said, mine = files[name], found[f"{name}/03_attention.ipynb"]
        assert said["score"] == mine["score"]
        assert [(t["name"], t["score"], t["max_score"]) for t in said["tests"]] == [
            (e["id"], e["score"], e["max_score"]) for e in mine["exercises"]
        ]
        assert {t["status"] for t in said["tests"]} <= {"passed", "failed"}
        assert {t["visibility"] for t in said["tests"]} == {"visible"}
        assert isinstance(said["execution_time"], int)
    assert not (out / "results.json").exists()


def test_a_lone_submission_is_gradescopes_results(tmp_path):
    formats.write_gradescope(tmp_path, [Result("a/b.ipynb", lesson="attention")])
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["tests"] == []


def test_nbgraders_columns(tmp_path):
    results = [Result("x/ada/03.ipynb", lesson="attention"), Result("x/=ben/03.ipynb", lesson="attention")]
    formats.write_nbgrader(tmp_path, results)
    with open(tmp_path / "nbgrader.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["student_id"] for row in rows] == ["ada", "'=ben"]
    assert tuple(rows[0]) == formats.NBGRADER_COLUMNS


NBGRADER = ("nbgrader==0.9.6", "sqlalchemy==2.1.9", "alembic==1.20.1", "mako==1.4.3", "rapidfuzz==3.14.6")
NBGRADERS_EXPORT = """
import sys
from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin

with Gradebook(f"sqlite:///{sys.argv[1]}/gradebook.db") as book:
    book.add_assignment("attention")
    book.add_student("ada")
    book.add_submission("attention", "ada")
    plugin = CsvExportPlugin()
    plugin.to = f"{sys.argv[1]}/theirs.csv"
    plugin.export(book)
"""


@pytest.mark.slow
def test_nbgraders_own_export_has_the_same_columns(tmp_path, packages_beside):
    theirs = packages_beside(*NBGRADER)
    path = f"{theirs / 'bin'}{os.pathsep}{os.environ['PATH']}"  # it starts alembic by its name
    environment = {**os.environ, "PYTHONPATH": str(theirs), "PATH": path}
    command = [sys.executable, "-c", NBGRADERS_EXPORT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "theirs.csv", encoding="utf-8", newline="") as file:
        (theirs,) = csv.DictReader(file)
    assert tuple(theirs) == formats.NBGRADER_COLUMNS
    formats.write_nbgrader(tmp_path, [Result(f"x/{name}/03.ipynb", lesson="attention") for name in ("ada", "ben")])
    with open(tmp_path / "nbgrader.csv", encoding="utf-8", newline="") as file:
        mine, _ = csv.DictReader(file)
    assert {name: mine[name] for name in ("assignment", "student_id")} == {
        name: theirs[name] for name in ("assignment", "student_id")
    }


def test_names_of_students():
    def named(*paths):
        return formats.students([Result(path) for path in paths])

    assert named("s/ada/03.ipynb", "s/ben/03.ipynb") == ["ada", "ben"]
    assert named("s/ada.ipynb", "s/ben.ipynb") == ["ada", "ben"]
    assert named("s/ada/03.ipynb", "s/ada/04.ipynb", "s/b/03.ipynb") == ["ada/03.ipynb", "ada/04.ipynb", "b/03.ipynb"]


# An instructor's own

PRIVATE = """
import torch
from gptlib.checks.exercise import Case, Exercise, Misconception, Property
from gptlib.checks.probing import Answer, Arrays, Given, tensor

def _draw(rng):
    return [Case({"n": int(n)}) for n in (1, *rng.integers(2, 9, 3))]

def _probe(answer: Answer, given: Given) -> Arrays:
    return {"row": tensor(answer(given["n"]))}

EXERCISES = (Exercise("exam.count", "Count", 5, 3, "count(n)", _draw, _probe, lambda n: torch.arange(n),
    (Misconception("from one", "Begin at 0.", lambda n: torch.arange(1, n + 1)),), (), ("a", "b", "c")),)
CASES = {"attention.causal_mask": lambda rng: [Case({"T": 40}, "a long one")]}
"""


def test_private_exercises_and_cases_are_added(tmp_path):
    (tmp_path / "exam.py").write_text(PRIVATE, encoding="utf-8")
    course = load_course(tmp_path)
    assert course["exam.count"].points == 3
    import numpy as np

    plain, more = (c["attention.causal_mask"].draw(np.random.default_rng(0)) for c in (load_course(), course))
    assert len(more) == len(plain) + 1
    assert more[-1].given["T"] == 40


def test_what_a_result_depends_on(tmp_path):
    (tmp_path / "exam.py").write_text(PRIVATE, encoding="utf-8")
    first = run._settings(tmp_path, 60.0, False)
    assert first["timeout"] == 60.0
    (tmp_path / "exam.py").write_text(PRIVATE.replace("5, 3,", "5, 4,"), encoding="utf-8")
    assert run._settings(tmp_path, 60.0, False)["exercises"] != first["exercises"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither EXERCISES nor CASES"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("EXERCISES = (3,)", "holds a int"),
        ("CASES = {'attention.mask': print}", "'attention.mask'"),
        ("CASES = {'attention.scores': 3}", "is a int"),
        (
            "from gptlib.checks import find_exercise\nEXERCISES = (find_exercise('attention.scores'),)",
            "is there already",
        ),
    ],
)
def test_private_files_that_do_not_fit_are_named(tmp_path, text, words):
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_course(tmp_path)


@needs_sandbox
def test_private_exercises_are_graded(tmp_path, write):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "exam.py").write_text(PRIVATE, encoding="utf-8")
    mark = {"role": "answer", "exercise": "exam.count", "points": 3}
    for name, body in (("right", "torch.arange(n)"), ("wrong", "torch.arange(1, n + 1)")):
        cell = {"cell_type": "code", "metadata": {"gptlib": mark}, "source": f"def count(n): return {body}"}
        write(tmp_path / "in" / f"{name}.ipynb", {"cells": [cell]})
    right, wrong = grade(
        [tmp_path / "in"], tmp_path / "out", private=tmp_path / "private", jobs=1, say=lambda line: None
    )
    assert (right.score, right.max_score, right.lesson) == (3, 3, "exam")
    assert wrong.exercises[0].report.misconception == "from one"


# Arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.ipynb"], ["none.ipynb is not there"]),
        (["{in}", "--jobs", "0"], ["jobs=0", "1 or more"]),
        (["{in}", "--timeout", "0"], ["timeout=0", "from 1 to 3600"]),
        (["{in}", "--timeout", "nan"], ["timeout=nan"]),
        (["{in}", "--format", "canvas"], ["'canvas'", "gradescope"]),
        (["{in}", "--private", "nowhere"], ["nowhere is not a folder"]),
        (["{in}", "--private", "{in}"], ["holds no exercises"]),
        ([], ["Missing argument"]),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, words, submissions, tmp_path, monkeypatch, capsys):
    filled = [word.replace("{in}", str(submissions)) for word in arguments]
    monkeypatch.setattr(sys, "argv", ["gptlib", "grade", *filled, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    err = capsys.readouterr().err
    assert exit.value.code == 2
    assert len(err.strip().splitlines()) == 1, err
    assert all(word in err for word in words), err
    assert not (tmp_path / "out").exists()


def test_words_that_steer_are_taken_out():
    assert clean({"a": ["x\x1b[31m\u202ey\ud800\n", 3, None]}) == {"a": ["x\ufffd[31m\ufffdy\ufffd\n", 3, None]}
