"""Notebooks to submit, and a sandbox to try answers in."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gptlib.checks import find_exercise
from gptlib.checks.report import Report
from gptlib.grading import sandbox as room
from gptlib.grading.verify import grade_answer

IMPORTS = ("import math", "import torch", "import torch.nn.functional as F")
SEED = 20_261_122

MASK = "def causal_mask(T):\n    return torch.full((T, T), -math.inf).triu(1)\n"
SCORES = "def scores(q, k):\n    return q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))\n"
ATTEND = """
def attend(q, k, v, mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
    return weights @ v, weights
"""
LEAKS = """
def leaks(attention, T, C):
    for size in (1, 100):
        x = size * torch.randn(T, C)
        for t in range(1, T):
            y = x.clone()
            y[t:] = size * torch.randn(T - t, C)
            if ((attention(y) - attention(x))[:t].abs() > 1e-5 * size).any():
                return True
    return False
"""
RIGHT = {
    "attention.causal_mask": MASK,
    "attention.scores": SCORES,
    "attention.attend": ATTEND,
    "attention.leaks": LEAKS,
}
STUB = 'raise NotImplementedError("write your answer here")'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = room.problem() if any("sandbox" in getattr(item, "fixturenames", ()) for item in items) else ""
    for item in items:
        if missing and "sandbox" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return room.make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def sandbox(kit: Path) -> Any:
    """One sandbox for many answers; it starts anew whenever one has ended it."""
    with room.Sandbox(kit) as made:
        yield made


@pytest.fixture
def graded(sandbox: room.Sandbox) -> Any:
    """Grade one answer."""

    def call(exercise: str, source: str, *, seed: int = SEED, seconds: float = 40.0) -> Report:
        return grade_answer(find_exercise(exercise), source, IMPORTS, sandbox, seed=seed, seconds=seconds)

    return call


@pytest.fixture
def notebook() -> Any:
    """Build a notebook of set 03: answers by exercise id, and any cell or metadata changed."""

    def build(answers: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        sources = {name: f"def {name.partition('.')[2]}(*args):\n    {STUB}\n" for name in RIGHT} | (answers or {})
        cells = [
            code("import math\n\nimport torch\nimport torch.nn.functional as F\n\nfrom gptlib import check", "imports")
        ]
        for name, source in sources.items():
            cells += [
                code(source, "answer", name, points=find_exercise(name).points),
                code(f'check("{name}")', "check", name),
            ]
        return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **changes}

    return build


def code(source: str, role: str, exercise: str = "", **more: Any) -> dict[str, Any]:
    mark = {"role": role, **({"exercise": exercise} if exercise else {}), **more}
    return {"cell_type": "code", "metadata": {"gptlib": mark}, "source": source, "outputs": [], "execution_count": None}


@pytest.fixture
def write() -> Any:
    def save(path: Path, notebook: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        return path

    return save


@pytest.fixture
def right() -> dict[str, str]:
    return dict(RIGHT)


def inside_processes() -> list[str]:
    """Return the command lines of all sandboxes that run on this machine, of this kit or another."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "from gptlib.grading.inside import main" in line]
