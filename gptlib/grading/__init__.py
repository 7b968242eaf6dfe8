"""Grading that does not believe what it grades.

`extract` takes the answers out of a notebook, `inside` probes them in a `sandbox`, `wire` brings arrays out, `verify`
judges them, and `run` does this for many submissions and writes `tables` and `pages`. `exchange` hands in and back.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Receipt": "exchange",
    "Result": "result",
    "grade": "run",
    "hand_back": "exchange",
    "hand_in": "exchange",
    "load_course": "course",
    "make_places": "exchange",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from gptlib.grading.course import load_course as load_course
    from gptlib.grading.exchange import Receipt as Receipt
    from gptlib.grading.exchange import hand_back as hand_back
    from gptlib.grading.exchange import hand_in as hand_in
    from gptlib.grading.exchange import make_places as make_places
    from gptlib.grading.result import Result as Result
    from gptlib.grading.run import grade as grade


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.grading.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib.grading' has no attribute {name!r}")
