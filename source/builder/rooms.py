"""Which files of the library a piece of code stands on, read from its imports without running anything."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def rooms(code: Iterable[str], library: Path) -> list[Path]:
    """List every file of `library` that the given code imports, directly or through other rooms.

    A room that is a folder counts whole, with its scripts and data; the bundled assets count as soon as a room on the
    way names the `assets` folder, and of recorded results those that the code itself asks for by `recorded("name")`.
    Imports for type checkers only do not count, and neither does the package's own `__init__.py`: it only forwards
    names, each of which is resolved to its room.

    Args:
        code: pieces of plain Python (no IPython magics); top-level `await` is fine.
        library: the package folder; its name is the import name.

    Returns:
        Sorted paths of files; empty when the code does not import the library.
    """
    trees = [_parse(piece) for piece in code]
    asked = (library / "measured" / f"{name}.json" for tree in trees for name in _recorded(tree))
    found: set[Path] = {path for path in asked if path.is_file()}
    waiting = [name for tree in trees for name in _imports(tree, library.name)]
    while waiting:
        for path in _files(waiting.pop(), library) - found:
            found.add(path)
            if path.suffix != ".py":
                continue
            tree = _parse(path.read_text(encoding="utf-8"))
            waiting += _imports(tree, library.name, path.relative_to(library.parent))
            if _names_assets(tree):
                found |= _contents(library / "assets")
    return sorted(found)


def digest(paths: Iterable[Path], root: Path) -> str:
    """Hash names and contents of files, the same on every system: line ends count as one character."""
    total = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def _parse(code: str) -> ast.Module:
    tree = compile(code, "<code>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree


def _imports(tree: ast.AST, package: str, path: Path | None = None) -> Iterator[str]:
    """Yield the dotted names that a tree imports from `package`; `path` (from the package's parent) resolves dots."""
    aliases = {package}
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package:
                    aliases.add(alias.asname or package)
                    yield alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level and path is not None:
                module = ".".join([*path.parts[: -node.level], *filter(None, [module])])
            if module.split(".")[0] == package:
                yield from (f"{module}.{alias.name}" for alias in node.names)
        # `import gptlib` followed by `gptlib.generate(...)`
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield f"{package}.{node.attr}"


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree in the order of the text, leaving out what stands under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _walk(node)


def _files(name: str, library: Path) -> set[Path]:
    _, _, room = name.partition(".")
    room = room.split(".")[0]
    if not (library / room).is_dir() and not (library / f"{room}.py").is_file():
        room = _lazy_names(library / "__init__.py").get(room, "")
    if not room:
        return set()
    module = library / f"{room}.py"
    if module.is_file():
        return {module}
    return {path for path in _contents(library / room) if room != "measured" or path.suffix == ".py"}


def _recorded(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "recorded" and isinstance(node.args[0].value, str):
                yield node.args[0].value


def _contents(folder: Path) -> set[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path for path in files if not any(map(_is_by_product, path.relative_to(folder).parts))}


def _is_by_product(part: str) -> bool:
    return part == "__pycache__" or part.startswith(".")


def _lazy_names(init: Path) -> dict[str, str]:
    """Read the table `_ROOMS = {room: [public names]}` of the package as {public name: room}."""
    for node in _parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_ROOMS":
            return {name: room for room, names in ast.literal_eval(node.value).items() for name in names}
    return {}


def _names_assets(tree: ast.AST) -> bool:
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return any("assets" in text.split("/") for text in strings)
