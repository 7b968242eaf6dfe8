"""What a GPT costs, counted from its config alone: parameters, floating-point operations, memory.

All of it is arithmetic, so it can be asked of models that fit into no machine at hand. The tests hold it against what
PyTorch counts (its FLOP counter) and against bytes measured, for any config.
"""

from gptlib.scaling.count import Count
from gptlib.scaling.flops import forward_flops, training_flops, training_flops_per_token
from gptlib.scaling.memory import activation_memory, cache_memory, optimizer_memory, training_memory
from gptlib.scaling.parameters import parameter_shapes, parameters

__all__ = [
    "Count",
    "activation_memory",
    "cache_memory",
    "forward_flops",
    "optimizer_memory",
    "parameter_shapes",
    "parameters",
    "training_flops",
    "training_flops_per_token",
    "training_memory",
]
