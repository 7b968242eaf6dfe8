"""What crosses the border of a sandbox: frames of JSON and raw arrays. Never pickle, which runs code when it is read.

A frame is two lengths, a JSON header, and the bytes of the arrays that the header describes. Whoever reads a frame from
a sandbox checks all of it: sizes before anything is set aside, dtypes against a list, values for their form.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gptlib.checks.probing import Arrays, Data, Hidden, Odd, Outcome, Raised, Value

PREFIX = struct.Struct(">II")  # bytes of the header, bytes of the body
MAX_HEADER = 4 << 20
MAX_BODY = 32 << 20
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
    )
}
_MAX_DIMENSIONS, _MAX_VALUES, _MAX_WORDS = 8, 200, 2_000


class MalformedError(ValueError):
    """What came is no frame, or no result."""


@dataclass(frozen=True)
class Frame:
    """A header and the arrays that came with it."""

    header: dict[str, Any]
    arrays: list[torch.Tensor]


def pack(header: Mapping[str, Any], arrays: Sequence[torch.Tensor] = ()) -> bytes:
    """Return a frame as bytes.

    Raises:
        MalformedError: it is larger than a frame may be, or an array has a dtype that does not cross.
    """
    kinds, body = [], bytearray()
    for array in arrays:
        kind = str(array.dtype).removeprefix("torch.")
        if kind not in DTYPES:
            raise MalformedError(f"arrays of dtype {kind} do not cross the border")
        kinds.append([kind, list(array.shape)])
        if len(body) + array.numel() * array.element_size() > MAX_BODY:
            raise MalformedError(f"the arrays are larger than {MAX_BODY >> 20} MB")
        plain = array.detach().contiguous().reshape(-1)
        body += plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    head = json.dumps({**header, "arrays": kinds}).encode()
    if len(head) > MAX_HEADER:
        raise MalformedError(f"the header is larger than {MAX_HEADER >> 20} MB")
    return PREFIX.pack(len(head), len(body)) + head + bytes(body)


def unpack(head: bytes, body: bytes) -> Frame:
    """Read a frame; nothing in it is trusted.

    Raises:
        MalformedError: it is not a JSON object with arrays of allowed dtypes that fill the body exactly.
    """
    try:
        header = json.loads(head)
        kinds = header.pop("arrays")
        described = [(DTYPES[kind], _shape(shape)) for kind, shape in kinds]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedError("a header that cannot be read") from error
    arrays, start = [], 0
    for dtype, shape in described:
        end = start + math.prod(shape) * dtype.itemsize
        if end > len(body):
            raise MalformedError("an array that is longer than its frame")
        arrays.append(_array(body[start:end], dtype, shape))
        start = end
    if start != len(body):
        raise MalformedError("bytes that belong to no array")
    return Frame(header, arrays)


def read(fd: int) -> Frame | None:
    """Read one frame and wait for all of it; None at the end. For inside the sandbox: it waits as long as it takes."""
    prefix = _exactly(fd, PREFIX.size)
    if prefix is None:
        return None
    head, body = PREFIX.unpack(prefix)
    parts = _exactly(fd, head), _exactly(fd, body)
    return None if parts[0] is None or parts[1] is None else unpack(parts[0], parts[1])


def write(fd: int, frame: bytes) -> None:
    """Write one frame and wait until all of it is gone. For inside the sandbox."""
    view = memoryview(frame)
    while view:
        view = view[os.write(fd, view) :]


def wrap(value: Any, arrays: list[torch.Tensor], hidden: list[Hidden]) -> list[Any]:
    """Write an input as JSON; its tensors and hidden functions are appended to the lists and stand there by number."""
    if isinstance(value, torch.Tensor):
        arrays.append(value)
        return ["array", len(arrays) - 1]
    if isinstance(value, Hidden):
        hidden.append(value)
        return ["hidden", len(hidden) - 1]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [wrap(part, arrays, hidden) for part in value]]
    if isinstance(value, dict):
        return ["dict", [[wrap(k, arrays, hidden), wrap(v, arrays, hidden)] for k, v in value.items()]]
    if value is None or isinstance(value, bool | int | float | str):
        return ["plain", value]
    raise TypeError(
        f"an input of type {type(value).__name__} cannot be handed into a sandbox; use tensors and plain data"
    )


def unwrap(written: Sequence[Any], arrays: Sequence[torch.Tensor], remote: Callable[[int], Any]) -> Any:
    """Read what `wrap` wrote; `remote` makes the stand-in for a hidden function."""
    kind, value = written
    if kind == "array":
        return arrays[value]
    if kind == "hidden":
        return remote(value)
    if kind in ("list", "tuple"):
        parts = [unwrap(part, arrays, remote) for part in value]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {unwrap(k, arrays, remote): unwrap(v, arrays, remote) for k, v in value}
    return value


def wrap_outcome(outcome: Outcome) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Write what a probe brought back."""
    if isinstance(outcome, Raised):
        words = [str(part)[:_MAX_WORDS] for part in (outcome.type, outcome.message, outcome.code)]
        return {"raised": [*words, outcome.line if isinstance(outcome.line, int) else None]}, []
    values: dict[str, list[Any]] = {}
    arrays: list[torch.Tensor] = []
    for name, value in outcome.items():
        if isinstance(value, torch.Tensor):
            values[name] = ["array", len(arrays)]
            arrays.append(value)
        elif isinstance(value, Data):
            values[name] = ["data", value.kind, value.json]
        else:
            values[name] = ["odd", str(value.kind)[:_MAX_WORDS]]
    return {"values": values}, arrays


