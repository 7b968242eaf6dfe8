"""Set 08: training, from a batch to a diagnosis."""

from gptlib.checks.sets.training import batches, clip, diagnose, schedule, step

LESSON = 8
EXERCISES = (batches.EXERCISE, schedule.EXERCISE, step.EXERCISE, clip.EXERCISE, diagnose.EXERCISE)
