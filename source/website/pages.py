"""Notebooks and documents as Sphinx reads them: pictures as files with their words, views live, answers folded away."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from builder.project import Project
from website.views import LiveView, live_views

FOLDERS = {"notebooks": "Lessons", "exercises": "Exercises", "solutions": "Solutions"}
DOCUMENTS = (
    *("CONTRIBUTING.md", "docs/grading.md", "classroom/README.md", "docs/many-gpus.md", "docs/benchmarks.md"),
    "gptlib/assets/tales/MODEL_CARD.md",
)
# What the API pages list: the rooms that a learner imports from.
ROOMS = (
    *("gptlib", "gptlib.attention", "gptlib.layers", "gptlib.positions", "gptlib.model", "gptlib.config"),
    *("gptlib.generation", "gptlib.training", "gptlib.tokenizers", "gptlib.corpora", "gptlib.tales"),
    *("gptlib.interpret", "gptlib.widgets", "gptlib.plots", "gptlib.scaling", "gptlib.checks", "gptlib.pretrained"),
)


def write_all(project: Project, out: Path, only: str = "") -> None:
    """Write every page's source below `out`; `only` keeps the notebooks whose names begin so."""
    static = out / "_static"
    static.mkdir(parents=True, exist_ok=True)
    titles: dict[str, list[str]] = {}
    chosen = {folder: sorted((project.root / folder).glob(f"{only}*.ipynb")) for folder in FOLDERS}
    pages = {f"{folder}/{path.name}" for folder, paths in chosen.items() for path in paths}
    pages |= {name for name in DOCUMENTS if (project.root / name).exists()}
    for folder, paths in chosen.items():
        for path in paths:
            notebook = nbformat.read(path, 4)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = _links(cell.source, project, Path(folder), pages)
                    if folder == "solutions":  # else two pages have one title
                        cell.source = re.sub(r"\A# Exercises", "# Solutions", cell.source)
            views = live_views(notebook, project.root / "build/site-views") if folder == "notebooks" else {}
            _save(out / folder / path.name, json.dumps(_page(notebook, views, static, folder == "solutions")))
            titles.setdefault(folder, []).append(f"{folder}/{path.stem}")
    for name in DOCUMENTS:
        if (project.root / name).exists():
            text = (project.root / name).read_text(encoding="utf-8")
            _save(out / name, _links(text, project, Path(name).parent, pages))
            for picture in re.findall(r"!\[[^\]]*\]\(([\w./-]+\.png)\)", text):
                _copy(project.root / Path(name).parent / picture, out / Path(name).parent / picture)
    _save(out / "index.md", _home(project, titles, pages, out))
    seen: dict[int, str] = {}
    for room in reversed(ROOMS):  # the top last: it hands on what the rooms below it have
        _save(out / "api" / f"{room}.md", _api(room, seen))
    _save(out / "api/index.md", "# The library\n\n```{toctree}\n" + "\n".join(ROOMS) + "\n```\n")


def _home(project: Project, titles: dict[str, list[str]], pages: set[str], out: Path) -> str:
    text = (project.root / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\(([\w./-]+)\)", text):
        _copy(project.root / picture, out / picture)
    parts = [_links(text, project, Path(), pages)]
    for folder, caption in FOLDERS.items():
        parts.append(_tree(caption, titles.get(folder, [])))
    documents = [name.removesuffix(".md") for name in DOCUMENTS if (out / name).exists()]
    return "\n\n".join([*parts, _tree("Reference", ["api/index", *documents])]) + "\n"


def _tree(caption: str, pages: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])


def _links(text: str, project: Project, folder: Path, pages: set[str]) -> str:
    """A link from a text in `folder` to a file that is none of the `pages` leads to the repository."""

    def led(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        if "://" in target or target.startswith("#"):
            return found[0]
        path = (project.root / folder / target.split("#")[0]).resolve()
        if not path.is_relative_to(project.root) or not path.exists():
            return found[0]
        name = path.relative_to(project.root).as_posix()
        return found[0] if name in pages else f"[{words}]({project.repository}/blob/{project.tag}/{name})"

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)", led, text)


