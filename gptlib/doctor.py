"""What this machine has, and what will therefore work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = ["torch", "numpy", "transformers", "tokenizers", "safetensors", "matplotlib", "ipywidgets", "anywidget"]
HELPFUL = {"jupyterlab": "make lab", "bertviz": "the BertViz views", "gguf": "GGUF files", "datasets": "hub data sets"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. A lesson cannot run while a `needed` finding is not `ok`."""

    name: str
    ok: bool
    text: str
    needed: bool = True


def examine() -> Iterator[Finding]:
    """Look at one thing after another; none of it needs the network or changes anything."""
    version = platform.python_version()
    yield Finding("Python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)")
    missing = [name for name in NEEDED if not _version(name)]
    found = ", ".join(f"{name} {_version(name)}" for name in NEEDED if name not in missing)
    yield Finding("packages", not missing, f"missing: {', '.join(missing)}; run make install" if missing else found)
    for name, use in HELPFUL.items():
        yield Finding(name, bool(_version(name)), _version(name) or f"not installed; needed for {use}", needed=False)
    if "torch" in missing:
        return
    yield _tried("device", _device)
    yield _tried("precision", _precision)
    yield Finding("processor", True, f"{os.cpu_count()} logical cores, {platform.machine()}")
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding("disk", disk > 1, f"{disk:.0f} GB free here (1 GB is enough for the course)")
    yield _tried("bundled model", _bundled)
    yield _tried("checks", _checks)
    yield _tried("corpora", _corpora)
    reason = _no_sandbox()
    text = f"{reason}; needed to grade others' submissions, not here" if reason else "submissions can be graded safely"
    yield Finding("sandbox", not reason, text, needed=False)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except Exception as error:
        return Finding(name, False, f"{type(error).__name__}: {error}")


def _device() -> str:
    from gptlib.training import choose_device

    return str(choose_device())


def _precision() -> str:
    from gptlib.training import choose_device, choose_precision

    return str(choose_precision(choose_device().value))


def _bundled() -> str:
    import torch

    from gptlib.generation import generate
    from gptlib.pretrained import load_model

    began = time.perf_counter()
    model, tokenizer = load_model("tales")
    loaded = time.perf_counter() - began
    if tokenizer is None:
        raise ValueError("the bundled model has no tokenizer; install the package again")
    began = time.perf_counter()
    generate(model, torch.tensor([tokenizer.encode("One")]), 50, seed=0)
    rate = 50 / (time.perf_counter() - began)
    return f"{model.n_parameters():,} parameters, loaded in {loaded:.1f} s, writes {rate:.0f} tokens/s"


def _checks() -> str:
    from gptlib.checks import exercises

    return f"{len(exercises())} exercises"


def _no_sandbox() -> str:
    from gptlib.grading.sandbox import problem

    try:
        return problem()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _corpora() -> str:
    from gptlib.corpora import cache_folder

    folder = cache_folder()
    there = (folder / "tinyshakespeare" / "input.txt").is_file()
    return f"tales and python are here; tinyshakespeare is {'in' if there else 'downloaded on first use to'} {folder}"
