"""Take the answers out of a submitted notebook: only marked cells, by the exercise that they name.

The notebook is somebody else's: its size is limited before it is read, no link is followed, and nothing in it is
believed but the text of the answers. Points, outputs and other cells count for nothing.
"""

import ast
import json
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptlib.checks.exercise import Exercise

MAX_BYTES = 16 << 20  # of a notebook
MAX_ANSWER = 100_000  # characters
MAX_CELLS = 5_000
_ALWAYS = ("import math", "import torch", "import torch.nn.functional as F")


class UnreadableError(ValueError):
    """A submission that is no notebook, or none that may be read; the words say why."""


@dataclass
class Answers:
    """What was found in a notebook."""

    lesson: str  # "" when nothing in the notebook tells
    sources: dict[str, str] = field(default_factory=dict)  # by exercise id
    imports: list[str] = field(default_factory=list)  # statements
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by exercise id; "" is the notebook


def find_notebooks(paths: Sequence[Path]) -> list[Path]:
    """Return the notebooks in files and folders, at any depth, in order; hidden folders and links are not entered.

    Raises:
        FileNotFoundError: a path is not there.
        ValueError: nothing ends in .ipynb.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; give notebooks, or folders with notebooks")
        if path.is_dir():
            for folder, inner, files in os.walk(path):
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                found += [Path(folder, name) for name in sorted(files) if name.endswith(".ipynb") and name[0] != "."]
        else:
            found.append(path)
    every = list(dict.fromkeys(found))
    if not every:
        raise ValueError(f"there is no .ipynb file in {', '.join(map(str, paths))}; give notebooks, or their folders")
    return every


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a submission.

    Raises:
        UnreadableError: it is a link, no plain file, too large, or cannot be opened.
    """
    try:
        # Without waiting: a named pipe would never open.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        link = path.is_symlink()
        raise UnreadableError("it is a symbolic link" if link else f"it cannot be opened ({error.strerror})") from error
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise UnreadableError("it is no plain file")
        if about.st_size > MAX_BYTES:
            raise UnreadableError(
                f"it has {about.st_size:,} bytes, and {MAX_BYTES:,} are read at most; clear its outputs"
            )
        return file.read(MAX_BYTES + 1)[:MAX_BYTES]


def extract(data: bytes, exercises: Mapping[str, Exercise]) -> Answers:
    """Take the answers out of a notebook.

    Args:
        data: the file.
        exercises: all that are known, by id.

    Returns:
        The answers to the set that most of the marked cells belong to, and notes on what is not as it was handed out.

    Raises:
        UnreadableError: it is no notebook.
    """
    cells = _cells(data)
    answers = Answers(_lesson(cells, exercises))
    answers.imports = list(dict.fromkeys([*_ALWAYS, *_imports(cells)]))
    asked = {each.id: each for each in exercises.values() if each.lesson == answers.lesson}
    marked: dict[str, list[_Cell]] = defaultdict(list)
    loose: list[_Cell] = []
    for cell in cells:
        if cell.role == "answer" and cell.exercise in asked:
            marked[cell.exercise].append(cell)
        elif cell.role == "answer" and cell.exercise in exercises:
            answers.notes[""].append(f"A cell answers {cell.exercise}, which belongs to another set; it was left out.")
        else:
            loose.append(cell)
            if cell.role == "answer":
                answers.notes[""].append(f"A cell is marked with {cell.exercise!r:.60}, and there is no such exercise.")
    for exercise in asked.values():
        _take(exercise, marked[exercise.id], loose, answers)
    order = [cell.exercise for cell in cells if cell.role == "answer" and cell.exercise in asked]
    if list(dict.fromkeys(order)) != [name for name in asked if name in order]:
        answers.notes[""].append("The answers stand in another order than they were handed out in.")
    return answers


@dataclass(frozen=True)
class _Cell:
    is_code: bool
    role: str
    exercise: str
    points: Any
    source: str


