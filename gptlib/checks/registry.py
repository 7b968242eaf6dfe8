"""All exercises: a module or folder in `sets` with LESSON and EXERCISES is a lesson's set, and is found by itself."""

import difflib
import functools
import importlib
import pkgutil

from gptlib.checks.exercise import Exercise


@functools.cache
def _all() -> dict[str, Exercise]:
    package = importlib.import_module("gptlib.checks.sets")
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    ordered = sorted(modules, key=lambda module: module.LESSON)
    return {exercise.id: exercise for module in ordered for exercise in module.EXERCISES}


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
