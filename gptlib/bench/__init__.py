"""This machine against its own limits, and gptlib against transformers, at training and at writing.

Two limits bound a GPT. Training multiplies matrices, so it cannot be faster than the machine multiplies them. Writing
one token at a time reads every weight once a token, so it cannot be faster than the machine reads memory. Both are
measured here; what a model needs of each comes from `gptlib.scaling`.
"""

from gptlib.bench.limits import Limits, measure_limits
from gptlib.bench.measuring import bench
from gptlib.bench.report import Race, Report
from gptlib.bench.turns import take_turns

__all__ = ["Limits", "Race", "Report", "bench", "measure_limits", "take_turns"]
