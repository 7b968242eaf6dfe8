"""The process in which `check_notebook` runs answers: a JSON request a line in, a report a line out."""

import json
import linecache
import os
import traceback
from typing import Any

from gptlib.checks.exercise import Exercise
from gptlib.checks.judge import plain
from gptlib.checks.practice import review
from gptlib.checks.registry import find_exercise
from gptlib.checks.report import Report


def main() -> None:
    """Serve requests until the input ends."""
    # Answers may print and may ask for input; neither may meet the requests and reports.
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    print("ready", file=replies, flush=True)
    for line in requests:
        request = json.loads(line)
        report = review_cell(find_exercise(request["exercise"]), request["imports"], request["answer"])
        print(json.dumps(report.as_dict()), file=replies, flush=True)


def review_cell(exercise: Exercise, imports: str, source: str) -> Report:
    """Run an answer cell after the imports, in a fresh namespace, and check what it defines."""
    space: dict[str, Any] = {"__name__": "answer"}
    for file, text, whose in (("<imports>", imports, "The import cell"), (f"<{exercise.id}>", source, "Your cell")):
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        try:
            exec(compile(text, file, "exec"), space)
        except SyntaxError as error:
            place = f"line {error.lineno}: {(error.text or '').strip()}"
            return plain(exercise, "error", f"{whose} is no valid Python, {error.msg} in {place}")
        except NotImplementedError:
            return review(exercise, None)
        except (Exception, SystemExit) as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            place = f" in line {lines[-1]}" if lines else ""
            return plain(exercise, "error", f"{whose} raised {type(error).__name__}{place}: {error}")
    return review(exercise, space.get(exercise.function), source=source)


if __name__ == "__main__":
    main()
