"""Build what changed; say what is stale."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from builder.compose import BLANK, FOLDERS, Target, compose, targets
from builder.project import ROOT, BuildError, Project
from builder.readme import stamped
from builder.running import blemishes, run

# Every rebuild of a notebook stays in the history for ever.
LARGE_BYTES, MOST_BYTES = 500_000, 2_000_000


def build(root: Path = ROOT, names: Sequence[str] = (), *, force: bool = False) -> list[str]:
    """Build and write what changed. What cannot be built stays as it was, and the others are built all the same.

    A change of words alone, in a notebook that is executed, keeps the outputs that are there.

    Args:
        root: the project's root.
        names: stems such as "03_attention"; all when empty.
        force: execute and write even what is fresh.

    Returns:
        One message for each notebook that could not be built.
    """
    project = Project.read(root)
    problems = []
    for target in targets(root, names):
        try:
            notebook, there = compose(target, project), _read(target.path)
            if there is not None and not force and not list(_differences(there, notebook)):
                continue
            if target.runs and not force and there is not None and _keep_outputs(there, notebook):
                done = "new words, same outputs"
            else:
                done = f"executed in {run(notebook):.0f} s" if target.runs else "written"
            text = nbformat.writes(notebook) + "\n"
            _check_size(target, text)
            _write(target.path, text)
            print(f"{_path(target.path, root)}: {done}", flush=True)
        except BuildError as error:
            problems.append(str(error))
    if (root / "README.md").is_file():
        _write(root / "README.md", stamped(project))
    return problems


def check(root: Path = ROOT, names: Sequence[str] = (), *, again: bool = False) -> list[str]:
    """Find what is stale, unfinished or broken among the built notebooks. Writes nothing.

    Args:
        root: the project's root.
        names: stems such as "03_attention"; all when empty.
        again: also execute every lesson and solution afresh, so that a number outside its tolerance is found.

    Returns:
        One message for each problem.
    """
    project = Project.read(root)
    problems = []
    for target in targets(root, names):
        try:
            notebook = compose(target, project)
            problems += [f"{_path(target.path, root)} {problem}" for problem in _problems(target, notebook)]
            if again and target.runs:
                run(notebook)
        except BuildError as error:
            problems.append(str(error))
    built = {path for folder in FOLDERS.values() for path in (root / folder).glob("*.ipynb")}
    for stray in sorted(built - {target.path for target in targets(root)}):
        problems.append(f"{_path(stray, root)} has no source; delete it")
    readme = root / "README.md"
    if readme.is_file() and readme.read_text(encoding="utf-8") != stamped(project):
        problems.append("README.md does not say what pyproject.toml and source/ say; run make notebooks")
    return problems


def _problems(target: Target, notebook: NotebookNode) -> Iterator[str]:
    there = _read(target.path)
    if there is None:
        yield "is not there, or is no notebook; run make notebooks"
        return
    for difference in _differences(there, notebook):
        yield f"is stale: {difference}; run make notebooks"
    for cell in there.cells:
        if cell.cell_type != "code":
            continue
        name, ran = cell.metadata.get("name"), cell.execution_count is not None
        if not target.runs and cell.metadata.get("gptlib", {}).get("role") == "answer" and BLANK not in cell.source:
            yield f"still holds an answer, in cell {name!r}"
        if ran != target.runs or (cell.outputs and not target.runs):
            yield f"has a cell, {name!r}, that {'was' if ran else 'was not'} executed"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"has a cell, {name!r}, that raised {output.ename}"
    yield from (f"is not fit to be kept: {blemish}" for blemish in blemishes(there))


def _differences(there: NotebookNode, notebook: NotebookNode) -> Iterator[str]:
    if there.metadata != notebook.metadata:
        yield "its source, or the library below it, has changed"
    elif [_written(cell) for cell in there.cells] != [_written(cell) for cell in notebook.cells]:
        yield "it was changed by hand"


def _written(cell: NotebookNode) -> tuple[object, ...]:
    return cell.cell_type, cell.id, cell.source, cell.metadata


def _keep_outputs(there: NotebookNode, notebook: NotebookNode) -> bool:
    """Carry the outputs over when they would come out the same; return whether that was so."""
    if there.metadata.get("gptlib", {}).get("code_hash") != notebook.metadata.gptlib.code_hash:
        return False
    ran = {cell.id: cell for cell in there.cells if cell.cell_type == "code"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.id not in ran or ran[cell.id].execution_count is None for cell in code):
        return False
    for cell in code:
        cell.outputs, cell.execution_count = ran[cell.id].outputs, ran[cell.id].execution_count
    return True


def _read(path: Path) -> NotebookNode | None:
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)
    except (FileNotFoundError, nbformat.reader.NotJSONError, UnicodeDecodeError):
        return None
    return notebook


def _check_size(target: Target, text: str) -> None:
    size = len(text.encode())
    if size > MOST_BYTES:
        raise BuildError(
            f"{target.path.name} ({target.kind}) has {size:,} bytes, and {MOST_BYTES:,} is the most; "
            "make its figures fewer or plainer"
        )
    if size > LARGE_BYTES:
        print(f"{target.path.name} ({target.kind}) has {size:,} bytes; keep it near {LARGE_BYTES:,}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and not when it says the same already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="\n")
    os.replace(new, path)


def _path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
