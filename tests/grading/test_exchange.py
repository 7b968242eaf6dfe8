"""Handing in and back through a shared folder, and several machines that grade into one."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gptlib.grading import grade, hand_back, hand_in, make_places, sandbox
from gptlib.grading.run import _State

ROOT = Path(__file__).parents[2]
needs_sandbox = pytest.mark.skipif(bool(sandbox.problem()), reason=sandbox.problem() or "there is a sandbox")


@pytest.fixture
def exchange(tmp_path: Path) -> Path:
    for name in ("ada", "ben"):
        make_places(tmp_path / "exchange", name)
    return tmp_path / "exchange"


def test_the_last_version_counts_and_earlier_ones_are_kept(exchange, tmp_path, notebook, write, right):
    first = write(tmp_path / "03_attention.ipynb", notebook())
    receipt = hand_in(first, exchange, "ada")
    assert receipt.path == exchange / "inbox/ada/03_attention.ipynb"
    assert receipt.path.read_bytes() == first.read_bytes()
    before = first.read_bytes()
    again = hand_in(write(first, notebook(right)), exchange, "ada")
    assert again.number != receipt.number
    assert again.path.read_bytes() == first.read_bytes()
    [earlier] = (exchange / "inbox/ada/.earlier").iterdir()
    assert earlier.read_bytes() == before
    assert hand_in(first, exchange, "ada").number == again.number  # the same once more changes nothing
    assert len(list((exchange / "inbox/ada/.earlier").iterdir())) == 1
    assert "03_attention.ipynb was handed in on" in str(again)


def test_a_copy_is_handed_in_under_the_name_it_was_handed_out_with(exchange, tmp_path):
    copy = tmp_path / "03_attention-Copy1 (ada).ipynb"
    shutil.copy(ROOT / "exercises/03_attention.ipynb", copy)
    assert hand_in(copy, exchange, "ada").path.name == "03_attention.ipynb"


@pytest.mark.parametrize("user", ["", ".", "..", "../ben", "a/b", ".hidden", "a\n"])
def test_no_name_leads_elsewhere(exchange, tmp_path, notebook, write, user):
    path = write(tmp_path / "03_attention.ipynb", notebook())
    with pytest.raises(ValueError, match="is no name for a folder"):
        hand_in(path, exchange, user)


def test_what_cannot_be_handed_in_is_said(exchange, tmp_path, notebook, write):
    good = write(tmp_path / "03_attention.ipynb", notebook())
    with pytest.raises(ValueError, match=r"there is no folder .*inbox/eve; the class's hub makes it when eve starts"):
        hand_in(good, exchange, "eve")
    (tmp_path / "text.ipynb").write_text("no notebook", encoding="utf-8")
    with pytest.raises(ValueError, match="it is no Jupyter notebook"):
        hand_in(tmp_path / "text.ipynb", exchange, "ada")
    with pytest.raises(ValueError, match="it answers no exercise"):
        hand_in(write(tmp_path / "other.ipynb", {"cells": [], "metadata": {}}), exchange, "ada")
    with pytest.raises(ValueError, match="cannot be opened"):
        hand_in(tmp_path / "nowhere.ipynb", exchange, "ada")


@needs_sandbox
def test_everybody_gets_their_own_page_back(exchange, tmp_path, notebook, write, right):
    with pytest.raises(ValueError, match=r"there are no grades in .*; grade first"):
        hand_back(tmp_path / "report", exchange)
    hand_in(write(tmp_path / "a/03_attention.ipynb", notebook(right)), exchange, "ada")
    hand_in(write(tmp_path / "b/03_attention.ipynb", notebook()), exchange, "ben")
    grade([exchange / "inbox"], tmp_path / "report", jobs=1)
    pages = hand_back(tmp_path / "report", exchange)
    assert sorted(pages) == [exchange / f"outbox/{name}/03_attention.html" for name in ("ada", "ben")]
    ada, ben = (page.read_text(encoding="utf-8") for page in sorted(pages))
    assert "<h1>03_attention.ipynb</h1>" in ada
    assert "All submissions" not in ada
    assert str(tmp_path) not in ada
    assert "no answer" in ben
    other = write(tmp_path / "c/03_attention.ipynb", notebook())
    grade([other], tmp_path / "elsewhere", jobs=1)
    with pytest.raises(ValueError, match="no graded submission comes from"):
        hand_back(tmp_path / "elsewhere", exchange)


# Several machines


@needs_sandbox
def test_parts_graded_by_several_make_the_grades_of_one(tmp_path, notebook, write, right):
    """Two parts at the same time as processes of their own, a third lost, and the last call mends it."""
    for i, name in enumerate(("ada", "ben", "cy", "dan", "eve")):
        answers = right if i % 2 else dict(list(right.items())[: 1 + i // 2])
        write(tmp_path / f"in/{name}/03_attention.ipynb", notebook(answers))
    environment = {**os.environ, "PARTS": "3", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "classroom/grade-array.sh"), "in", "report", "--jobs", "1"]
    parts = [
        subprocess.Popen(command, cwd=tmp_path, env={**environment, "PART": part}, stdout=subprocess.PIPE, text=True)
        for part in ("1", "3")
    ]
    said = [part.communicate(timeout=300)[0] for part in parts]
    assert [part.returncode for part in parts] == [0, 0]
    assert "2 submissions graded, part 1/3" in said[0]
    assert not (tmp_path / "report/grades.json").exists()
    assert len(list((tmp_path / "report/state").glob("*.json"))) == 1 + 2 + 1  # the seed, and three of five

    lines = []
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        together = grade(["in"], "report", jobs=1, say=lines.append)
        alone = grade(["in"], "alone", jobs=1)
    finally:
        os.chdir(here)
    assert "3 of 5 submissions were graded before" in lines[0]
    assert [(r.submission, r.score, r.max_score) for r in together] == [
        (r.submission, r.score, r.max_score) for r in alone
    ]
    saved = json.loads((tmp_path / "report/grades.json").read_text(encoding="utf-8"))
    assert [entry["score"] for entry in saved] == [result.score for result in alone]
    assert len({result.score for result in alone}) > 1


@needs_sandbox
@pytest.mark.parametrize(("part", "words"), [((0, 2), "part=0/2 is none"), ((3, 2), "part=3/2 is none")])
def test_a_part_that_is_none_is_refused(tmp_path, notebook, write, part, words):
    path = write(tmp_path / "a.ipynb", notebook())
    with pytest.raises(ValueError, match=words):
        grade([path], tmp_path / "report", part=part)


def test_a_part_throws_nothing_away_that_is_anothers(tmp_path):
    said = []
    state = _State.open(tmp_path, {"exercises": "a"}, said.append, shared=True)
    (tmp_path / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="holds results of other exercises or settings"):
        _State.open(tmp_path, {"exercises": "b"}, said.append, shared=True)
    assert (tmp_path / "result.json").exists()
    assert _State.open(tmp_path, {"exercises": "a"}, said.append, shared=True).seed == state.seed
    assert _State.open(tmp_path, {"exercises": "b"}, said.append).seed != state.seed
    assert not (tmp_path / "result.json").exists()
    (tmp_path / "run.json").write_text("half of a fi", encoding="utf-8")
    with pytest.raises(ValueError, match="delete it"):
        _State.open(tmp_path, {"exercises": "b"}, said.append, shared=True)


def test_of_many_who_begin_at_once_one_draws_the_seed(tmp_path):
    seeds, barrier = [], threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        seeds.append(_State.open(tmp_path, {"exercises": "a"}, print, shared=True).seed)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seeds) == 8
    assert len(set(seeds)) == 1
