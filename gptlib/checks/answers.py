"""The learner's own object: where it is, whether it is theirs, and what can be read from its source."""

import ast
import builtins
import dis
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from gptlib.checks.exercise import Exercise

SUPPLIED = ("math", "torch", "F")  # what the notebook's first cell imports, and a grader supplies


def find(name: str, *spaces: Mapping[str, Any]) -> object | None:
    """Return the object of this name from the first namespace that has it, None when none has."""
    return next((space[name] for space in spaces if name in space), None)


def borrowed(answer: object) -> str:
    """Return the name of the library's own object behind an answer, or an empty string when there is none.

    Looks through aliases, `functools.partial`, wrappers and bound methods, and at every name that the answer's code, or
    a helper of it, loads: `lambda T: gptlib.causal_mask(T)` is the library's function too.
    """
    return next(_library_names(answer, set()), "")


def advice(exercise: Exercise, answer: object, source: str | None = None) -> list[str]:
    """Read in an answer's syntax tree what practice lets pass and a grader would not.

    Args:
        exercise: names the calls.
        answer: the learner's function.
        source: its text; looked up when None.

    Returns:
        Sentences; empty when there is nothing to say.
    """
    lines = [
        f"Your answer uses {name}, {exercise.forbidden[name]}; practice takes it, an instructor sees a flag."
        for name in flags(exercise, source if source is not None else _source(answer))
    ]
    missing = _elsewhere(answer)
    if missing:
        lines.append(
            f"Your answer uses {', '.join(missing)} from outside its cell; a grader runs the cell alone, with "
            f"{', '.join(SUPPLIED)} imported."
        )
    return lines


def flags(exercise: Exercise, source: str) -> list[str]:
    """Return which of the calls that would be the task itself stand in an answer's syntax tree.

    Found are attributes (`F.layer_norm`), imported names, also under another name, and names in quotes, as `getattr`
    takes them. A variable that merely has the name of such a call is none.

    Args:
        exercise: names the calls.
        source: the text of the answer; one that does not parse has no flags.

    Returns:
        Their names as the exercise spells them.
    """
    used = _spelled(source)
    return [name for name in exercise.forbidden if name.rpartition(".")[2] in used]


def _library_names(value: object, seen: set[int]) -> Iterator[str]:
    if id(value) in seen:
        return
    seen.add(id(value))
    name = _library_name(value)
    if name:
        yield name
        return
    for attribute in ("func", "__wrapped__", "__func__"):  # of a partial, a decorated function, a bound method
        if attribute != "func" or isinstance(value, functools.partial):
            yield from _library_names(getattr(value, attribute, None), seen)
    if isinstance(value, FunctionType):
        yield from (module for module in _imports(value.__code__) if module.split(".")[0] == "gptlib")
        for loaded in _loaded(value).values():
            # What torch or numpy does inside is not the answer's doing; helpers written beside it are.
            beside = isinstance(loaded, FunctionType) and loaded.__globals__ is value.__globals__
            if beside or isinstance(loaded, functools.partial) or _library_name(loaded):
                yield from _library_names(loaded, seen)


def _library_name(value: object) -> str:
    """Return the full name of an object that the library defines, an empty string for any other."""
    if isinstance(value, ModuleType):
        home, name = value.__name__, value.__name__
    else:
        home = str(getattr(value, "__module__", None) or type(value).__module__)
        name = f"{home}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return name if home.split(".")[0] == "gptlib" else ""


def _loaded(function: FunctionType) -> dict[str, Any]:
    """Return the objects behind the global names, closure cells and defaults of a function."""
    names = {name for code in _codes(function.__code__) for name in _globals_of(code)}
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a name that is bound later
            continue
    return found | {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals_of(code: CodeType) -> set[str]:
    return {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _imports(code: CodeType) -> list[str]:
    steps = [step for part in _codes(code) for step in dis.get_instructions(part)]
    return [str(step.argval) for step in steps if step.opname == "IMPORT_NAME"]


def _elsewhere(answer: object) -> list[str]:
    """Return the global names an answer needs that its own cell does not define; none where the cell cannot be read."""
    if not isinstance(answer, FunctionType):
        return []
    cell = "".join(linecache.getlines(answer.__code__.co_filename))
    needed = {name for code in _codes(answer.__code__) for name in _globals_of(code)} & answer.__globals__.keys()
    return sorted(needed - set(SUPPLIED) - vars(builtins).keys() - _bound(cell)) if cell else []


def _bound(source: str) -> set[str]:
    """Return the names that a cell binds, at any depth."""
    nodes = list(_nodes(source))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return names | {alias.asname or alias.name.partition(".")[0] for alias in imported}


def _spelled(source: str) -> set[str]:
    """Return every attribute, imported name and text in a piece of code."""
    nodes = list(_nodes(source))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return names | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def _nodes(source: str) -> Iterator[ast.AST]:
    """Walk the syntax tree of a piece of code; one that does not parse has none."""
    try:
        return ast.walk(ast.parse(textwrap.dedent(source)))
    except (SyntaxError, ValueError):
        return iter(())


def _source(answer: object) -> str:
    try:
        function: Callable[..., Any] = inspect.unwrap(answer) if callable(answer) else str
        return inspect.getsource(function)
    except (OSError, TypeError, ValueError):
        return ""