def _page(
    notebook: nbformat.NotebookNode, views: dict[int, LiveView], static: Path, solution: bool
) -> nbformat.NotebookNode:
    cells = []
    for i, cell in enumerate(notebook.cells):
        role = cell.metadata.get("gptlib", {}).get("role")
        if role == "setup":
            continue
        tags = cell.metadata.setdefault("tags", [])
        if cell.metadata.get("jupyter", {}).get("source_hidden") or (solution and role == "answer"):
            tags.append("hide-input")
        for output in cell.get("outputs", []):
            _place(output, views.get(i), static)
        if i in views and not any("gl-live" in _html(output) for output in cell.outputs):
            still = nbformat.v4.new_output("display_data", {"text/html": _live(views[i], "", static)})
            cell.outputs.append(still)
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _place(output: nbformat.NotebookNode, view: LiveView | None, static: Path) -> None:
    data = output.get("data", {})
    if "image/png" not in data:
        return
    picture = base64.b64decode(data.pop("image/png"))
    name = f"{hashlib.sha256(picture).hexdigest()[:16]}.png"
    (static / "pictures").mkdir(exist_ok=True)
    (static / "pictures" / name).write_bytes(picture)
    words = html.escape(output.metadata.pop("image/png", {}).get("alt", ""), quote=True)
    shown = f'<img class="gl-picture" src="../_static/pictures/{name}" alt="{words}" loading="lazy">'
    data["text/html"] = shown if view is None else _live(view, shown, static)


def _html(output: nbformat.NotebookNode) -> str:
    return str(output.get("data", {}).get("text/html", ""))


def _live(view: LiveView, still: str, static: Path) -> str:
    """The picture, and where its module, its style and its data are; live.js puts the view in its place."""
    from gptlib import widgets

    kind = getattr(widgets, view.kind)
    data = json.dumps(view.state, separators=(",", ":"))
    name = f"{view.kind}-{hashlib.sha256(data.encode()).hexdigest()[:12]}"
    _save(static / f"live/{name}.json", data)
    _save(static / f"live/{view.kind}.js", str(kind._esm))
    _save(static / f"live/{view.kind}.css", str(kind._css))
    return f'<div class="gl-live" data-view="{view.kind}" data-state="{name}">{still}</div>'


def _api(room: str, seen: dict[int, str]) -> str:
    """The page of a room; `seen` knows under which name a thing was described already, and learns the new ones."""
    from importlib import import_module

    module = import_module(room)
    lines = [f"# `{room}`", "", "```{eval-rst}", f".. automodule:: {room}", "   :no-members:", ""]
    handed_on = []
    for name in _public(room):
        thing = getattr(module, name)
        if not callable(thing):
            continue
        if id(thing) in seen:
            handed_on.append(seen[id(thing)])
            continue
        seen[id(thing)] = f"{room}.{name}"
        if isinstance(thing, type):  # matplotlib gives each figure class a `set` of its own
            lines += [f".. autoclass:: {room}.{name}", "   :members:", "   :exclude-members: set", ""]
        else:
            lines += [f".. autofunction:: {room}.{name}", ""]
    if handed_on:
        lines += ["From here as well:", "", *(f"- :py:obj:`{name}`" for name in handed_on), ""]
    return "\n".join([*lines, "```", ""])


def _public(room: str) -> Iterator[str]:
    """What a room offers: what it names as its own, else what it defines."""
    from importlib import import_module

    module = import_module(room)
    listed = getattr(module, "__all__", None) or [*getattr(module, "_HOME", {})]
    if listed:
        yield from sorted(listed)
        return
    for name, thing in vars(module).items():
        if name[0] != "_" and getattr(thing, "__module__", None) == room:
            yield name


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
