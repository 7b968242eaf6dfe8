"""Set 10: reading attention, from how widely a head looks to what is missing without it."""

from gptlib.checks.sets.reading import ablate, entropy, previous_token

LESSON = 10
EXERCISES = (entropy.EXERCISE, previous_token.EXERCISE, ablate.EXERCISE)
