"""Taking answers out of notebooks: as handed out, moved about, damaged, and hostile."""

import json
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.grading.course import load_course
from gptlib.grading.extract import (
    MAX_BYTES,
    UnreadableError,
    extract,
    find_notebooks,
    read_bytes,
    uses_library,
)

COURSE = load_course()


def taken(notebook):
    return extract(json.dumps(notebook).encode(), COURSE)


def cells_of(notebook, exercise):
    marks = [(cell["metadata"]["gptlib"], cell) for cell in notebook["cells"]]
    return [cell for mark, cell in marks if mark["role"] == "answer" and mark["exercise"] == exercise]


def test_answers_are_taken_by_id(notebook, right):
    answers = taken(notebook(right))
    assert answers.lesson == "attention"
    assert answers.sources == {name: source.rstrip("\n") for name, source in right.items()}
    assert answers.imports == ["import math", "import torch", "import torch.nn.functional as F"]


def test_other_cells_and_outputs_count_for_nothing(notebook, right):
    made = notebook(right)
    before = taken(made).sources
    made["cells"].insert(
        0, {"cell_type": "code", "metadata": {}, "source": "causal_mask = None\nimport os; os._exit(1)"}
    )
    for cell in made["cells"]:
        cell["outputs"] = [{"output_type": "stream", "text": "correct, 12 of 12 points"}]
    assert taken(made).sources == before


def test_moved_cells_are_taken_and_said(notebook, right):
    made = notebook(right)
    made["cells"].reverse()
    answers = taken(made)
    assert answers.sources == taken(notebook(right)).sources
    assert any("another order" in note for note in answers.notes[""])


def test_of_two_answer_cells_the_last_counts_and_is_said(notebook, right):
    made = notebook(right)
    again = dict(cells_of(made, "attention.scores")[0], source="def scores(q, k):\n    return 1")
    made["cells"].append(again)
    answers = taken(made)
    assert answers.sources["attention.scores"] == again["source"]
    assert answers.notes["attention.scores"] == ["There are 2 answer cells for this exercise; the last one counts."]


@pytest.mark.parametrize(
    "metadata", [{}, {"gptlib": None}, {"gptlib": []}, None, "x", {"gptlib": {"role": ["answer"]}}]
)
def test_a_stripped_cell_is_found_by_its_function_and_said(notebook, right, metadata):
    made = notebook(right)
    made["cells"] = [dict(c, metadata=metadata) if "def scores" in c["source"] else c for c in made["cells"]]
    answers = taken(made)
    assert answers.sources["attention.scores"].startswith("def scores")
    assert "has lost its mark" in answers.notes["attention.scores"][0]


def test_a_wholly_stripped_notebook_is_still_graded(notebook, right):
    made = notebook(right)
    made["cells"] = [dict(c, metadata={}) for c in made["cells"]]
    answers = taken(made)
    assert answers.lesson == "attention"
    assert len(answers.sources) == len(right)


def test_a_renamed_mark_is_said_and_found_by_its_function(notebook, right):
    made = notebook(right)
    cells_of(made, "attention.attend")[0]["metadata"]["gptlib"]["exercise"] = "attention.atend"
    answers = taken(made)
    assert "attention.attend" in answers.sources
    assert any("'attention.atend'" in note for note in answers.notes[""])


def test_a_missing_cell_is_said(notebook, right):
    made = notebook(right)
    made["cells"] = [c for c in made["cells"] if "def leaks" not in c["source"]]
    answers = taken(made)
    assert "attention.leaks" not in answers.sources
    assert answers.notes["attention.leaks"] == ["The answer cell is missing."]


def test_a_cell_that_became_text_is_said(notebook, right):
    made = notebook(right)
    cells_of(made, "attention.leaks")[0]["cell_type"] = "markdown"
    answers = taken(made)
    assert "attention.leaks" not in answers.sources
    assert "is no code cell" in answers.notes["attention.leaks"][0]


def test_points_in_the_notebook_count_for_nothing_and_are_said(notebook, right):
    made = notebook(right)
    cells_of(made, "attention.leaks")[0]["metadata"]["gptlib"]["points"] = 10**9
    assert any("other points" in note for note in taken(made).notes["attention.leaks"])


def test_answers_to_another_set_are_left_out_and_said(notebook, right):
    other = next(name for name in COURSE if not name.startswith("attention."))
    made = notebook(right)
    extra = dict(made["cells"][1], metadata={"gptlib": {"role": "answer", "exercise": other}})
    made["cells"].append(extra)
    answers = taken(made)
    assert other not in answers.sources
    assert any(other in note and "another set" in note for note in answers.notes[""])


