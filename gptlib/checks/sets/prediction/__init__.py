"""Set 02: the simplest model that predicts, and how well a model predicts."""

from gptlib.checks.sets.prediction import bigram, cross_entropy, perplexity

LESSON = 2
EXERCISES = (bigram.EXERCISE, cross_entropy.EXERCISE, perplexity.EXERCISE)
