"""Have one answer probed in a sandbox, and judge here what came out.

The inputs are drawn from seeds that nobody knew before. The reference, the misconceptions and the inputs' notes never
leave this process, and only what was computed from arrays here becomes a grade.
"""

import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gptlib.checks.answers import advice
from gptlib.checks.exercise import Case, Exercise
from gptlib.checks.judge import judge, plain
from gptlib.checks.probing import Hidden, Outcome, one_thread
from gptlib.checks.recognise import idle
from gptlib.checks.report import Report
from gptlib.checks.trial import trials
from gptlib.grading import wire
from gptlib.grading.extract import MAX_ANSWER, uses_library
from gptlib.grading.sandbox import Sandbox, TooMuchError

ROUNDS = 2  # draws of inputs; who guesses yes or no must guess twice as often
_CPU_TIME_IS_OVER = -24  # ended by SIGXCPU


def draw(exercise: Exercise, seed: int) -> list[Case]:
    """Return the inputs of a grading run, in an order that tells nothing."""
    cases: list[Case] = []
    for turn in range(ROUNDS):
        cases += exercise.draw(np.random.default_rng([seed, zlib.crc32(exercise.id.encode()), turn]))
    order = np.random.default_rng([seed, zlib.crc32(exercise.id.encode())]).permutation(len(cases))
    return [cases[index] for index in order]


def grade_answer(
    exercise: Exercise, source: str, imports: Sequence[str], sandbox: Sandbox, *, seed: int, seconds: float
) -> Report:
    """Grade one answer.

    Args:
        exercise: what was asked.
        source: the answer's cell.
        imports: statements that are run before it.
        sandbox: where it is run; ended when the answer misbehaves.
        seed: for the inputs.
        seconds: the longest that it may take.

    Returns:
        The report; nothing that the answer does raises here.

    Raises:
        NoSandboxError: the sandbox did not start.
    """
    if len(source) > MAX_ANSWER:
        message = f"The answer has {len(source):,} characters, and {MAX_ANSWER:,} are read at most."
        return plain(exercise, "refused", message)
    if uses_library(source):
        return plain(exercise, "refused", f"This is the library's own work; write {exercise.signature} yourself.")
    with one_thread():
        cases = draw(exercise, seed)
        found = _probe(exercise, cases, source, imports, sandbox, seconds)
        if isinstance(found, Report):
            return found
        try:
            report = _without_rote(exercise, cases, found, judge(exercise, cases, found))
        except Exception as error:  # a property that was not written for what an answer made up
            message = f"What the answer returned could not be judged ({type(error).__name__}: {error})."
            return plain(exercise, "error", message)
    return replace(report, advice=tuple(_flags(exercise, source))) if report.status != "unanswered" else report


def _without_rote(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome], report: Report) -> Report:
    """Take back marks for properties from an answer that knows some inputs by heart and does nothing on the others."""
    if report.passed or not report.score:
        return report
    name, sentence = idle([row for row in trials(exercise, cases, outcomes) if row.wrong])
    if not name:
        return report
    missed = tuple((each, False, points) for each, _, points in report.properties)
    message = f"On the inputs where your answer is wrong it does no work. {sentence}"
    return replace(report, status="incorrect", score=0, message=message, properties=missed)


def _probe(
    exercise: Exercise,
    cases: Sequence[Case],
    source: str,
    imports: Sequence[str],
    sandbox: Sandbox,
    seconds: float,
) -> list[Outcome] | Report:
    """Return what the probe brought back on each input, or a report when that is not to be had."""
    arrays: list[torch.Tensor] = []
    hidden: list[Hidden] = []
    written = [{name: wire.wrap(value, arrays, hidden) for name, value in case.given.items()} for case in cases]
    request = {
        "token": secrets.token_hex(8),
        "exercise": exercise.id,
        "function": exercise.function,
        "source": source,
        "imports": list(imports),
        "probe": exercise.probe_source(),
        "probe_name": exercise.probe.__name__,
        "seconds": seconds,
        "cases": written,
    }
    frame = wire.pack(request, arrays)
    sandbox.start()
    sandbox.forget()
    began = time.monotonic()
    try:
        return _converse(exercise, str(request["token"]), len(cases), frame, hidden, sandbox, began + seconds)
    except TimeoutError:
        status, said = "timeout", f"was still running after {time.monotonic() - began:.0f} s; look for an endless loop"
    except TooMuchError as error:
        status, said = "error", str(error)
    except wire.MalformedError as error:
        status, said = "refused", f"sent {error} in place of results"
    except OSError:
        status, said = "error", "ended the process that it ran in"
    sandbox.stop()
    return plain(exercise, status, f"Your answer {said}.")


