"""Check a whole notebook from a shell: the same engine, the same words, each answer cell alone."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from gptlib.checks import registry
from gptlib.checks.judge import plain
from gptlib.checks.report import Report

IMPORTS = "import math\n\nimport torch\nimport torch.nn.functional as F\n"
START_SECONDS = 120.0  # for the child to import torch on a slow machine; counts towards no exercise


def check_notebook(path: str | Path, exercise: str | None = None, *, seconds: float = 20.0) -> list[Report]:
    """Check the answer cells of a notebook, in a process of their own.

    A cell is an answer when its metadata say so: `{"gptlib": {"role": "answer", "exercise": ID}}`. Each is run in a
    namespace that holds only what the notebook's import cell (role "imports") brings.

    Args:
        path: the notebook.
        exercise: only this id; all when None.
        seconds: the longest that one exercise may take.

    Returns:
        One report for each exercise, in the order of the course; exercises of the same lessons that the notebook lacks
        are reported as unanswered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no notebook, has no answer cells, or no exercise has this id.
    """
    if exercise is not None:
        registry.find_exercise(exercise)
    imports, answers, copies = _read(Path(path))
    unknown = [each for each in answers if each not in {known.id for known in registry.exercises()}]
    if unknown:
        registry.find_exercise(unknown[0])
    lessons = {each.partition(".")[0] for each in answers}
    wanted = [each for each in registry.exercises() if each.lesson in lessons or each.id == exercise]
    wanted = [each for each in wanted if exercise in (None, each.id)]
    reports = []
    with _Child(imports, seconds) as child:
        for each in wanted:
            if each.id in answers:
                report = child.check(each.id, answers[each.id])
            else:
                report = plain(
                    each, "unanswered", f"The notebook has no answer cell for {each.id}; copy it back from exercises/."
                )
            if copies[each.id] > 1:
                note = f"The notebook has {copies[each.id]} answer cells for this exercise; the last one counts."
                report = replace(report, advice=(*report.advice, note))
            reports.append(report)
    return reports


def _read(path: Path) -> tuple[str, dict[str, str], Counter[str]]:
    """Return the source of the import cells, the answers by exercise id, and how many cells each had."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; give the path of a notebook, for example work/exercises/03_attention.ipynb"
        )
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        marked = [(_mark(cell), cell) for cell in cells if cell.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no Jupyter notebook (JSON with cells); save it in Jupyter as .ipynb") from error
    answers: dict[str, str] = {}
    copies: Counter[str] = Counter()
    for mark, cell in marked:
        if mark.get("role") == "answer" and isinstance(mark.get("exercise"), str):
            answers[mark["exercise"]] = _source(cell)
            copies[mark["exercise"]] += 1
    if not answers:
        raise ValueError(
            f"{path} has no answer cells (role answer in their metadata); start from a notebook in exercises/"
        )
    imports = "\n".join(_source(cell) for mark, cell in marked if mark.get("role") == "imports")
    return imports or IMPORTS, answers, copies


def _mark(cell: dict[str, Any]) -> dict[str, Any]:
    mark = cell.get("metadata", {}).get("gptlib", {})
    return mark if isinstance(mark, dict) else {}


def _source(cell: dict[str, Any]) -> str:
    """Return a cell's code with notebook magics emptied, so that line numbers stay."""
    source = cell.get("source", "")
    text = "".join(source) if isinstance(source, list) else str(source)
    return "\n".join("" if line.startswith(("%", "!")) else line for line in text.splitlines())


class _Child:
    """A process that checks one answer after another; it is ended and replaced when one takes too long or ends it."""

    def __init__(self, imports: str, seconds: float) -> None:
        self.imports, self.seconds = imports, seconds
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def check(self, exercise_id: str, source: str) -> Report:
        """Check one answer within the time limit."""
        exercise = registry.find_exercise(exercise_id)
        self._start()
        self._send({"exercise": exercise_id, "imports": self.imports, "answer": source})
        line = self._receive(self.seconds)
        if line:
            return Report.from_dict(json.loads(line))
        code = self._stop(kill=line is None)
        if line is None:
            message = f"Your answer was still running after {self.seconds:g} s; look for a loop that does not end."
            return plain(exercise, "timeout", message)
        message = f"Your answer ended its Python process (exit code {code}); a function returns its result instead."
        return plain(exercise, "error", message)

    def _start(self) -> None:
        if self.process is not None:
            return
        root = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        # -P: a learner's folder may hold a file called torch.py.
        command = [sys.executable, "-P", "-m", "gptlib.checks._runner"]
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed in _stop
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        )
        assert self.process.stdout is not None
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_pump, args=(self.process.stdout, self.lines), daemon=True).start()
        if self._receive(START_SECONDS) != "ready\n":
            self.errors.seek(0)
            reason = (self.errors.read().strip().splitlines() or ["it said nothing"])[-1]
            self._stop(kill=True)
            raise RuntimeError(f"the checking process did not start: {reason}; `gptlib doctor` looks for the cause")

    def _send(self, message: dict[str, str]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # when it has ended, the next _receive says so
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _receive(self, seconds: float) -> str | None:
        """Return the next line, an empty one when the process has ended, None when the time is over."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def _stop(self, *, kill: bool = False) -> int | None:
        process, self.process = self.process, None
        if process is None:
            return None
        if kill:
            process.kill()
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # an idle child ends by itself
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            self.errors.close()


def _pump(stream: IO[str], lines: "queue.Queue[str]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")
