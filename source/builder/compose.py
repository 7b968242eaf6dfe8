"""A text in source/ becomes a notebook, not yet executed: the same bytes for the same text, every time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from builder.project import BuildError, Project
from builder.rooms import digest, rooms

FOLDERS = {"lesson": "notebooks", "exercise": "exercises", "solution": "solutions"}
# What a cell can be, and what its metadata must say beside the role.
ROLES: dict[str, dict[str, type]] = {
    "imports": {},
    "answer": {"exercise": str, "points": int},
    "check": {"exercise": str},
    "reveal": {},
}
BLANK = 'raise NotImplementedError("write your answer here")'
ANSWER = re.compile(r"^([ \t]*)# answer\n(.*?)\n[ \t]*# end answer$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"^[ \t]*# (end )?answer[ \t]*$", re.MULTILINE)
FORMAT = 1  # Raise it when a change of the builder itself must rebuild every notebook.


@dataclass(frozen=True)
class Target:
    """One notebook to be built: from which text, as what, and where it goes."""

    source: Path
    kind: str
    path: Path

    @property
    def runs(self) -> bool:
        """Whether the notebook is executed."""
        return self.kind != "exercise"


def targets(root: Path, names: Sequence[str] = ()) -> list[Target]:
    """List what source/ becomes, in the order of the course; `names` narrows it to these stems."""
    found = []
    for folder, kinds in {"lessons": ["lesson"], "exercises": ["exercise", "solution"]}.items():
        for source in sorted((root / "source" / folder).glob("*.py")):
            found += [Target(source, kind, root / FOLDERS[kind] / f"{source.stem}.ipynb") for kind in kinds]
    known = {target.source.stem for target in found}
    if unknown := sorted(set(names) - known):
        raise BuildError(f"source/ has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return [target for target in found if not names or target.source.stem in names]


def compose(target: Target, project: Project) -> NotebookNode:
    """Make the notebook of a target, without outputs.

    Its metadata say what it was made from: `source_hash` covers all that is written in it, and, where it is executed,
    `code_hash` covers what the outputs depend on, which is the code and the rooms of the library it stands on.
    """
    where = target.source.relative_to(project.root).as_posix()
    text = jupytext.reads(target.source.read_text(encoding="utf-8"), fmt="py:percent")
    cells = [_cell(cell, where, target, project) for cell in text.cells]
    names = [cell.metadata.name for cell in cells]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BuildError(f"{where}: more than one cell is called {twice[0]!r}; give each cell its own name")
    metadata = {"name": "setup", "gptlib": {"role": "setup"}, **_hidden()}
    setup = nbformat.v4.new_code_cell(project.setup(), id=_id(where, "setup"), metadata=metadata)
    hashes = _hashes(cells, setup, target, project)
    cells.insert(1 if cells and cells[0].cell_type == "markdown" else 0, setup)
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "gptlib": {"kind": target.kind, "source": where, **hashes},
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )


def blank(code: str) -> str:
    """Put one line that raises NotImplementedError in the place of each answer, as deeply indented."""
    return ANSWER.sub(rf"\1{BLANK}", code)


def answered(code: str) -> str:
    """Keep each answer and drop its marker lines."""
    return ANSWER.sub(r"\2", code)


def _cell(cell: NotebookNode, where: str, target: Target, project: Project) -> NotebookNode:
    name = cell.metadata.get("name")
    if not isinstance(name, str) or not name or name == "setup":
        raise BuildError(
            f"{where}: the cell that begins {cell.source[:40]!r} has no name of its own; "
            'write name="…" on its # %% line ("setup" is taken)'
        )
    here = f"{where}: cell {name!r}"
    metadata: dict[str, Any] = {"name": name}
    if "gptlib" in cell.metadata:
        metadata["gptlib"] = _role(dict(cell.metadata.gptlib), here)
    role = metadata.get("gptlib", {}).get("role")
    if role == "reveal":
        metadata |= _hidden()
    if cell.cell_type != "code":
        words = project.stamp(cell.source, target.path.relative_to(project.root).as_posix())
        return nbformat.v4.new_markdown_cell(words, id=_id(where, name), metadata=metadata)
    code = blank(cell.source) if target.kind == "exercise" else answered(cell.source)
    if MARKER.search(code):
        raise BuildError(
            f"{here}: an answer stands between the lines '# answer' and '# end answer', and one of them is alone"
        )
    if (code != cell.source) != (role == "answer"):
        raise BuildError(
            f"{here}: an answer between markers and the role 'answer' go together, and one of them is missing"
        )
    return nbformat.v4.new_code_cell(code, id=_id(where, name), metadata=metadata)


def _role(metadata: dict[str, Any], here: str) -> dict[str, Any]:
    role = metadata.get("role")
    if role not in ROLES:
        raise BuildError(f"{here}: the role {role!r} is unknown; the roles are {', '.join(ROLES)}")
    for key, kind in ROLES[role].items():
        if not isinstance(metadata.get(key), kind):
            raise BuildError(f"{here}: the role {role!r} needs {key!r}, of type {kind.__name__}")
    return metadata


def _hidden() -> dict[str, Any]:
    """Metadata that fold a cell's code away, in JupyterLab and in Colab."""
    return {"cellView": "form", "jupyter": {"source_hidden": True}}


def _id(where: str, name: str) -> str:
    return hashlib.sha256(f"{where}:{name}".encode()).hexdigest()[:12]


def _hashes(cells: list[NotebookNode], setup: NotebookNode, target: Target, project: Project) -> dict[str, str]:
    written = [[cell.cell_type, cell.id, cell.source, cell.metadata] for cell in [setup, *cells]]
    if not target.runs:
        return {"source_hash": _hash(FORMAT, written)}
    code = [cell for cell in cells if cell.cell_type == "code"]
    try:
        found = rooms([TransformerManager().transform_cell(cell.source) for cell in code], project.root / "gptlib")
    except SyntaxError as error:
        where = target.source.relative_to(project.root).as_posix()
        raise BuildError(f"{where}: {error.msg}, at {(error.text or '').strip()!r}") from error
    depends = _hash(FORMAT, digest(found, project.root), [[cell.id, cell.source] for cell in code])
    return {"code_hash": depends, "source_hash": _hash(depends, written)}


def _hash(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
