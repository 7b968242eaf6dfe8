"""The exercise that checks itself: whether a definition keeps what the engine promises.

Run it on an exercise that is being written: `problems(exercise)` is empty when the definition is sound.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from gptlib.checks import probing
from gptlib.checks.exercise import Case, Exercise
from gptlib.checks.judge import judge
from gptlib.checks.probing import Answer, Hidden, Probe, one_thread, run
from gptlib.checks.trial import attempt


def problems(exercise: Exercise, seed: int = 0) -> list[str]:
    """Return what is wrong with an exercise's definition, one sentence each.

    The reference and the alternatives must earn full marks, an empty stub nothing, and every misconception its own
    sentence. NaN, zeros, constants and the untouched input must earn no point. The probe must run from its own source,
    without the answers, on inputs that can be handed to another process.

    Args:
        exercise: the definition.
        seed: for the inputs.

    Returns:
        Sentences; empty when all is well.
    """
    with one_thread():
        cases = exercise.draw(np.random.default_rng(seed))
        lines = [line for check in (_form, _marks, _mistakes, _probe) for line in check(exercise, cases)]
    return [f"{exercise.id}: {line}" for line in lines]


def trivial_answers(exercise: Exercise) -> dict[str, Answer]:
    """Return answers that do no work: constants in the right shapes, and the input handed back."""
    numbers = {"zeros": 0.0, "ones": 1.0, "halves": 0.5, "-inf": -math.inf, "NaN": math.nan}
    answers = {name: _filled(exercise.reference, number) for name, number in numbers.items()}
    answers["the same in every column"] = _mapped(
        exercise.reference, lambda x: torch.ones_like(x) / (x.shape or (1,))[-1]
    )
    answers["empty"] = _mapped(exercise.reference, lambda x: torch.empty(0))
    answers["input"] = _mapped_from_input(exercise.reference)
    return answers


def _form(exercise: Exercise, cases: list[Case]) -> Iterator[str]:
    again = exercise.draw(np.random.default_rng(0)), exercise.draw(np.random.default_rng(0))
    if not all(_equal(a, b) for a, b in zip(*again, strict=True)):
        yield "draw gives other inputs for the same seed; draw from the generator only"
    if not exercise.signature.startswith(f"{exercise.function}("):
        yield f"the signature {exercise.signature!r} does not begin with {exercise.function}(, as the id says"
    if len(exercise.misconceptions) < 4:
        yield f"{len(exercise.misconceptions)} misconceptions are fewer than four"
    if len(exercise.alternatives) < 2:
        yield f"{len(exercise.alternatives)} alternatives are fewer than two other ways of being right"
    for name, value in ((name, value) for case in cases for name, value in case.given.items()):
        if not isinstance(value, torch.Tensor | Hidden) and json.loads(json.dumps(value)) != value:
            yield f"the input {name} is no tensor and changes on its way through JSON"
    if sum(item.share for item in exercise.properties) > 0.6:
        yield "the properties' shares sum to more than 0.6, so a wrong answer would earn too much"
    if exercise.build is not None:
        report = judge(exercise, cases, attempt(exercise, exercise.build(), cases))
        if not report.passed:
            yield f"build() without changes is {report.status}: {report.message}"


def _marks(exercise: Exercise, cases: list[Case]) -> Iterator[str]:
    report = judge(exercise, cases, attempt(exercise, exercise.reference, cases))
    if not report.passed or report.score != exercise.points:
        yield f"the reference is {report.status} with {report.score:g} points"

    for number, answer in enumerate(exercise.alternatives, 1):
        report = judge(exercise, cases, attempt(exercise, answer, cases))
        if not report.passed:
            yield f"alternative {number} ({getattr(answer, '__name__', answer)}) is {report.status}: {report.message}"

    def stub(*args: object, **kwargs: object) -> None:
        raise NotImplementedError("write your answer here")

    def hollow(*args: object, **kwargs: object) -> None: ...

    for empty in (stub, hollow):
        report = judge(exercise, cases, attempt(exercise, empty, cases))
        if report.status != "unanswered" or report.score:
            yield f"an empty {empty.__name__} is {report.status} with {report.score:g} points"
    for name, answer in trivial_answers(exercise).items():
        report = judge(exercise, cases, attempt(exercise, answer, cases))
        if report.score:
            yield f"an answer that gives {name} earns {report.score:g} points"


def _mistakes(exercise: Exercise, cases: list[Case]) -> Iterator[str]:
    for misconception in exercise.misconceptions:
        for answer in exercise.wrong(misconception):
            report = judge(exercise, cases, attempt(exercise, answer, cases))
            if report.passed:
                yield f"the misconception {misconception.name!r} earns full marks"
            elif report.misconception != misconception.name:
                yield f"the misconception {misconception.name!r} is taken for {report.misconception!r}"


def _probe(exercise: Exercise, cases: list[Case]) -> Iterator[str]:
    space: dict[str, Any] = {**vars(probing), "torch": torch, "math": math, "Any": Any}
    exec(exercise.probe_source(), space)
    alone: Probe = space[exercise.probe.__name__]
    report = judge(exercise, cases, [run(alone, exercise.reference, case.given) for case in cases])
    if not report.passed:
        yield f"the probe does not run from its own source: {report.message}"


def _filled(reference: Answer, number: float) -> Answer:
    def fill(x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, number) if x.is_floating_point() else torch.full_like(x, bool(number > 0))

    return _mapped(reference, fill)


def _mapped(reference: Answer, change: Callable[[torch.Tensor], torch.Tensor]) -> Answer:
    """Return an answer that calls the reference and replaces every number in its result."""

    def whole(value: int) -> list[int]:
        return [int(number) if math.isfinite(number) else 0 for number in change(torch.tensor([float(value)])).tolist()]

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return change(value)
        if isinstance(value, bool):
            changed = change(torch.tensor(value))
            return bool(changed.numel()) and bool(changed.any())
        if isinstance(value, int | float):
            return next(iter(whole(int(value))), 0)
        if isinstance(value, dict):
            return {(0, 0): 1} if whole(1) else {}
        if isinstance(value, str):
            return "".join("01"[number == 1] for letter in value for number in whole(ord(letter)))
        if all(isinstance(part, int) for part in value):
            return [number for part in value for number in whole(part)]
        return tuple(convert(part) for part in value)

    return lambda *args, **kwargs: convert(reference(*args, **kwargs))


def _mapped_from_input(reference: Answer) -> Answer:
    """Return an answer that hands back its first argument, as often as the reference returns tensors."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        first = [*args, *kwargs.values()][0]
        result = reference(*args, **kwargs)
        return (first,) * len(result) if isinstance(result, tuple) else first

    return answer


def _equal(a: Case, b: Case) -> bool:
    pairs = [(a.given[name], b.given.get(name)) for name in a.given]
    return a.note == b.note and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y for x, y in pairs
    )
