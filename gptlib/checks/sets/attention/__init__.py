"""Set 03: the causal mask, the scores, attention, and the test that finds a leak."""

from gptlib.checks.sets.attention import attend, causal_mask, leaks, scores

LESSON = 3
EXERCISES = (causal_mask.EXERCISE, scores.EXERCISE, attend.EXERCISE, leaks.EXERCISE)
