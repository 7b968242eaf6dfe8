"""What a probe is made of: it calls an answer and brings back named arrays, never a verdict.

Nothing here knows a right answer, so this module may stand inside a sandbox beside the code that it calls. What follows
from the arrays ("an input was changed", "the future leaks") is decided elsewhere, from the arrays.

Names tell what an array is. A name without a dot is a result. `after.q` is the input q as the answer left it,
`gradient.q` a gradient, `future.output` the result `output` when what comes later was changed.
"""

import functools
import linecache
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

Answer = Callable[..., Any]
Given = Mapping[str, torch.Tensor | int | float | None]


@dataclass(frozen=True)
class Odd:
    """Something that is not the array it should be, in words: "a list", "None", "no gradient"."""

    kind: str


@dataclass(frozen=True)
class Raised:
    """An exception, and the last line of the learner's own code that it came through."""

    type: str
    message: str
    line: int | None = None
    code: str = ""


Value = torch.Tensor | Odd
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
    if value is None or value is Ellipsis:
        return Odd("None" if value is None else "...")
    if isinstance(value, tuple | list):
        return Odd(f"a {type(value).__name__} of {len(value)}")
    kind = type(value).__name__
    return Odd(f"{value!r} ({kind})" if isinstance(value, int | float | str) else f"a value of type {kind}")


def tensors(value: object, *names: str) -> Arrays:
    """Name the parts of a tuple; a value that is no tuple of this length is odd under every name."""
    if isinstance(value, tuple | list) and len(value) == len(names):
        return {name: tensor(part) for name, part in zip(names, value, strict=True)}
    what = tensor(value)
    odd = what if isinstance(what, Odd) else Odd(f"one tensor of shape {tuple(what.shape)}")
    return dict.fromkeys(names, odd)


def truth(value: object) -> Value:
    """Return a yes or no as a tensor of no dimensions; Python's, NumPy's and PyTorch's own are all taken."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return torch.tensor(bool(value))
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.numel() == 1:
        return value.detach().cpu().reshape(())
    what = tensor(value)
    return what if isinstance(what, Odd) else Odd(f"a {what.dtype} tensor of shape {tuple(what.shape)}")


def copies(given: Given) -> dict[str, Any]:
    """Return the input with every tensor cloned, so that an answer cannot reach the original."""
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in given.items()}


def afterwards(inputs: Mapping[str, Any]) -> Arrays:
    """Return the tensors among the inputs as they are now, under `after.<name>`."""
    return {f"after.{name}": tensor(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}


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
