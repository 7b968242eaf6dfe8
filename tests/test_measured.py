"""Recorded results: they come back as they were saved, with the command that made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptlib import measured
from gptlib.measured import recorded, save

ROOT = Path(__file__).parent.parent
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    """Whether two values are equal, floats to 6 significant digits."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-5 * abs(b) + 1e-300
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_was_saved_comes_back(tmp_path_factory, results) -> None:
    folder = tmp_path_factory.mktemp("kept")
    path = save("here", results, seconds=12.4, folder=folder)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert same(kept["results"], results)
    assert kept["command"] == "python source/measure/here.py"
    assert kept["made_with"]["seconds"] == 12
    assert [each.name for each in folder.iterdir()] == ["here.json"]


def test_what_json_cannot_say_is_refused_and_nothing_is_lost(tmp_path) -> None:
    before = save("here", {"loss": 1.0}, folder=tmp_path).read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save("here", {"loss": float("nan")}, folder=tmp_path)
    assert (tmp_path / "here.json").read_bytes() == before


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"nothing is recorded under 'ladders'; there are: .*ladder"):
        recorded("ladders")


def test_recorded_results_are_a_mapping() -> None:
    ladder = recorded("ladder")
    assert {**ladder} == ladder.results
    assert len(ladder) == len(list(ladder)) > 2


@pytest.mark.parametrize("path", sorted(measured.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_recording_names_a_script_that_is_there(path) -> None:
    kept = recorded(path.stem)
    assert kept.command == f"python source/measure/{path.stem}.py"
    assert (ROOT / kept.command.removeprefix("python ")).is_file()
