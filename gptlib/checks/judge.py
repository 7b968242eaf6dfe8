"""From what a probe brought back to a verdict.

Nothing that the learner wrote runs here. What comes in is what the probe brought back, so a grader can judge what came
out of a sandbox exactly as practice judges what was made in a notebook.
"""

from collections.abc import Sequence
from typing import Any

import torch

from gptlib.checks.data import content
from gptlib.checks.exercise import Case, Exercise, Property
from gptlib.checks.explain import evidence, explain
from gptlib.checks.probing import Data, Outcome, Raised
from gptlib.checks.recognise import idle, recognise
from gptlib.checks.report import Report
from gptlib.checks.trial import Trial, trials


def judge(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Report:
    """Decide what an answer is worth and what to say about it.

    Args:
        exercise: what was asked.
        cases: the inputs.
        outcomes: what the probe brought back on each; a value that lacks counts as wrong.

    Returns:
        The report. Full marks only when every value agrees with the reference's on every input; otherwise the shares of
        the properties that hold on all of them.
    """
    rows = trials(exercise, cases, outcomes)
    if all(row.unanswered for row in rows):
        return plain(exercise, "unanswered", _no_answer(exercise, rows))
    if not any(row.wrong for row in rows):
        return plain(exercise, "correct", f"Agrees with the reference on all {len(rows)} inputs.")

    nothing, nothing_sentence = idle(rows)
    earned = [not nothing and all(_holds(item, row) for row in rows) for item in exercise.properties]
    points = [round(item.share * exercise.points, 2) for item in exercise.properties]
    score = round(sum(point for point, held in zip(points, earned, strict=True) if held), 2)
    name, sentence = recognise(exercise, rows)
    if not name and nothing:
        name, sentence = nothing, nothing_sentence
    raised = not name and any(isinstance(row.seen, Raised) for row in rows)
    return Report(
        id=exercise.id,
        title=exercise.title,
        status="error" if raised else "partial" if score else "incorrect",
        score=score,
        max_score=exercise.points,
        message=sentence or explain(exercise, rows, earned),
        misconception=name,
        evidence=evidence(exercise, rows),
        properties=tuple(
            (item.name, held, point) for item, held, point in zip(exercise.properties, earned, points, strict=True)
        ),
    )


def plain(exercise: Exercise, status: str, message: str) -> Report:
    """Return a report that has nothing to show: full marks when correct, none otherwise."""
    score = exercise.points if status == "correct" else 0
    return Report(exercise.id, exercise.title, status, score, exercise.points, message)


def _no_answer(exercise: Exercise, rows: Sequence[Trial]) -> str:
    """Say what makes it look unanswered, for somebody who has written an answer and does not see why."""
    lead = f"There is no answer yet: {exercise.signature}"
    if all(isinstance(row.seen, Raised) for row in rows):
        return f"{lead} raises NotImplementedError. Write yours in place of that line."
    return f"{lead} gives back nothing. If you have written one, its return is missing."


def _holds(item: Property, row: Trial) -> bool:
    """Say whether a property holds on one input; values that lack or have another kind or shape never have it."""
    values: dict[str, Any] = {}
    for name in item.reads:
        seen, expected = row[name], row.expected[name]
        if isinstance(seen, torch.Tensor) and isinstance(expected, torch.Tensor) and seen.shape == expected.shape:
            values[name] = seen.to(expected.dtype)
        elif isinstance(seen, Data) and isinstance(expected, Data) and seen.kind == expected.kind:
            values[name] = content(seen)
        else:
            return False
    return item.holds(row.case, values)
