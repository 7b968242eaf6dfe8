"""The border: what goes over it comes back equal, and what does not belong there is turned away."""

import json
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.checks.probing import Data, Hidden, Odd, Raised
from gptlib.grading import wire


def there_and_back(header, arrays=()):
    frame = wire.pack(header, arrays)
    head, body = wire.PREFIX.unpack(frame[: wire.PREFIX.size])
    rest = frame[wire.PREFIX.size :]
    assert len(rest) == head + body
    return wire.unpack(rest[:head], rest[head:])


def same(a, b):
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(
            a.nan_to_num(7.5) if a.is_floating_point() else a, b.nan_to_num(7.5) if b.is_floating_point() else b
        )
    )


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_of_every_dtype_come_back(dtype, shape):
    array = (torch.randn(shape) * 3).to(dtype)
    if dtype.is_floating_point and array.numel():
        array.view(-1)[0] = math.nan
        array.view(-1)[-1] = -math.inf
    turned = array.transpose(0, -1) if array.dim() else array
    frame = there_and_back({"a": 1}, [array, turned])
    assert frame.header == {"a": 1}
    assert same(frame.arrays[0], array)
    assert same(frame.arrays[1], turned)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=PLAIN)
def test_plain_inputs_come_back(value):
    written = json.loads(json.dumps(wire.wrap(value, [], [])))
    assert wire.unwrap(written, [], lambda number: number) == value


def test_tensors_and_hidden_functions_stand_by_number():
    arrays, hidden = [], []
    function = Hidden(lambda own, x: x * own["a"], {"a": 3})
    written = wire.wrap([torch.ones(2), function, {"x": (torch.zeros(1),)}], arrays, hidden)
    assert len(arrays) == 2
    assert hidden == [function]
    back = wire.unwrap(json.loads(json.dumps(written)), arrays, lambda number: f"stand-in {number}")
    assert back[1] == "stand-in 0"
    assert back[0] is arrays[0]
    with pytest.raises(TypeError, match=r"of type set cannot be handed"):
        wire.wrap({1, 2}, [], [])


def test_outcomes_come_back():
    outcome = {"a": torch.ones(2, 3), "b": Odd("no gradient"), "c": Data("counts", '[["a", 2], [[1, 2], 3], [4, 5]]')}
    header, arrays = wire.wrap_outcome(outcome)
    back = wire.unwrap_outcome(there_and_back(header, arrays))
    assert same(back.pop("a"), outcome.pop("a"))
    assert back == outcome
    raised = Raised("ValueError", "no", 3, "raise ValueError")
    assert wire.unwrap_outcome(there_and_back(*wire.wrap_outcome(raised))) == raised


HOSTILE_HEADERS = [
    b"",
    b"null",
    b"[]",
    b'{"arrays": 7}',
    b'{"arrays": [["float32"]]}',
    b'{"arrays": [["object", [1]]]}',
    b'{"arrays": [["float32", [-1]]]}',
    b'{"arrays": [["float32", [1e3]]]}',
    b'{"arrays": [["float32", [true]]]}',
    b'{"arrays": [["float32", "11"]]}',
    b'{"arrays": [["float32", [1, 1, 1, 1, 1, 1, 1, 1, 1]]]}',
    b'{"arrays": [["float32", [1000000, 1000000, 1000000]]]}',
    b'{"arrays": [["float32", [5]]]}',
    b'{"arrays": []}',
    b'{"arrays": [["float32", [0]]]}',
    b"[" * 100_000,
    pickle.dumps({"arrays": []}),
]


@pytest.mark.parametrize("head", HOSTILE_HEADERS, ids=range(len(HOSTILE_HEADERS)))
def test_headers_that_lie_are_turned_away(head):
    with pytest.raises(wire.MalformedError):
        wire.unpack(head, b"\0" * 16)


HOSTILE_VALUES = [
    7,
    [],
    {"a": ["array", 0]},
    {"a": ["array", -1]},
    {"a": ["array", True]},
    {"a": ["array"]},
    {"a": ["pickle", "x"]},
    {"a": ["odd", 7]},
    {"a": ["data", "text", "7"]},
    {"a": ["data", "ids", "[1, true]"]},
    {"a": ["data", "ids", "[1.5]"]},
    {"a": ["data", "ids", "[9999999999999999999999]"]},
    {"a": ["data", "counts", "[[[[1]], 1]]"]},
    {"a": ["data", "counts", "{}1"]},
    {"a": ["data", "code", '"x"']},
    {"a": None},
    {str(number): ["odd", "x"] for number in range(1000)},
]


@pytest.mark.parametrize("values", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
def test_results_of_another_form_are_turned_away(values):
    with pytest.raises(wire.MalformedError):
        wire.unwrap_outcome(wire.Frame({"values": values}, []))


@pytest.mark.parametrize("raised", [[], ["A"], [1, 2, 3, 4], "words", ["A", "b", None, 1]])
def test_exceptions_of_another_form_are_turned_away(raised):
    with pytest.raises(wire.MalformedError):
        wire.unwrap_outcome(wire.Frame({"raised": raised}, []))


@settings(max_examples=300, deadline=None)
@given(
    head=st.binary(max_size=60) | PLAIN.map(lambda v: json.dumps({"arrays": v}).encode()), body=st.binary(max_size=9)
)
def test_no_bytes_do_more_than_be_turned_away(head, body):
    try:
        frame = wire.unpack(head, body)
    except wire.MalformedError:
        return
    assert isinstance(frame, wire.Frame)
    with pytest.raises(wire.MalformedError):
        wire.unwrap_outcome(frame)


def test_bytes_of_a_bool_become_true_or_false():
    frame = wire.unpack(b'{"arrays": [["bool", [3]]]}', b"\x00\x02\xff")
    assert frame.arrays[0].to(torch.uint8).tolist() == [0, 1, 1]


def test_what_is_too_large_does_not_leave():
    with pytest.raises(wire.MalformedError, match="larger than 32 MB"):
        wire.pack({}, [torch.zeros(1).expand(10**9)])
    with pytest.raises(wire.MalformedError, match="larger than 4 MB"):
        wire.pack({"x": "x" * (5 << 20)})
    with pytest.raises(wire.MalformedError, match="complex64"):
        wire.pack({}, [torch.zeros(1, dtype=torch.complex64)])
