"""Set 00: what a model is asked to predict."""

from gptlib.checks.sets.welcome import shift_by_one

LESSON = 0
EXERCISES = (shift_by_one.EXERCISE,)
