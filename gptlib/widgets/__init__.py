"""Live views: the maths runs in the browser, the model in the kernel, and where no script runs there is a picture.

`TokenizerView` shows how a text is cut; `AttentionSteps` what each step of attention does to one row; `AttentionViewer`
which token looks at which in every head; `SamplingLab` what temperature and filters make of the next token's
distribution; `TrainingMonitor` a run while it goes on; `ParameterMap` where parameters sit; `PositionExplorer` how
positions are told apart. Each is a Python class here and a plain ES module in `static/` that exports
`mount(element, state)`. `bertviz_view` shows BertViz without a network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "AttentionSteps": "attention_steps",
    "AttentionViewer": "attention",
    "ParameterMap": "parameters",
    "PositionExplorer": "positions",
    "SamplingLab": "sampling",
    "ShannonGame": "shannon",
    "TokenizerView": "tokenizer_view",
    "TrainingMonitor": "training",
    "bertviz_view": "bertviz",
}
__all__ = [
    "AttentionSteps",
    "AttentionViewer",
    "ParameterMap",
    "PositionExplorer",
    "SamplingLab",
    "ShannonGame",
    "TokenizerView",
    "TrainingMonitor",
    "bertviz_view",
]

if TYPE_CHECKING:
    from gptlib.widgets.attention import AttentionViewer
    from gptlib.widgets.attention_steps import AttentionSteps
    from gptlib.widgets.bertviz import bertviz_view
    from gptlib.widgets.parameters import ParameterMap
    from gptlib.widgets.positions import PositionExplorer
    from gptlib.widgets.sampling import SamplingLab
    from gptlib.widgets.shannon import ShannonGame
    from gptlib.widgets.tokenizer_view import TokenizerView
    from gptlib.widgets.training import TrainingMonitor


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.widgets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib.widgets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
