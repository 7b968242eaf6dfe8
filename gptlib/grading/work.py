"""One submission from its file to its result, in a process of its own."""

import hashlib
import json
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from gptlib.checks.judge import plain
from gptlib.grading.course import load_course
from gptlib.grading.extract import Answers, UnreadableError, extract, read_bytes
from gptlib.grading.result import Graded, Result, clean
from gptlib.grading.sandbox import Sandbox
from gptlib.grading.verify import grade_answer


@dataclass(frozen=True)
class Task:
    """What a worker needs to know."""

    path: Path
    kit: Path
    seed: int
    seconds: float
    private: Path | None = None
    unsafe: bool = False


def serve(task: Task, replies: Connection) -> None:
    """Grade a submission and send the result as JSON; the process's whole work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides what Ctrl-C means
    torch.set_num_threads(1)
    try:
        result = grade_submission(task)
        words = {"result": result.as_dict()}
    except Exception as error:
        words = {"failed": clean(f"{type(error).__name__}: {error}")}
    with suppress(BrokenPipeError):  # whoever started this has ended, and nobody waits for a result
        replies.send_bytes(json.dumps(words).encode())
    replies.close()


def grade_submission(task: Task) -> Result:
    """Grade one submission.

    Raises:
        NoSandboxError: the sandbox did not start.
    """
    began, name = time.monotonic(), str(task.path)
    course = load_course(task.private)
    digest = ""
    try:
        data = read_bytes(task.path)
        digest = hashlib.sha256(data).hexdigest()
        answers = extract(data, course)
    except UnreadableError as error:
        return Result(name, digest, problem=f"The submission was not read: {error}.")
    asked = [each for each in course.values() if each.lesson == answers.lesson]
    graded, spent = [], 0.0
    with Sandbox(task.kit, unsafe=task.unsafe) as sandbox:
        for index, exercise in enumerate(asked):
            if exercise.id not in answers.sources:
                message = f"The notebook has no answer cell for {exercise.id}."
                graded.append(Graded(plain(exercise, "unanswered", message), "", _notes(answers, exercise.id)))
                continue
            sandbox.start()
            # Each exercise may take an equal share of the time that is left.
            start = time.monotonic()
            seconds = max(0.1, (task.seconds - spent) / (len(asked) - index))
            source = answers.sources[exercise.id]
            report = grade_answer(exercise, source, answers.imports, sandbox, seed=task.seed, seconds=seconds)
            spent += min(seconds, time.monotonic() - start)
            graded.append(Graded(report, source[:20_000], _notes(answers, exercise.id)))
    problem = "" if answers.lesson else "Nothing in the notebook tells which exercises it answers."
    notes = _notes(answers, "")
    return Result(name, digest, answers.lesson, problem, notes, tuple(graded), round(time.monotonic() - began, 3))


def _notes(answers: Answers, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(answers.notes[name]))[:20]
