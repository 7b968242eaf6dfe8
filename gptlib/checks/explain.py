"""The words for a wrong answer: what is amiss, on which input, what was expected and what was seen."""

from collections.abc import Sequence

import torch

from gptlib.checks.compare import difference, distribution, show
from gptlib.checks.exercise import Case, Exercise, is_draw, results
from gptlib.checks.probing import Data, Odd, Raised, Value
from gptlib.checks.trial import Trial


def explain(exercise: Exercise, trials: Sequence[Trial], earned: Sequence[bool]) -> str:
    """Say in one or two sentences what is wrong with an answer that no misconception matches.

    Args:
        exercise: what was asked.
        trials: the learner's outcomes, at least one of them wrong.
        earned: for each of the exercise's properties, whether it holds.

    Returns:
        The first property that does not hold, in words, and where the numbers differ.
    """
    trial = shown(trials)
    if isinstance(trial.seen, Raised):
        return f"Your answer raised {trial.seen.type}: {trial.seen.message}".rstrip(": ")
    name = trial.wrong[0]
    kind, _, source = name.rpartition(".")
    seen, expected = trial[name], trial.expected[name]
    if kind == "after":
        return f"The results are right, but your function changed its input {source}; work on a copy or a new tensor."
    if kind == "gradient" and isinstance(seen, Odd):
        return (
            f"The results are right, but {seen.kind} arrives at {source}; stay with PyTorch operations on the inputs."
        )
    if isinstance(expected, Odd):
        return f"`{name}` is not what was expected."
    if is_draw(name):
        return distribution(_title(name), seen, expected)
    sentence = difference(_title(name), seen, expected, trial.tolerance)
    if _comparable(seen, expected):
        missed = [p.sentence for p, held in zip(exercise.properties, earned, strict=True) if not held]
        return " ".join([*missed[:1], sentence])
    return sentence


def evidence(exercise: Exercise, trials: Sequence[Trial]) -> tuple[tuple[str, str], ...]:
    """Return rows of label and text for the most readable input on which the answer is wrong."""
    trial = shown(trials)
    given = ("input", describe(exercise, trial.case))
    if isinstance(trial.seen, Raised):
        line = (("in line", f"{trial.seen.line}: {trial.seen.code}"),) if trial.seen.line else ()
        return (given, ("raised", f"{trial.seen.type}: {trial.seen.message}"), *line)
    name = trial.wrong[0]
    seen, expected = trial[name], trial.expected[name]
    return (
        given,
        ("expected", f"{_title(name)}: {show(expected, seen)}"),
        ("seen", f"{_title(name)}: {show(seen, expected)}"),
    )


def shown(trials: Sequence[Trial]) -> Trial:
    """Choose the input to show: one that raised, else one with wrong results, small, with four numbers to look at."""
    wrong = [trial for trial in trials if trial.wrong]
    raised = [trial for trial in wrong if isinstance(trial.seen, Raised)]
    return raised[0] if raised else min(wrong, key=lambda t: ("." in t.wrong[0], _numbers(t) < 4, _numbers(t)))


def describe(exercise: Exercise, case: Case) -> str:
    """Write an input: sizes as they are, small tensors with their numbers, large ones by their shape."""
    values = {name: case.given[name] for name in exercise.shown or case.given}
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    small = sum(value.numel() for value in tensors.values()) <= 40 and all(v.dim() <= 2 for v in tensors.values())
    sizes = [f"{name} = {_short(value)}" for name, value in values.items() if name not in tensors]
    shapes = [f"{name} {tuple(value.shape)}" for name, value in tensors.items()]
    lines = [case.note, ", ".join(sizes if small else shapes + sizes)]
    if small:
        lines += [f"{name} {show(value)}" for name, value in tensors.items()]
    return "\n".join(line for line in lines if line)


def _numbers(trial: Trial) -> int:
    values = [trial.expected[name] for name in results(trial.expected)]
    arrays = sum(value.numel() for value in values if isinstance(value, torch.Tensor))
    return arrays + sum(1 + value.json.count(",") for value in values if isinstance(value, Data))


def _comparable(seen: Value, expected: Value) -> bool:
    """Say whether two values have one shape or are of one kind, so that their contents can be spoken about."""
    if isinstance(seen, torch.Tensor) and isinstance(expected, torch.Tensor):
        return seen.shape == expected.shape
    return isinstance(seen, Data) and isinstance(expected, Data) and seen.kind == expected.kind


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:150]} … ({len(text)} characters)"


def _title(name: str) -> str:
    kind, _, source = name.rpartition(".")
    titles = {
        "": "{}",
        "after": "{} after the call",
        "gradient": "the gradient of {}",
        "past": "{} with another past",
        "future": "{} with another future",
        "draws": "{}, drawn many times",
    }
    return titles.get(kind, "{}").format(source)
