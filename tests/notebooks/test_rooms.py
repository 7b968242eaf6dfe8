"""Which files a lesson stands on."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.rooms import digest, rooms


def names(code: str, course: Path) -> set[str]:
    return {path.relative_to(course / "gptlib").as_posix() for path in rooms([code], course / "gptlib")}


BELOW_TOP = {
    "top.py",
    "deep/__init__.py",
    "deep/stack.py",
    "deep/view.js",
    "base.py",
    "assets/model.bin",
}


@pytest.mark.parametrize(
    "code",
    [
        "from gptlib.top import anything",
        "import gptlib.top",
        "import gptlib.top as t",
        "from gptlib import top",
        "from gptlib import anything",
        "import gptlib\nprint(gptlib.anything)",
        "import gptlib as g\nprint(g.top.anything)",
        "def later():\n    from gptlib import anything",
        "from gptlib import anything\nawait anything",
    ],
)
def test_a_room_counts_with_all_that_it_imports_and_loads_however_it_is_named(code: str, course: Path) -> None:
    assert names(code, course) == BELOW_TOP


def test_a_lesson_without_the_library_stands_on_nothing(course: Path) -> None:
    assert names("import math\nfrom numpy import top", course) == set()


def test_the_package_itself_only_forwards_names(course: Path) -> None:
    assert names("import gptlib\nfrom gptlib import __version__\ngptlib.__doc__", course) == set()


def test_relative_imports_and_the_folder_of_a_room_count_and_by_products_do_not(course: Path) -> None:
    (course / "gptlib/deep/stack.py").write_text("from ..alone import lonely\nfrom . import other\n")
    (course / "gptlib/deep/__pycache__").mkdir()
    (course / "gptlib/deep/__pycache__/stack.pyc").write_text("")
    (course / "gptlib/deep/.hidden").write_text("")
    expected = {"deep/__init__.py", "deep/stack.py", "deep/view.js", "alone.py"}
    assert names("import gptlib.deep", course) == expected


def test_of_recorded_results_those_count_that_the_lesson_asks_for(course: Path) -> None:
    folder = course / "gptlib/measured"
    folder.mkdir()
    (folder / "__init__.py").write_text("def recorded(name):\n    return name\n")
    for name in ("wanted", "other"):
        (folder / f"{name}.json").write_text("{}")
    (course / "gptlib/base.py").write_text("from gptlib.measured import recorded\nrecorded('other')\n")
    code = "from gptlib.measured import recorded\nfrom gptlib import base\nprint(recorded('wanted'), recorded('none'))"
    assert names(code, course) == {"base.py", "measured/__init__.py", "measured/wanted.json"}


def test_the_digest_follows_names_and_contents_and_not_line_ends(course: Path) -> None:
    path = course / "gptlib/base.py"
    first = digest([path], course)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert digest([path], course) == first
    path.write_text("near = 2\n")
    second = digest([path], course)
    assert second != first
    assert digest([path.rename(path.with_name("moved.py"))], course) != second
