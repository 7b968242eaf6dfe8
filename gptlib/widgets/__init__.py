"""Live views: the maths runs in the browser, the model in the kernel, and where no script runs there is a picture.

`AttentionViewer` shows which token looks at which in every head; `SamplingLab` what temperature and filters make of the
next token's distribution. Each is a Python class here and a plain ES module in `static/` that exports
`mount(element, state)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {"AttentionViewer": "attention", "SamplingLab": "sampling"}
__all__ = ["AttentionViewer", "SamplingLab"]

if TYPE_CHECKING:
    from gptlib.widgets.attention import AttentionViewer
    from gptlib.widgets.sampling import SamplingLab


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.widgets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib.widgets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
