"""Feedback while one learns: `check` and its hints."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gptlib.checks import registry, standing
from gptlib.checks.answers import advice, borrowed, find
from gptlib.checks.exercise import Case, Exercise
from gptlib.checks.judge import judge, plain
from gptlib.checks.probing import one_thread
from gptlib.checks.report import Hint, Report
from gptlib.checks.trial import attempt

PRACTICE_SEED = 20_170_612


def check(exercise_id: str, answer: object = None, *, hint: int | None = None) -> Report | Hint:
    """Check an answer to an exercise, or give a hint.

    The inputs are the exercise's edge cases and some random shapes, the same at every call.

    Args:
        exercise_id: lesson and function, as in "attention.causal_mask".
        answer: the function to check; when None, the object of the function's name where `check` is called.
        hint: 1, 2 or 3 for a hint instead: direction, location, nearly the answer.

    Returns:
        The report (or the hint), which a notebook shows as HTML and `print` as text.

    Raises:
        ValueError: no exercise has this id, or no hint this number.

    Example:
        >>> check("attention.causal_mask", lambda T: torch.zeros(T, T))  # doctest: +SKIP
    """
    exercise = registry.find_exercise(exercise_id)
    if hint is not None:
        return give_hint(exercise_id, hint)
    if answer is None:
        caller = sys._getframe(1)
        answer = find(exercise.function, caller.f_locals, caller.f_globals, _notebook_namespace())
    report = review(exercise, answer)
    standing.remember(report)
    return report


def give_hint(exercise_id: str, stage: int = 1) -> Hint:
    """Return one stage of help for an exercise: 1 the direction, 2 the location, 3 nearly the answer."""
    exercise = registry.find_exercise(exercise_id)
    if isinstance(stage, bool) or stage not in range(1, len(exercise.hints) + 1):
        raise ValueError(f"hint={stage!r}: {exercise.id} has hints 1 to {len(exercise.hints)}")
    return Hint(exercise.id, stage, len(exercise.hints), exercise.hints[stage - 1])


def review(exercise: Exercise, answer: object, *, source: str | None = None) -> Report:
    """Check an object against an exercise, on the inputs of practice.

    Args:
        exercise: what was asked.
        answer: the learner's object, None when there is none.
        source: its text, for advice; looked up when None.

    Returns:
        The report.
    """
    if answer is None:
        message = f"Nothing is called {exercise.function} yet: write {exercise.signature} and run its cell first."
        return plain(exercise, "unanswered", message)
    if not callable(answer):
        message = f"{exercise.function} should be a function {exercise.signature}, and is {type(answer).__name__}."
        return plain(exercise, "incorrect", message)
    library = borrowed(answer)
    if library:
        message = f"This is the library's own work ({library}); write {exercise.signature} yourself."
        return plain(exercise, "refused", message)
    with one_thread():
        cases = practice_cases(exercise)
        report = judge(exercise, cases, attempt(exercise, answer, cases))
    lines = advice(exercise, answer, source) if report.status != "unanswered" else []
    return replace(report, advice=tuple(lines))


def practice_cases(exercise: Exercise) -> list[Case]:
    """Return the inputs on which practice checks an exercise: the same at every call."""
    return exercise.draw(np.random.default_rng(PRACTICE_SEED))


def _notebook_namespace() -> Mapping[str, Any]:
    # Only where a notebook has loaded IPython already; a script must not load it for this.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else {}
