"""Set 07: the GPT, from the count of its parameters to its forward pass."""

from gptlib.checks.sets.gpt import count_parameters, forward, init

LESSON = 7
EXERCISES = (count_parameters.EXERCISE, init.EXERCISE, forward.EXERCISE)
