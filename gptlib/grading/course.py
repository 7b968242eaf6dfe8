"""The exercises that are graded: the course's, and an instructor's own from a folder that learners do not have.

A file in that folder (or a folder with `__init__.py`) is written like a set in `gptlib/checks/sets`: `EXERCISES` are
further exercises. `CASES` maps the id of an exercise to a function like its `draw`, whose inputs are added.
"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from gptlib.checks import exercises
from gptlib.checks.exercise import Case, Exercise


def load_course(private: Path | None = None) -> dict[str, Exercise]:
    """Return all exercises by id, in the order of the course.

    Args:
        private: a folder with an instructor's own.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: it holds nothing, or what a file says does not fit.
    """
    found = {exercise.id: exercise for exercise in exercises()}
    if private is None:
        return found
    files = private_files(private)
    if not files:
        raise ValueError(f"{private} holds no exercises; put .py files with EXERCISES or CASES into it")
    for file in files:
        module = _load(file)
        if not hasattr(module, "EXERCISES") and not hasattr(module, "CASES"):
            raise ValueError(f"{file} has neither EXERCISES nor CASES; write it like a set in gptlib/checks/sets")
        for exercise in getattr(module, "EXERCISES", ()):
            if not isinstance(exercise, Exercise):
                raise ValueError(f"{file}: EXERCISES holds a {type(exercise).__name__}; it takes Exercise values")
            if exercise.id in found:
                raise ValueError(f"{file}: {exercise.id} is there already; give the exercise another id")
            found[exercise.id] = exercise
        for name, more in getattr(module, "CASES", {}).items():
            if name not in found:
                raise ValueError(f"{file}: CASES names {name!r}, and there is no such exercise")
            found[name] = _with_cases(found[name], more)
    return found


def private_files(private: Path) -> list[Path]:
    """Return the modules in an instructor's folder, in the order of their names.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    if not private.is_dir():
        raise FileNotFoundError(f"{private} is not a folder; --private takes one with .py files")
    files = [path for path in private.glob("*.py") if not path.name.startswith("_")]
    return sorted([*files, *private.glob("*/__init__.py")])


def _with_cases(exercise: Exercise, more: object) -> Exercise:
    if not callable(more):
        raise ValueError(f"CASES[{exercise.id!r}] is a {type(more).__name__}; it takes a function like draw")

    def draw(rng: np.random.Generator) -> list[Case]:
        return [*exercise.draw(rng), *more(rng)]

    return replace(exercise, draw=draw)


def _load(file: Path) -> ModuleType:
    package = file.name == "__init__.py"
    name = f"gptlib_private_{file.parent.name if package else file.stem}"
    inside = [str(file.parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its own submodules, and inspect, look for it there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file} raised {type(error).__name__}: {error}") from error
    return module