def _take(exercise: Exercise, marked: list[_Cell], loose: list[_Cell], answers: Answers) -> None:
    notes = answers.notes[exercise.id]
    code = [cell for cell in marked if cell.is_code]
    if len(code) < len(marked):
        notes.append("A cell marked as the answer is no code cell; it was left out.")
    if len(code) > 1:
        notes.append(f"There are {len(code)} answer cells for this exercise; the last one counts.")
    if not code:
        code = [cell for cell in loose if cell.is_code and exercise.function in _defined(cell.source)]
        if code:
            notes.append(f"The answer cell has lost its mark; one that defines {exercise.function} was taken for it.")
        else:
            notes.append("The answer cell is missing.")
    if code:
        if code[-1].points not in (None, exercise.points):
            notes.append("The notebook names other points than the exercise has; the exercise's count.")
        answers.sources[exercise.id] = code[-1].source


def _cells(data: bytes) -> list[_Cell]:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        cells = notebook["cells"]
        if not isinstance(cells, list):
            raise TypeError("cells are no list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableError("it is no Jupyter notebook (JSON with cells)") from error
    if len(cells) > MAX_CELLS:
        raise UnreadableError(f"it has {len(cells):,} cells, and {MAX_CELLS:,} are read at most")
    return [_cell(cell) for cell in cells if isinstance(cell, dict)]


def _cell(cell: dict[str, Any]) -> _Cell:
    metadata = cell.get("metadata")
    mark = metadata.get("gptlib") if isinstance(metadata, dict) else None
    mark = mark if isinstance(mark, dict) else {}
    role, exercise = (mark.get(name) if isinstance(mark.get(name), str) else "" for name in ("role", "exercise"))
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str)).encode("utf-8", "replace").decode()
    # Magics are emptied and not taken out, so that line numbers stay.
    text = "\n".join("" if line.startswith(("%", "!")) else line for line in text.splitlines())
    points = mark.get("points")
    plain = points if isinstance(points, int | float) else None if points is None else str(type(points))
    return _Cell(cell.get("cell_type") == "code", str(role), str(exercise), plain, text)


def _lesson(cells: list[_Cell], exercises: Mapping[str, Exercise]) -> str:
    """Return the lesson whose exercises a notebook answers: by marks, else by its checks, else by function names."""
    checks = [name for cell in cells for name in re.findall(r"""check\(\s*["']([\w.]{1,80})["']""", cell.source)]
    functions = {name for cell in cells if cell.is_code for name in _defined(cell.source)}
    for ids in (
        [cell.exercise for cell in cells if cell.role == "answer"],
        [cell.exercise for cell in cells if cell.role == "check"] + checks,
        [each.id for each in exercises.values() if each.function in functions],
    ):
        lessons = Counter(exercises[name].lesson for name in dict.fromkeys(ids) if name in exercises)
        if lessons:
            return lessons.most_common(1)[0][0]
    return ""


def _imports(cells: list[_Cell]) -> Iterator[str]:
    """Yield the import statements of the import cell, one by one; the library itself is not for answers."""
    for cell in cells:
        if cell.role == "imports" and cell.is_code:
            for node in _tree(cell.source):
                if isinstance(node, ast.Import | ast.ImportFrom) and not _library(node):
                    yield ast.unparse(node)


def uses_library(source: str) -> bool:
    """Say whether code imports more of this library than `check`."""
    return any(name != "gptlib.check" for top in _tree(source) for node in ast.walk(top) for name in _library(node))


def _library(node: ast.AST) -> list[str]:
    """Return what an import statement takes from this library, with full names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name for name in names if name.split(".")[0] == "gptlib"]


def _defined(source: str) -> set[str]:
    return {node.name for node in _tree(source) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def _tree(source: str) -> list[ast.stmt]:
    """Return the statements of a piece of code; none when it cannot be parsed."""
    if len(source) > MAX_ANSWER:
        return []
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
