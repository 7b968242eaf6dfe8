"""A notebook is executed, always in the same surroundings, and its outputs are made fit to be kept for ever."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from builder.project import ROOT, BuildError

# The CPU, two threads and no network, whatever the machine has, so that the numbers in the words hold again.
SURROUNDINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "GPTLIB_BUILD": "1",
    "HF_HUB_OFFLINE": "1",
    "MKL_NUM_THREADS": "2",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # a waiting thread that spins is very slow when another process wants its core
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
}
SECONDS_PER_CELL = 600
WIDGET = "application/vnd.jupyter.widget-view+json"


def run(notebook: NotebookNode) -> float:
    """Execute a notebook in place, in an empty folder and a fresh kernel, and tidy its outputs.

    Returns:
        The seconds it took.

    Raises:
        BuildError: a cell raised, took longer than SECONDS_PER_CELL, or shows something that only this machine has.
    """
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        force_raise_errors=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    start = time.monotonic()
    metadata = nbformat.from_dict(json.loads(json.dumps(notebook.metadata)))
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as settings:
        client.resources = {"metadata": {"path": empty}}
        try:
            client.execute(env={**os.environ, **SURROUNDINGS, "IPYTHONDIR": settings})
        except (CellControlSignal, CellTimeoutError, DeadKernelError) as error:
            raise BuildError(_failure(notebook, error)) from error
    seconds = time.monotonic() - start
    notebook.metadata = metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in _merged(cell.outputs) if _tidied(output)]
            cell.metadata.pop("execution", None)
    if found := list(blemishes(notebook)):
        raise BuildError(found[0])
    return seconds


def blemishes(notebook: NotebookNode) -> Iterator[str]:
    """Name every cell whose output shows a path of this machine or a memory address, which say nothing elsewhere."""
    where = notebook.metadata.gptlib.source
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = {kind: content for kind, content in output.get("data", {}).items() if kind != "image/png"}
            shown = json.dumps({**output, "data": data}, ensure_ascii=False)
            cell_name = f"{where}: cell {cell.metadata.name!r}"
            if path := next((path for path in _own_paths() if path in shown), None):
                yield f"{cell_name} shows a path of this machine, {path}; show it relative, or not at all"
            if address := re.search(r"\bat (0x[0-9a-fA-F]{6,})", shown):
                yield f"{cell_name} shows the memory address {address[1]}; show something readable, or nothing"


def _own_paths() -> list[str]:
    paths = {ROOT, Path(sys.prefix), Path.home(), Path(tempfile.gettempdir())}
    return [f"{path.as_posix()}/" for path in sorted(paths) if len(path.parts) > 1]


def _failure(notebook: NotebookNode, error: Exception) -> str:
    where = notebook.metadata.gptlib.source
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
                raised = f"raised {output.ename}: {output.evalue}"
                late = isinstance(error, CellTimeoutError)
                happened = f"took longer than {SECONDS_PER_CELL} s" if late else raised
                return f"{where}: cell {cell.metadata.name!r} {happened}\n{trace}"
    return f"{where}: {error}"


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join what a cell printed in several pieces."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _tidied(output: NotebookNode) -> bool:
    """Take out what belongs to the moment or to a running kernel; say whether something to look at is left."""
    if output.output_type == "stream":
        # A line with carriage returns is a progress bar.
        lines = output.text.split("\n")
        output.text = "\n".join(line for line in lines if "\r" not in line)
        return bool(output.text.strip())
    if WIDGET in output.get("data", {}):
        # A live view comes with its picture; a bare control has nothing to show without a kernel.
        del output.data[WIDGET]
        return any(kind != "text/plain" for kind in output.data)
    return True
