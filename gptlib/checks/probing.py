"""What a probe is made of: it calls an answer and brings back named values, never a verdict.

Nothing here knows a right answer, so this module may stand inside a sandbox beside the code that it calls. What follows
from the values ("an input was changed", "the future leaks") is decided elsewhere, from the values.

A value is an array, or `Data`: a text, a list of token ids, a dict of counts, written as JSON. Both cross a sandbox's
border as they are.

Names tell what a value is. A name without a dot is a result. `after.q` is the input q as the answer left it,
`gradient.q` a gradient, `future.output` the result `output` when what comes later was changed. `draws.x` holds numbers
drawn at random, a draw a row: it is compared by its distribution.
"""

import copy
import functools
import json
import linecache
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

Answer = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Hidden:
    """A function among the inputs that the answer may call and is not to look into.

    A grader computes it outside the sandbox and hands in a stand-in, which can be differentiated once.
    """

    function: Callable[[Mapping[str, Any], torch.Tensor], torch.Tensor]  # from the parameters and x
    parameters: Mapping[str, Any]
    most: int = 4096  # numbers in x that a grader computes with

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Compute it here, as practice does."""
        return self.function(self.parameters, x)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hidden) or self.parameters.keys() != other.parameters.keys():
            return False
        pairs = [(mine, other.parameters[name]) for name, mine in self.parameters.items()]
        same = (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)
        return self.function is other.function and all(same)

    __hash__ = None  # type: ignore[assignment]


# A tensor, what JSON can say (a pair of ids is a list of two), or a hidden function.
Given = Mapping[str, torch.Tensor | int | float | str | list[Any] | Hidden | None]


@dataclass(frozen=True)
class Data:
    """A result that is no array: its kind ("text", "ids" or "counts") and the value, written as JSON.

    Counts are a sorted list of key and count. Equal values have equal JSON, so that nothing of the learner's is asked
    whether it is equal.
    """

    kind: str
    json: str


@dataclass(frozen=True)
class Odd:
    """Something that is not the value it should be, in words: "a list", "None", "no gradient"."""

    kind: str


@dataclass(frozen=True)
class Raised:
    """An exception, and the last line of the learner's own code that it came through."""

    type: str
    message: str
    line: int | None = None
    code: str = ""


Value = torch.Tensor | Data | Odd
Arrays = dict[str, Value]
Outcome = Arrays | Raised
Probe = Callable[[Answer, Given], Arrays]


