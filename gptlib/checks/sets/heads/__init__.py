"""Set 04: several heads, from cutting the features apart to attention with all of them."""

from gptlib.checks.sets.heads import merge, multi_head, split

LESSON = 4
EXERCISES = (split.EXERCISE, merge.EXERCISE, multi_head.EXERCISE)
