"""The live views of a lesson, taken out of a kernel so that a page without one can show them.

A built lesson keeps a view's picture and not its data. The cell that makes the view is run again here, after those
cells alone that it stands on, and what the kernel would have sent to the browser is kept.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import symtable
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from gptlib import widgets

ROOT = Path(__file__).resolve().parents[2]
LIVE = {name for name in widgets.__all__ if name[0].isupper()}  # bertviz_view shows itself
OWN = {"layout", "step", "tabbable", "tooltip"}  # of the kernel's side, and nothing for `mount`


@dataclass(frozen=True)
class LiveView:
    """A view as `mount` takes it: the name of its class, and its state with binary values as base64."""

    kind: str
    state: dict[str, Any]


def live_views(notebook: nbformat.NotebookNode, cache: Path) -> dict[int, LiveView]:
    """From the index of each cell that ends with a live view to that view.

    What was found is kept in the folder `cache`, under a name that changes with the cells and with the library.
    """
    wanted = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and _shows_a_view(cell.source)]
    if not wanted:
        return {}
    chosen = sorted({i for each in wanted for i in needed(notebook.cells, each)})
    file = cache / f"{_digest([(i, notebook.cells[i].source) for i in chosen], wanted)}.json"
    if not file.exists():
        found = _run(notebook, chosen, wanted)
        cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({i: [view.kind, view.state] for i, view in found.items()}), encoding="utf-8")
    kept = json.loads(file.read_text(encoding="utf-8"))
    return {int(i): LiveView(kind, state) for i, (kind, state) in kept.items()}


def needed(cells: list[nbformat.NotebookNode], index: int) -> list[int]:
    """Indices of the code cells that bind a name which the cell at `index` uses, directly or through one of them."""
    used, _, _ = names(cells[index].source)
    chosen = [index]
    for i in reversed(range(index)):
        if cells[i].cell_type != "code" or cells[i].metadata.get("gptlib", {}).get("role") == "setup":
            continue
        reads, binds, anew = names(cells[i].source)
        if binds & used:
            chosen.append(i)
            used = (used - anew) | reads
    return chosen[::-1]


def names(code: str) -> tuple[set[str], set[str], set[str]]:
    """The names that a cell reads, those that it binds or writes into, and those of them that it makes anew.

    What a name of the last kind was before the cell does not matter: it is bound whatever happens.
    """
    text = TransformerManager().transform_cell(code)
    tree, table = ast.parse(text), symtable.symtable(text, "cell", "exec")
    reads = set(_global_reads(table))
    binds = {each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            inner: ast.AST = node
            while isinstance(inner, ast.Subscript | ast.Attribute):
                inner = inner.value
            binds |= {inner.id} if isinstance(inner, ast.Name) else set()
    anew = set[str]()
    for statement in tree.body:
        for target in statement.targets if isinstance(statement, ast.Assign) else []:
            anew |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name) and each.id not in reads}
        if isinstance(statement, ast.Import | ast.ImportFrom):
            anew |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return reads, binds, anew


def _global_reads(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global_reads(inner)


def _shows_a_view(code: str) -> bool:
    body = ast.parse(TransformerManager().transform_cell(code)).body
    calls = [node.func for part in body for node in ast.walk(part) if isinstance(node, ast.Call)]
    called = {node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in calls}
    called |= {node.value.id for node in calls if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return bool(called & LIVE)


def _run(notebook: nbformat.NotebookNode, chosen: list[int], wanted: list[int]) -> dict[int, LiveView]:
    part = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(notebook.cells[i].source) for i in chosen])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            part, timeout=900, kernel_name="python3", store_widget_state=True, resources={"metadata": {"path": folder}}
        )
        client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    states = part.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    shown = "application/vnd.jupyter.widget-view+json"
    found = {}
    for i, cell in zip(chosen, part.cells, strict=True):
        for output in cell.outputs if i in wanted else []:
            if shown in output.get("data", {}):
                found[i] = _view(states[output.data[shown]["model_id"]])
    return found


def _view(model: dict[str, Any]) -> LiveView:
    state = {name: value for name, value in model["state"].items() if name[0] != "_" and name not in OWN}
    for buffer in model.get("buffers", []):
        place: Any = state
        *outer, last = buffer["path"]
        for step in outer:
            place = place[step]
        data = buffer["data"] if buffer["encoding"] == "base64" else base64.b64encode(bytes.fromhex(buffer["data"]))
        place[last] = {"base64": data if isinstance(data, str) else data.decode()}
    return LiveView(model["state"]["_anywidget_id"].split(".")[-1], state)


def _digest(cells: list[tuple[int, str]], wanted: list[int]) -> str:
    total = hashlib.sha256(json.dumps([cells, wanted]).encode())
    for path in _library():
        total.update(path.read_bytes())
    return total.hexdigest()[:20]


def _library() -> Iterator[Path]:
    folder = ROOT / "gptlib"
    yield from sorted(
        path for suffix in ("py", "js", "css", "json", "safetensors") for path in folder.rglob(f"*.{suffix}")
    )
