"""`import gptlib` costs next to nothing, and every name of the contract is there."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import gptlib

CONTRACT = [
    *("causal_mask", "scaled_dot_product_attention", "CausalSelfAttention", "Block", "GPT", "GPTConfig"),
    *("CharTokenizer", "BPETokenizer", "load_corpus", "train", "TrainConfig", "generate", "stream", "load_model"),
    *("export_to_huggingface", "record", "check"),
]
ROOMS = ["interpret", "widgets", "tales", "training", "checks", "plots", "positions", "cache", "layers"]


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    loaded = in_a_fresh_python("import sys, gptlib; print(*sys.modules)").split()
    heavy = {"torch", "numpy", "transformers", "matplotlib", "anywidget", "ipywidgets", "tokenizers", "typer", "rich"}
    assert not heavy & set(loaded)
    assert not [name for name in loaded if name.startswith("gptlib.")]


def test_the_core_does_not_load_what_only_views_and_downloads_need() -> None:
    loaded = in_a_fresh_python(
        "import sys; from gptlib import GPT, train, generate, record, load_model; print(*sys.modules)"
    ).split()
    assert "torch" in loaded
    assert not {"transformers", "matplotlib", "anywidget", "ipywidgets", "typer", "datasets", "IPython"} & set(loaded)


def test_the_command_line_answers_before_torch_is_loaded() -> None:
    assert "torch" not in in_a_fresh_python("import sys, gptlib.cli; print(*sys.modules)").split()


@pytest.mark.parametrize("name", CONTRACT)
def test_names_of_the_contract(name) -> None:
    assert callable(getattr(gptlib, name))
    assert name in gptlib.__all__
    assert name in dir(gptlib)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_can_be_imported_by_name(room) -> None:
    assert importlib.import_module(f"gptlib.{room}")


def test_every_listed_name_exists_and_says_what_it_is() -> None:
    for name in gptlib.__all__:
        assert getattr(gptlib, name).__doc__, name


def test_every_module_can_be_imported_first() -> None:
    """No room works only because another one was imported before it."""
    for module in pkgutil.iter_modules(gptlib.__path__):
        if module.name != "__main__":
            assert importlib.import_module(f"gptlib.{module.name}")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gptlib' has no attribute 'causal_maks'"):
        getattr(gptlib, "causal_maks")  # noqa: B009
    assert not hasattr(gptlib, "torch")
    assert not hasattr(gptlib, "__wrapped__")


def test_the_types_seen_by_checkers_are_the_names_that_load() -> None:
    """What stands under TYPE_CHECKING is what `__getattr__` finds."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(gptlib.__file__).read_text(encoding="utf-8"))
    imported = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {(f"gptlib.{room}", name) for name, room in gptlib._HOME.items()}
