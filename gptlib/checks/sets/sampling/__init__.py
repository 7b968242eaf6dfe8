"""Set 09: from logits to a token, and from tokens to a text."""

from gptlib.checks.sets.sampling import generate, temperature, top_k, top_p

LESSON = 9
EXERCISES = (temperature.EXERCISE, top_k.EXERCISE, top_p.EXERCISE, generate.EXERCISE)
