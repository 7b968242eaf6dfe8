"""Results that are no arrays (texts, ids, counts): read back from JSON, and how to say that one is not as expected."""

import json
from typing import Any

from gptlib.checks.probing import Data, Odd, Value

_WORDS = 40  # characters up to which two texts are shown whole, and not by where they part

KINDS = {"text": "text (a str)", "ids": "list of ids", "counts": "dict of counts"}


def content(value: Data) -> Any:
    """Return the value itself: a str, a list of ints, or a dict from ids, tuples of ids or texts to ints."""
    plain = json.loads(value.json)
    if value.kind != "counts":
        return plain
    return {tuple(key) if isinstance(key, list) else key: count for key, count in plain}


def difference(name: str, seen: Value, expected: Data) -> str:
    """Say in one sentence how a value that is not the expected one differs from it."""
    if not isinstance(seen, Data) or seen.kind != expected.kind:
        return f"{name}: a {KINDS[expected.kind]} was expected, and {kind(seen)} came back."
    a, b = content(seen), content(expected)
    if expected.kind == "counts":
        return f"{name}: {_wrong_count(a, b)}."
    if expected.kind == "text" and len(a) != len(b) and max(len(a), len(b)) <= _WORDS:
        return f"{name}: {b!r} was expected, and {a!r} came back."
    thing = "characters" if expected.kind == "text" else "ids"
    length = f"{len(b)} {thing} were expected, and {len(a)} came back" if len(a) != len(b) else ""
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:
        return f"{name}: {length}; as far as both go, they agree."
    first = f"at [{place}] stands {a[place]!r} where {b[place]!r} was expected"
    return f"{name}: {length}; {first}." if length else f"{name}: {first}."


def show(value: Data) -> str:
    """Write a value on one line; a long one is cut."""
    plain = content(value)
    if value.kind == "text":
        return repr(plain) if len(plain) <= 80 else f"{plain[:77]!r}… ({len(plain)} characters)"
    cells = [f"{key}: {count}" for key, count in plain.items()] if value.kind == "counts" else [str(i) for i in plain]
    rest = f", … ({len(cells)} in all)" if len(cells) > 12 else ""
    brackets = "{}" if value.kind == "counts" else "[]"
    return brackets[0] + ", ".join(cells[:12]) + rest + brackets[1]


def kind(value: Value) -> str:
    """Name what a value is."""
    if isinstance(value, Odd):
        return value.kind
    if isinstance(value, Data):
        return f"a {KINDS[value.kind]}"
    return f"a tensor of shape {tuple(value.shape)}"


def _wrong_count(seen: dict[Any, int], expected: dict[Any, int]) -> str:
    for key, count in expected.items():
        if key not in seen:
            return f"{key!r} occurs {_times(count)} and is missing"
    for key, count in seen.items():
        if key not in expected:
            return f"{key!r} does not occur, and is counted {_times(count)}"
    wrong = next(key for key in expected if seen[key] != expected[key])
    return f"{wrong!r} occurs {_times(expected[wrong])}, and is counted {_times(seen[wrong])}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
