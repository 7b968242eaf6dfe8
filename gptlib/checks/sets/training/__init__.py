"""Set 08: training, the parts of the loop."""

from gptlib.checks.sets.training import batches, clip, schedule, step

LESSON = 8
EXERCISES = (batches.EXERCISE, schedule.EXERCISE, step.EXERCISE, clip.EXERCISE)
