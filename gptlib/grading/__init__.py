"""Grading that does not believe what it grades.

`extract` takes the answers out of a notebook, `inside` probes them in a `sandbox`, `wire` brings arrays out, `verify`
judges them, and `run` does this for many submissions and writes `tables` and `pages`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {"Result": "result", "grade": "run", "load_course": "course"}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from gptlib.grading.course import load_course as load_course
    from gptlib.grading.result import Result as Result
    from gptlib.grading.run import grade as grade


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.grading.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib.grading' has no attribute {name!r}")