def unwrap_outcome(frame: Frame) -> Outcome:
    """Read what `wrap_outcome` wrote; nothing in it is trusted.

    Raises:
        MalformedError: it has another form.
    """
    try:
        if "raised" in frame.header:
            kind, message, code, line = frame.header["raised"]
            line = line if type(line) is int and 0 < line < 10**6 else None
            return Raised(_words(kind), _words(message), line, _words(code))
        values = frame.header["values"]
        if not isinstance(values, dict) or len(values) > _MAX_VALUES:
            raise MalformedError("results that are no short list of names")
        found: Arrays = {name: _value(written, frame.arrays) for name, written in values.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise MalformedError("a result that cannot be read") from error
    return found


def _value(written: Any, arrays: Sequence[torch.Tensor]) -> Value:
    kind, *rest = written
    if kind == "array":
        (index,) = rest
        if type(index) is not int or index < 0:
            raise MalformedError("an array without a number")
        return arrays[index]
    if kind == "data":
        what, text = rest
        return Data(what, json.dumps(_plain(what, json.loads(text))))
    (words,) = rest
    if kind != "odd":
        raise MalformedError("a result of a kind that there is not")
    return Odd(_words(words))


def _plain(kind: str, value: Any) -> Any:
    """Return texts, ids and counts that have the form which probes give them, and nothing else."""

    def whole(number: Any) -> bool:
        return type(number) is int and -(2**63) <= number < 2**63

    def key(written: Any) -> bool:
        return isinstance(written, str) or whole(written) or (isinstance(written, list) and all(map(whole, written)))

    good = {
        "text": lambda: isinstance(value, str),
        "ids": lambda: isinstance(value, list) and all(map(whole, value)),
        "counts": lambda: isinstance(value, list) and all(key(k) and whole(count) for k, count in value),
    }
    if kind not in good or not good[kind]():
        raise MalformedError("data of another form than they say")
    return value


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedError("words that are no text")
    return value[:_MAX_WORDS]


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise MalformedError("a shape that is none")
    if not all(type(size) is int and 0 <= size <= MAX_BODY for size in shape):
        raise MalformedError("a size out of bounds")
    return tuple(shape)


def _array(data: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if not data:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    # A byte that is neither 0 nor 1 would make a bool that is neither.
    return (flat != 0 if dtype == torch.bool else flat.view(dtype)).reshape(shape)


def _exactly(fd: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)
