"""Set 05: where a token stands, as waves, as turns, and as numbers that fit padding and a cache."""

from gptlib.checks.sets.positions import offsets, rotary, sinusoidal

LESSON = 5
EXERCISES = (sinusoidal.EXERCISE, rotary.EXERCISE, offsets.EXERCISE)
