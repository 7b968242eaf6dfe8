"""Set 06: the parts of a block, and the block."""

from gptlib.checks.sets.block import block, layer_norm, mlp

LESSON = 6
EXERCISES = (layer_norm.EXERCISE, mlp.EXERCISE, block.EXERCISE)
