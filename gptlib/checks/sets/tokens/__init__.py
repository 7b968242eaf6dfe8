"""Set 01: byte pair encoding, in its three parts."""

from gptlib.checks.sets.tokens import encode, merge, pair_counts

LESSON = 1
EXERCISES = (pair_counts.EXERCISE, merge.EXERCISE, encode.EXERCISE)
