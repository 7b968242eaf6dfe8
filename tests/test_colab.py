"""A notebook alone, as Google Colab runs it: Colab's versions, an empty folder, and the first cell as it is.

The versions are those of Colab's image of August 2026, as far as a CPU goes: torch is the pinned build for this
machine. The first cell's address, which is the project's own with its tag, is led to this checkout by git's
`insteadOf`; whatever else it does happens as it would there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSIONS = (
    *("numpy==2.1.3", "matplotlib==3.10.0", "transformers==5.15.0", "ipython==7.34.0", "ipykernel==6.17.1"),
    *("ipywidgets==7.7.1", "anywidget==0.9.21", "nbclient", "setuptools>=77"),
)
KEPT = ("torch", "numpy", "ipython", "ipywidgets")
EXECUTE = """
import sys, time
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
assert "google.colab" in notebook.cells[first].source
client = NotebookClient(notebook, timeout=600, kernel_name="python3")
with client.setup_kernel():
    for i, cell in enumerate(notebook.cells):
        began = time.perf_counter()
        client.execute_cell(cell, i)
        if i == first:
            print(time.perf_counter() - began)
nbformat.write(notebook, sys.argv[2])
"""


class Colab:
    """A Python of its own with Colab's versions."""

    def __init__(self, folder: Path, address: Path) -> None:
        self.folder, self.python = folder, folder / "venv/bin/python"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "IPYTHONDIR": str(folder / "ipython"),
            "OMP_NUM_THREADS": "2",
        }
        here = f'[url "file://{address}"]\n    insteadOf = {PROJECT["urls"]["Repository"]}\n'
        (folder / "gitconfig").write_text(f"{here}[safe]\n    directory = *\n", encoding="utf-8")

    def pip(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.python, "-m", "pip", "--disable-pip-version-check", *arguments],
            capture_output=True, text=True, env=self.environment, timeout=900,
        )  # fmt: skip
        if done.returncode:
            reason = f"pip {' '.join(arguments)}: {done.stderr[-300:]}"
            (pytest.fail if os.environ.get("GPTLIB_FETCH") == "must" else pytest.skip)(reason)
        return done.stdout

    def versions(self) -> dict[str, str]:
        lines = self.pip("list", "--format=freeze").splitlines()
        return {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}

    def open(self, notebook: Path) -> tuple[Path, float]:
        """Execute a notebook in an empty folder; returns the result and how long its first cell took, in seconds."""
        folder = self.folder / "empty"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(notebook, folder)
        command = [self.python, "-c", EXECUTE, notebook.name, "done.ipynb"]
        done = subprocess.run(
            command, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return folder / "done.ipynb", float(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colab]:
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    # The address that the first cell names, with the tag: this checkout's files, as a commit of their own.
    address = folder / "address"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (address / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, address / name)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init",), ("add", "-A"), (*who, "commit", "-m", "all"), ("tag", f"v{PROJECT['version']}")):
        subprocess.run(["git", *command], cwd=address, check=True, capture_output=True)
    made = Colab(folder, address)
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    made.pip("install", "--quiet", torch.partition(" ")[0], *VERSIONS)
    [site] = (folder / "venv/lib").glob("python*/site-packages")
    (site / "google/colab").mkdir(parents=True)
    (site / "google/colab/__init__.py").write_text("", encoding="utf-8")
    yield made
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_lesson_and_an_exercise_work_alone_and_leave_what_colab_stands_on(colab: Colab) -> None:
    before = colab.versions()
    began = time.perf_counter()
    _, seconds = colab.open(ROOT / "notebooks/00_welcome.ipynb")
    print(f"first cell {seconds:.1f} s, lesson 00 {time.perf_counter() - began:.0f} s")
    after = colab.versions()
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert after["gptlib-course"] == PROJECT["version"]

    done, _ = colab.open(ROOT / "exercises/03_attention.ipynb")
    text = done.read_text(encoding="utf-8")
    assert "There is no answer yet" in text
    code = """
        import torch
        from gptlib import load_model
        from gptlib.checks import check
        model, tokenizer = load_model("tales")
        def causal_mask(T):
            return torch.full((T, T), float("-inf")).triu(1)
        print(check("attention.causal_mask", causal_mask))
        import gptlib
        print(gptlib.__file__)
    """
    ran = subprocess.run(
        [colab.python, "-c", textwrap.dedent(code)],
        cwd=colab.folder / "empty", env=colab.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "correct, 2 of 2 points" in ran.stdout
    assert str(colab.folder / "venv") in ran.stdout  # and not this checkout


LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))[1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"notebooks/{name}" for name in LESSONS] + ["solutions/*"])
def test_every_other_lesson_and_solution_works_alone(colab: Colab, name: str) -> None:
    for path in sorted(ROOT.glob(name)):
        colab.open(path)
