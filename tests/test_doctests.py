"""Every example in a docstring of the library does what it says."""

import doctest
import importlib
import pkgutil

import pytest

import gptlib


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(gptlib.__path__, "gptlib.")]
    return [name for name in found if not name.endswith(("__main__", "_runner"))]


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(len(test.examples) for name in ("model", "attention", "cache") for test in finder.find(
        importlib.import_module(f"gptlib.{name}")
    ))  # fmt: skip
    assert examples > 5


@pytest.mark.parametrize("name", modules())
def test_examples(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, "see the output above"
