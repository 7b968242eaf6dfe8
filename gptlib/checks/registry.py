"""All exercises, one module for each lesson: a module of this package with EXERCISES is a lesson's set."""

import difflib
import functools
import importlib
import pkgutil

from gptlib.checks.exercise import Exercise


@functools.cache
def _all() -> dict[str, Exercise]:
    package = importlib.import_module("gptlib.checks")
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    modules = [importlib.import_module(f"gptlib.checks.{name}") for name in names]
    sets = sorted((module for module in modules if hasattr(module, "EXERCISES")), key=lambda module: module.LESSON)
    return {exercise.id: exercise for module in sets for exercise in module.EXERCISES}


def exercises(lesson: str | None = None) -> list[Exercise]:
    """Return the exercises in the order of the course.

    Args:
        lesson: only those whose id starts with it ("attention"); all when None.

    Returns:
        The exercises.
    """
    return [exercise for exercise in _all().values() if lesson in (None, exercise.lesson)]


def find_exercise(exercise_id: str) -> Exercise:
    """Return the exercise with this id.

    Raises:
        ValueError: there is none; names the closest.
    """
    known = _all()
    if exercise_id in known:
        return known[exercise_id]
    raise ValueError(f"no exercise is called {exercise_id!r}; {_nearest(exercise_id, list(known))}")


def _nearest(name: str, known: list[str]) -> str:
    by_function = [each for each in known if each.partition(".")[2] == name.rpartition(".")[2]]
    close = by_function or difflib.get_close_matches(str(name), known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
