"""Exercises that know the mistake: `check` one answer, `check_notebook` a whole file, `progress` over all of them.

Names load on first use, so that a probe can stand in a sandbox without the answers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_ROOMS = {
    "exercise": ["Case", "Exercise", "Misconception", "Property"],
    "report": ["Hint", "Report"],
    "practice": ["check"],
    "standing": ["progress"],
    "notebooks": ["check_notebook"],
    "registry": ["exercises", "find_exercise"],
    "selftest": ["problems"],
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from gptlib.checks.exercise import Case as Case
    from gptlib.checks.exercise import Exercise as Exercise
    from gptlib.checks.exercise import Misconception as Misconception
    from gptlib.checks.exercise import Property as Property
    from gptlib.checks.notebooks import check_notebook as check_notebook
    from gptlib.checks.practice import check as check
    from gptlib.checks.registry import exercises as exercises
    from gptlib.checks.registry import find_exercise as find_exercise
    from gptlib.checks.report import Hint as Hint
    from gptlib.checks.report import Report as Report
    from gptlib.checks.selftest import problems as problems
    from gptlib.checks.standing import progress as progress


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.checks.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib.checks' has no attribute {name!r}")
