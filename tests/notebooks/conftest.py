"""A tiny course to build: one lesson, one exercise, a library of four rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

PYPROJECT = """\
[project]
name = "tiny"
version = "1.2.3"
dependencies = ["numpy>=1.26", "never-heard-of-it>=1"]
[project.urls]
Repository = "https://github.com/owner/name"
"""

README = """\
# Tiny
<!-- pip -->
<!-- end pip -->
<!-- clone -->
<!-- end clone -->
<!-- lessons -->
<!-- end lessons -->
"""

LESSON = """\
# %% [markdown] name="title"
# # The first thing
# {{badge}}

# %% name="numbers"
value = 6 * 7
print(value)

# %% [markdown] name="words"
# Read `{{tag}}` at {{repository}}, and mind x^{{2}}.

# %% name="figure"
def later():
    from gptlib.top import anything
"""

EXERCISE = '''\
# %% [markdown] name="title"
# # Exercises: the first thing
# {{badge}}

# %% name="imports" gptlib={"role": "imports"}
import math

# %% name="double" gptlib={"role": "answer", "exercise": "one.double", "points": 2}
def double(x: float) -> float:
    """Double `x`."""
    # answer
    two = math.sqrt(4)
    return two * x
    # end answer


# %% name="check_double" gptlib={"role": "check", "exercise": "one.double"}
double(4)
'''

LIBRARY = {
    "__init__.py": '_ROOMS = {"top": ["anything"], "alone": ["lonely"]}\n',
    "top.py": "from typing import TYPE_CHECKING\nfrom gptlib.deep import stack\nanything = 1\n"
    "if TYPE_CHECKING:\n    from gptlib.alone import lonely\n",
    "deep/__init__.py": "",
    "deep/stack.py": 'def weights():\n    from gptlib.base import near\n    return "assets/model.bin"\n',
    "deep/view.js": "export const a = 1\n",
    "base.py": "near = 1\n",
    "alone.py": "lonely = 1\n",
    "assets/model.bin": "weights",
}


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """The root of a small project that the builder can build."""
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        "source/lessons/01_one.py": LESSON,
        "source/exercises/01_one.py": EXERCISE,
        **{f"gptlib/{name}": text for name, text in LIBRARY.items()},
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path
