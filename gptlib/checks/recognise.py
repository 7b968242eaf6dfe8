"""Which mistake is it: a misconception known by name, two at once, or an answer that looks at nothing."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch

from gptlib.checks.compare import number
from gptlib.checks.data import content
from gptlib.checks.exercise import Exercise, Misconception, results
from gptlib.checks.probing import Answer, Data, Given, Outcome, Value, run
from gptlib.checks.trial import Trial


def recognise(exercise: Exercise, trials: Sequence[Trial]) -> tuple[str, str]:
    """Find the misconception, or two that compose, whose outcomes are the learner's on every input.

    Args:
        exercise: what was asked.
        trials: the learner's outcomes, at least one of them wrong.

    Returns:
        The name ("a", or "a + b" for two) and what helps; two empty strings when the mistake is not known.
    """
    given = [trial.case.given for trial in trials]

    def remembering(answer: Answer) -> Callable[[int], Outcome]:
        return cache(lambda index: run(exercise.probe, answer, given[index]))

    single = [((m,), remembering(answer)) for m in exercise.misconceptions for answer in exercise.wrong(m)]
    double = [((a, b), remembering(answer)) for a, b, answer in exercise.pairs()]
    for candidates in (single, double):
        # Numbers of another dtype still show the mistake, but an implementation with the same dtype shows it better.
        for any_dtype in (False, True):
            found = _match(candidates, trials, any_dtype)
            if found:
                sentence = " And: ".join(m.sentence for m in found)
                lead = "Two things at once. " if len(found) == 2 else ""
                return " + ".join(m.name for m in found), lead + sentence
    return "", ""


def idle(trials: Sequence[Trial]) -> tuple[str, str]:
    """Recognise an answer that is constant or hands back what it was given; it earns no property's mark.

    Returns:
        A name and a sentence as `recognise` does, empty for an answer that does something.
    """
    for name in results(trials[0].expected):
        found = _idle_data(name, trials) or _idle_arrays(name, trials)
        if found:
            return found
    return "", ""


def _idle_data(name: str, trials: Sequence[Trial]) -> tuple[str, str] | None:
    seen = [value for trial in trials if isinstance(value := trial[name], Data)]
    wanted = {str(trial.expected[name]) for trial in trials}
    if len(seen) < len(trials):
        return None
    if all(content(value) in ("", [], {}) for value in seen):
        return "empty", f"Your {name} is empty, whatever the input."
    if all(content(value) in _plain_inputs(trial) for value, trial in zip(seen, trials, strict=True)):
        return "returns the input", f"Your function gives back one of its inputs, untouched, as its {name}."
    entries = {entry for value in seen for entry in _entries(value)}
    if len(set(seen)) == 1 < len(wanted) or (len(entries) == 1 < len(wanted)):
        return "constant", f"Your {name} is made of the same everywhere, whatever the input."
    return None


def _entries(value: Data) -> list[object]:
    found = content(value)
    return list(found.items()) if isinstance(found, dict) else list(found)


def _plain_inputs(trial: Trial) -> list[object]:
    values = list(trial.case.given.values())
    return [value.tolist() if isinstance(value, torch.Tensor) else value for value in values]


def _idle_arrays(name: str, trials: Sequence[Trial]) -> tuple[str, str] | None:
    seen = [value for trial in trials if isinstance(value := trial[name], torch.Tensor)]
    if len(seen) < len(trials):
        return None
    if all(_is_given(value, trial.case.given) for value, trial in zip(seen, trials, strict=True)):
        return "returns the input", f"Your function gives back one of its inputs, untouched, as its {name}."
    first = seen[0].reshape(-1)[:1]
    if first.numel() == 0:
        return "empty", f"Your {name} is empty."
    wanted = [trial.expected[name] for trial in trials]
    if (_varies_inside(wanted) or _varies_between(wanted)) and all(bool((value == first).all()) for value in seen):
        return "constant", f"Your {name} is {number(first)} everywhere, whatever the input."
    if any(isinstance(w, torch.Tensor) and value.shape != w.shape for value, w in zip(seen, wanted, strict=True)):
        return None  # of a wrong shape, the shape is what to speak of
    if (_varies_inside(wanted) > _varies_inside(seen)) or (_varies_between(wanted) > _varies_between(seen)):
        return "constant", f"Nothing in your {name} depends on the numbers that your function is given."
    return None


def _match(
    candidates: Iterable[tuple[tuple[Misconception, ...], Callable[[int], Outcome]]],
    trials: Sequence[Trial],
    any_dtype: bool,
) -> tuple[Misconception, ...]:
    # When the results are right and something else is amiss (an input was written to), it must be amiss in the same
    # way. When the results are wrong, they alone tell the mistake.
    names = list(trials[0].expected)
    if any(not trial.right(name) for trial in trials for name in results(trial.expected)):
        names = results(trials[0].expected)
    for misconceptions, outcome in candidates:
        if all(trial.like(outcome(index), names, any_dtype=any_dtype) for index, trial in enumerate(trials)):
            return misconceptions
    return ()


def _is_given(value: torch.Tensor, given: Given) -> bool:
    if value.shape == ():
        return any(isinstance(each, int | float) and value.item() == each for each in given.values())
    return any(
        isinstance(array, torch.Tensor) and value.shape == array.shape and bool((value == array).all())
        for array in given.values()
    )


def _varies_inside(arrays: Sequence[Value]) -> bool:
    """Say whether some array holds two different numbers."""
    return any(isinstance(a, torch.Tensor) and a.numel() > 0 and bool((a != a.reshape(-1)[0]).any()) for a in arrays)


def _varies_between(arrays: Sequence[Value]) -> bool:
    """Say whether two arrays of the same shape differ."""
    tensors = [a for a in arrays if isinstance(a, torch.Tensor)]
    return any(a.shape == b.shape and bool((a != b).any()) for i, a in enumerate(tensors) for b in tensors[:i])
