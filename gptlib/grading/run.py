"""Grade many submissions: several at a time, each on its own, and go on where an interrupted run was."""

import hashlib
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gptlib.grading import formats, pages, sandbox, tables
from gptlib.grading.course import load_course, private_files
from gptlib.grading.extract import UnreadableError, find_notebooks, read_bytes
from gptlib.grading.result import Result, with_nothing
from gptlib.grading.work import Task, serve

GRACE = 180.0  # seconds beyond a submission's own time before its worker is given up
UNSAFE = (
    "WARNING: NO SANDBOX. The code of every submission runs with your own rights: it can read, change and delete your "
    "files, use the network, and read the answers. Grades made in this way can be forged."
)


def grade(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    private: str | Path | None = None,
    jobs: int | None = None,
    timeout: float = 60.0,
    unsafe: bool = False,
    format: str | None = None,
    part: tuple[int, int] | None = None,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Grade submissions and write the grades.

    Several machines share the work when each grades a part into the same folder; the call without `part` then finds
    their results there, grades what is missing, and writes the grades of all.

    Args:
        paths: notebooks, or folders in which they are at any depth.
        out: folder for grades.csv, grades.json, index.html, a page for each submission, and the state of the run.
        private: folder with an instructor's own exercises and cases.
        jobs: submissions at a time; one for each core if None.
        timeout: seconds that the answers of one submission may run, all together.
        unsafe: run without a sandbox.
        format: also write for another grader: gradescope or nbgrader.
        part: (k, n) for the k-th of n parts, counted from 1: grades every n-th submission and writes no grades.
        say: told what is worth knowing, a line at a time.

    Returns:
        The results, in the order of the submissions.

    Raises:
        FileNotFoundError: a path is not there.
        ValueError: an argument is out of range, no sandbox can be had, or a part would grade otherwise than the
            results that are in the folder.
    """
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs={jobs} grades nothing; use 1 or more")
    if not 1 <= timeout <= 3600:
        raise ValueError(f"timeout={timeout:g} must be from 1 to 3600 seconds")
    if part is not None and not 1 <= part[0] <= part[1]:
        raise ValueError(f"part={part[0]}/{part[1]} is none; parts are counted from 1, as in 1/{max(1, part[1])}")
    if format is not None and format not in formats.WRITERS:
        raise ValueError(f"format={format!r} is not known; use {', '.join(formats.WRITERS)}")
    notebooks, own = find_notebooks([Path(path) for path in paths]), None if private is None else Path(private)
    course = load_course(own)
    if part is not None:
        notebooks = notebooks[part[0] - 1 :: part[1]]
    if unsafe:
        say(UNSAFE)
    elif reason := sandbox.problem():
        raise ValueError(f"no sandbox, so nothing was run: {reason}; --unsafe-no-sandbox runs submissions unprotected")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for --out")
    state = _State.open(folder / "state", _settings(own, timeout, unsafe), say, shared=part is not None)
    found = {path: result for path in notebooks if (result := state.recall(path)) is not None}
    if found:
        say(f"{len(found)} of {len(notebooks)} submissions were graded before and have not changed since")
    left = [path for path in notebooks if path not in found]
    with tempfile.TemporaryDirectory(prefix="gptlib-") as kit:
        sandbox.make_kit(Path(kit))
        tasks = [Task(path.absolute(), Path(kit), state.seed, timeout, own, unsafe) for path in left]
        bar = tqdm(total=len(left), unit="submission", file=sys.stderr, disable=not left, smoothing=0.1)
        with bar:
            for index, result in _work(tasks, min(jobs, max(1, len(tasks)))):
                named = replace(result, submission=str(left[index]))
                found[left[index]] = named
                if named.digest:
                    state.keep(left[index], named)
                bar.update()
    if part is not None:
        return [found[path] for path in notebooks]
    results = _same_set([found[path] for path in notebooks], course)
    tables.write(folder, results)
    pages.write(folder, results)
    if format is not None:
        formats.WRITERS[format](folder, results)
    return results


def _work(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Result]]:
    """Yield the number and the result of each task as it is done; a worker that breaks harms its own task only."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if (
        method == "forkserver"
    ):  # PyTorch is imported once, and each worker is a fork made before any tensor was computed
        context.set_forkserver_preload(["gptlib.grading.work"])
    waiting, running = list(enumerate(tasks)), dict[Connection, tuple[int, Any, float]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, task = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                worker = context.Process(target=serve, args=(task, sender), daemon=True)
                worker.start()
                sender.close()
                running[receiver] = (index, worker, time.monotonic() + task.seconds + GRACE)
            for receiver in wait(list(running), timeout=1.0):
                assert isinstance(receiver, Connection)
                index, worker, _ = running.pop(receiver)
                yield index, _received(receiver, tasks[index])
                worker.join(10)
            for receiver, (index, worker, deadline) in list(running.items()):
                if time.monotonic() > deadline:
                    running.pop(receiver)
                    worker.kill()
                    yield index, _failed(tasks[index], f"it did not finish in {tasks[index].seconds + GRACE:.0f} s")
    finally:
        for _, worker, _ in running.values():
            worker.kill()
            worker.join(10)


def _received(receiver: Connection, task: Task) -> Result:
    with receiver:
        try:
            said = json.loads(receiver.recv_bytes())
        except (EOFError, OSError):
            return _failed(task, "its process broke down")
    return Result.from_dict(said["result"]) if "result" in said else _failed(task, said["failed"])


def _failed(task: Task, why: str) -> Result:
    # Without a digest it is not kept, so that the next run tries again.
    return Result(str(task.path), problem=f"The grader could not finish this submission: {why}.")


def _same_set(results: list[Result], course: Any) -> list[Result]:
    """Give a submission that names no set the one that all others have, so that its zero counts out of the same sum."""
    lessons = {result.lesson for result in results if result.lesson}
    if len(lessons) != 1:
        return results
    (lesson,) = lessons
    asked = [exercise for exercise in course.values() if exercise.lesson == lesson]
    status = {True: "unanswered", False: "refused"}
    return [
        result
        if result.lesson
        else with_nothing(replace(result, lesson=lesson), asked, result.problem, status["Nothing" in result.problem])
        for result in results
    ]


@dataclass(frozen=True)
class _State:
    """What an interrupted run leaves: its seed, what it was run with, and the results so far."""

    folder: Path
    seed: int

    @classmethod
    def open(
        cls, folder: Path, settings: dict[str, Any], say: Callable[[str], None], *, shared: bool = False
    ) -> "_State":
        """Take up the state in a folder, or begin one when there is none or it was made with other settings.

        Where others may be at work in the folder (`shared`), nothing of theirs is thrown away.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "run.json"
        saved: Any = None
        with suppress(OSError, ValueError):
            saved = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(saved, dict) and saved.get("settings") == settings and type(saved.get("seed")) is int:
            return cls(folder, saved["seed"])
        if file.exists():
            if shared:
                raise ValueError(
                    f"{folder} holds results of other exercises or settings; delete it, or name another folder for all "
                    "parts"
                )
            say("the last run in this folder had other exercises or settings; grading everything anew")
        if not shared:
            for old in folder.glob("*.json"):
                old.unlink()
        if not _claim(file, {"settings": settings, "seed": secrets.randbits(63)}):
            return cls.open(folder, settings, say, shared=shared)  # another part was first: its seed is everybody's
        return cls(folder, json.loads(file.read_text(encoding="utf-8"))["seed"])

    def recall(self, path: Path) -> Result | None:
        """Return what was found out about a submission, None when it is new or has changed."""
        with suppress(OSError, ValueError, KeyError, TypeError, UnreadableError):
            result = Result.from_dict(json.loads(self._file(path).read_text(encoding="utf-8")))
            if result.digest == hashlib.sha256(read_bytes(path)).hexdigest():
                return result
        return None

    def keep(self, path: Path, result: Result) -> None:
        """Save a result."""
        _write(self._file(path), result.as_dict())

    def _file(self, path: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.json"


def _settings(private: Path | None, timeout: float, unsafe: bool) -> dict[str, Any]:
    """Return what results depend on beside the submission."""
    library = Path(__file__).parents[1]
    files = [*sorted((library / "checks").rglob("*.py")), *sorted((library / "grading").glob("*.py"))]
    files += [path for file in private_files(private) for path in sorted(file.parent.rglob("*.py"))] if private else []
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return {"exercises": digest, "timeout": timeout, "unsafe": unsafe}


def _claim(file: Path, values: Any) -> bool:
    """Write a file whole if it is not there yet; of several who try, one succeeds."""
    new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    new.write_text(json.dumps(values), encoding="utf-8")
    try:
        os.link(new, file)
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True


def _write(file: Path, values: Any) -> None:
    """Write a file whole or not at all."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(values), encoding="utf-8")
    os.replace(new, file)