def run(probe: Probe, answer: Answer, given: Given) -> Outcome:
    """Probe an answer on one input; an exception is an outcome like any other.

    Random numbers start from the same seed at each call, and the caller's random state is left as it was.

    Args:
        probe: calls the answer and returns named arrays.
        answer: the learner's function.
        given: the input, by name.

    Returns:
        The named arrays, or what was raised.
    """
    with one_thread(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        try:
            return probe(answer, given)
        except (Exception, SystemExit) as error:
            line, code = _place(answer, error.__traceback__)
            return Raised(type(error).__name__, str(error), line, code)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread for a while: sharing out tensors as small as these costs time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def tensor(value: object) -> Value:
    """Return a detached copy of a dense real tensor, or say what the value is instead."""
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.is_meta or value.layout != torch.strided:
            return Odd(f"a {'complex' if value.is_complex() else 'meta' if value.is_meta else 'sparse'} tensor")
        return value.detach().cpu().clone()
    return _odd(value)


def tensors(value: object, *names: str) -> Arrays:
    """Name the parts of a tuple of tensors; a value that is no tuple of this length is odd under every name."""
    return parts(value, tensor, *names)


def parts(value: object, read: Callable[[object], Value], *names: str) -> Arrays:
    """Name the parts of a tuple, each read by `tensor`, `ids` or another of these functions."""
    if isinstance(value, tuple | list) and len(value) == len(names):
        return {name: read(part) for name, part in zip(names, value, strict=True)}
    odd = Odd(f"one tensor of shape {tuple(value.shape)}") if isinstance(value, torch.Tensor) else _odd(value)
    return dict.fromkeys(names, odd)


def number(value: object) -> Value:
    """Return one number as a float64 tensor of no dimensions; Python's, NumPy's and PyTorch's own are all taken."""
    if type(value).__module__ in ("torch", "numpy") and getattr(value, "shape", None) == ():
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(value, dtype=torch.float64)
    return _odd(value)


def whole(value: object) -> Value:
    """Return one whole number as an int64 tensor of no dimensions, to be met exactly."""
    found = _integer(value)
    return _odd(value) if found is None else torch.tensor(found)


def text(value: object) -> Value:
    """Return a text."""
    return Data("text", json.dumps(str(value))) if isinstance(value, str) else _odd(value)


def ids(value: object) -> Value:
    """Return whole numbers in a row: a list or a tuple of ints, or a tensor or array of one dimension."""
    numbers = _whole(value)
    return _odd(value) if numbers is None else Data("ids", json.dumps(numbers))


def counts(value: object) -> Value:
    """Return a dict (or `Counter`) from ids, pairs of ids or texts to whole numbers; keys that count 0 are left out."""
    if not isinstance(value, dict):
        return _odd(value)
    rows: list[list[Any]] = []
    for key, count in value.items():
        number = _integer(count)
        if number is None:
            return Odd(f"a dict whose values are {type(count).__name__} and not int")
        if number:
            written = str(key) if isinstance(key, str) else _whole(key) if isinstance(key, tuple) else _integer(key)
            if written is None:
                return Odd(f"a dict whose keys are {type(key).__name__}")
            rows.append([written, number])
    return Data("counts", json.dumps(sorted(rows, key=repr)))


def truth(value: object) -> Value:
    """Return a yes or no as a tensor of no dimensions; Python's, NumPy's and PyTorch's own are all taken."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return torch.tensor(bool(value))
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.numel() == 1:
        return value.detach().cpu().reshape(())
    return _odd(value)


def copies(given: Given) -> dict[str, Any]:
    """Return the input with every tensor and list copied, so that an answer cannot reach the original."""
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in given.items()
    }


def afterwards(inputs: Mapping[str, Any]) -> Arrays:
    """Return the tensors and the lists of ids among the inputs as they are now, under `after.<name>`."""
    seen = {f"after.{name}": tensor(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    lists = {f"after.{name}": ids(value) for name, value in inputs.items() if isinstance(value, list)}
    return seen | {name: value for name, value in lists.items() if isinstance(value, Data)}


def gradients(result: Callable[..., object], given: Given, *names: str) -> Arrays:
    """Differentiate a result, weighted by fixed numbers from -1 to 1, with respect to some inputs.

    Args:
        result: called with the whole input by name; returns the tensor to differentiate.
        given: the input, by name.
        names: the inputs to differentiate by.

    Returns:
        `gradient.<name>` for each name, odd where no gradient arrives.
    """
    leaves = {name: value.clone().requires_grad_() for name, value in copies(given).items() if name in names}
    # The answer gets copies of the leaves: writing into a leaf would raise here, and that is `after`'s business.
    inputs = copies(given) | {name: leaf.clone() for name, leaf in leaves.items()}
    try:
        value = result(**inputs)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return {f"gradient.{name}": Odd("no gradient") for name in names}
        weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
        found = torch.autograd.grad((value * weights).sum(), [leaves[name] for name in names], allow_unused=True)
    except Exception as error:
        return {f"gradient.{name}": Odd(f"no gradient ({type(error).__name__})") for name in names}
    return {
        f"gradient.{name}": Odd("no gradient") if gradient is None else tensor(gradient)
        for name, gradient in zip(names, found, strict=True)
    }


def _odd(value: object) -> Odd:
    if value is None or value is Ellipsis:
        return Odd("None" if value is None else "...")
    if isinstance(value, torch.Tensor):
        return Odd(f"a {value.dtype} tensor of shape {tuple(value.shape)}".replace("torch.", ""))
    if isinstance(value, tuple | list):
        inside = {type(part).__name__ for part in value}
        if inside == {"Tensor"}:
            return Odd(f"a {type(value).__name__} of {len(value)} tensor{'s' * (len(value) > 1)}")
        return Odd(f"a {type(value).__name__} of {len(value)}" + (f" {inside.pop()}" if len(inside) == 1 else ""))
    kind = type(value).__name__
    shown = isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 40)
    return Odd(f"{value!r} ({kind})" if shown else f"a value of type {kind}")


def _whole(value: Any) -> list[int] | None:
    """Return a row of whole numbers, None when it is none."""
    if type(value).__name__ in ("Tensor", "ndarray"):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return None
    numbers = [_integer(part) for part in value]
    return None if None in numbers else [number for number in numbers if number is not None]


def _integer(value: Any) -> int | None:
    if isinstance(value, bool | float) or (isinstance(value, torch.Tensor) and value.is_floating_point()):
        return None
    try:
        return int(operator.index(value))
    except TypeError:
        return None


def _place(answer: Answer, traceback: TracebackType | None) -> tuple[int | None, str]:
    while isinstance(answer, functools.partial):
        answer = answer.func
    code = getattr(answer, "__code__", None)
    place: tuple[int | None, str] = (None, "")
    while traceback is not None and code is not None:
        if traceback.tb_frame.f_code.co_filename == code.co_filename:
            line = traceback.tb_lineno
            place = (line, linecache.getline(code.co_filename, line).strip())
        traceback = traceback.tb_next
    return place