def _converse(
    exercise: Exercise,
    token: str,
    count: int,
    request: bytes,
    hidden: Sequence[Hidden],
    sandbox: Sandbox,
    deadline: float,
) -> list[Outcome] | Report:
    sandbox.send(request, deadline)
    outcomes: dict[int, Outcome] = {}
    cell: dict[str, Any] | None = None
    while frame := sandbox.receive(deadline):
        said = frame.header
        if said.get("token") != token:
            continue  # left over from the exercise before
        if "call" in said or "pull" in said:
            sandbox.send(_compute(said, frame.arrays, hidden), deadline)
        elif "cell" in said:
            cell = said["cell"] if isinstance(said["cell"], dict) else {}
        elif "case" in said:
            number = said["case"]
            if type(number) is not int or not 0 <= number < count:
                raise wire.MalformedError("a result for no input")
            outcomes.setdefault(number, wire.unwrap_outcome(frame))
        elif "ended" in said:
            if cell is not None:
                return _cell_report(exercise, cell)
            if len(outcomes) == count:
                return [outcomes[number] for number in range(count)]
            return _ended(exercise, said["ended"])
        else:
            raise wire.MalformedError("a frame that says nothing")
    raise BrokenPipeError("the sandbox has ended")


def _compute(said: dict[str, Any], arrays: Sequence[torch.Tensor], hidden: Sequence[Hidden]) -> bytes:
    """Compute a hidden function, or its gradient, for an answer that may not see it."""
    number = said.get("call", said.get("pull"))
    if type(number) is not int or not 0 <= number < len(hidden) or len(arrays) != ("pull" in said) + 1:
        raise wire.MalformedError("a call of no function")
    function, x = hidden[number], arrays[0]
    try:
        if x.numel() > function.most:
            raise ValueError(f"x has {x.numel()} numbers, and the grader computes with {function.most} at most")
        if "call" in said:
            with torch.no_grad():
                return wire.pack({}, [function(x)])
        with torch.enable_grad():
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(function(x), x, arrays[1])
        return wire.pack({}, [gradient])
    except Exception as error:
        return wire.pack({"error": [type(error).__name__, str(error)[:500]]})


def _cell_report(exercise: Exercise, said: dict[str, Any]) -> Report:
    """Put into words why there is no function to probe; what it says was written by the answer's own process."""
    kind, message = said.get("kind"), str(said.get("message", ""))[:500]
    place = f" in line {said['line']}" if type(said.get("line")) is int else ""
    if kind == "syntax":
        text = str(said.get("text", "")).strip()[:200]
        return plain(exercise, "error", f"The cell is no valid Python, {message}{place}: {text}")
    if kind == "raised":
        return plain(exercise, "error", f"The cell raised {str(said.get('type'))[:80]}{place}: {message}")
    if kind == "no function":
        name = str(said.get("type"))[:80]
        return plain(exercise, "incorrect", f"{exercise.function} should be a function, and is {name}.")
    return plain(exercise, "unanswered", f"There is no answer yet: fill in {exercise.signature}.")


def _ended(exercise: Exercise, code: object) -> Report:
    if code == _CPU_TIME_IS_OVER:
        return plain(exercise, "timeout", "Your answer used up its time; look for an endless loop.")
    how = f"exit code {code}" if isinstance(code, int) and code >= 0 else f"signal {str(code)[1:5]}"
    message = f"Your answer ended its Python process ({how}); a function returns its result instead."
    return plain(exercise, "error", message)


def _flags(exercise: Exercise, source: str) -> list[str]:
    try:
        return advice(exercise, None, source)
    except (RecursionError, MemoryError):
        return ["This answer is nested too deeply to be read for forbidden calls."]