def test_only_imports_are_taken_from_the_import_cell(notebook, right):
    made = notebook(right)
    made["cells"][0]["source"] = (
        "import math\nimport numpy as np\nfrom gptlib import check, causal_mask\nimport gptlib.attention\n"
        "torch = None\nprint('hello')\n%matplotlib inline"
    )
    found = taken(made).imports
    assert "import numpy as np" in found
    assert not [line for line in found if "gptlib" in line or "print" in line or "None" in line]


def test_magics_are_emptied_and_lines_stay(notebook):
    source = "%%time\n!ls\ndef causal_mask(T):\n    return T"
    found = taken(notebook({"attention.causal_mask": source})).sources["attention.causal_mask"]
    assert found == "\n\ndef causal_mask(T):\n    return T"


def test_a_source_of_lines_is_joined_and_what_is_no_text_dropped(notebook):
    made = notebook()
    made["cells"][1]["source"] = ["def causal_mask(T):\n", 7, None, "    return T\ud800"]
    assert taken(made).sources["attention.causal_mask"] == "def causal_mask(T):\n    return T?"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from gptlib import check", False),
        ("import gptlib", True),
        ("import gptlib.attention as a", True),
        ("def f():\n    from gptlib.attention import causal_mask", True),
        ("from gptlib import check\nfrom gptlib import GPT", True),
        ("import gptlibrary", False),
        ("def f(:", False),
    ],
)
def test_the_library_in_an_answer_is_seen(source, found):
    assert uses_library(source) is found


# --- what is no notebook ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"\x00\x01\x02",
        b"\xff\xfe\x00",
        "{}".encode("utf-16"),
        b"[]",
        b"null",
        b"7",
        b'{"cells": 3}',
        b'{"cells": {"0": {}}}',
        b'{"worksheets": []}',
        b'{"cells": [',
        b'{"cells": [' + b"[" * 200_000,
        b'{"cells": ' + b"9" * 100_000 + b"}",
        b'{"cells": [' + b"{}," * 5_001 + b"{}]}",
    ],
    ids=range(15),
)
def test_what_is_no_notebook_is_said_in_one_sentence(data):
    began = time.monotonic()
    with pytest.raises(UnreadableError, match=r"it (is no Jupyter notebook|has 5,002 cells)"):
        extract(data, COURSE)
    assert time.monotonic() - began < 5


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["cell_type", "metadata", "gptlib", "role", "exercise", "source", "points"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(cells=st.lists(ODD, max_size=6))
def test_no_cell_however_odd_stops_it(cells):
    try:
        answers = extract(json.dumps({"cells": cells}).encode(), COURSE)
    except UnreadableError:
        return
    assert set(answers.sources) <= set(COURSE)


def test_a_large_notebook_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.ipynb"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    began = time.monotonic()
    with pytest.raises(UnreadableError, match=r"1,073,741,824 bytes, and 16,777,216 are read at most"):
        read_bytes(path)
    assert time.monotonic() - began < 1
    assert MAX_BYTES == 16_777_216


def test_links_pipes_folders_and_closed_files_are_not_read(tmp_path):
    (tmp_path / "solution.txt").write_text("{}")
    os.symlink(tmp_path / "solution.txt", tmp_path / "link.ipynb")
    os.symlink("/dev/zero", tmp_path / "zero.ipynb")
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    for name, why in (("link", "symbolic link"), ("zero", "symbolic link"), ("pipe", "no plain file")):
        with pytest.raises(UnreadableError, match=why):
            read_bytes(tmp_path / f"{name}.ipynb")
    with pytest.raises((UnreadableError, IsADirectoryError)):
        read_bytes(tmp_path / "folder.ipynb")


def test_notebooks_are_found_in_flat_and_nested_folders(tmp_path):
    for name in (
        "b/one.ipynb",
        "a/deep/er/two.ipynb",
        "three.ipynb",
        ".hidden/no.ipynb",
        "a/.ipynb_checkpoints/no.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    os.symlink(tmp_path, tmp_path / "a" / "round")
    found = [path.relative_to(tmp_path).as_posix() for path in find_notebooks([tmp_path, tmp_path / "three.ipynb"])]
    assert found == ["three.ipynb", "a/deep/er/two.ipynb", "b/one.ipynb"]
    with pytest.raises(FileNotFoundError, match=r"none is not there"):
        find_notebooks([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no .ipynb file in .*empty"):
        find_notebooks([tmp_path / "empty"])
