"""When two values agree, and how to say in a sentence that they do not."""

import math

import torch

from gptlib.checks import data
from gptlib.checks.probing import Data, Odd, Value

FALSE_ALARM = 1e-6  # how often two samples of one distribution may be taken for different ones


def agrees(
    seen: Value, expected: Value, tolerance: float, *, nan_agrees: bool = False, any_dtype: bool = False
) -> bool:
    """Say whether a value is the expected one.

    Texts, ids and counts must be equal. Of arrays, shapes and dtypes must be equal, the same infinities must stand in
    the same places, and each finite difference must satisfy |seen - expected| <= tolerance * max(1, |expected|); so NaN
    never agrees. Where whole numbers are expected, the tolerance is 0.

    Args:
        seen: the value in question.
        expected: what it is compared with.
        tolerance: largest difference, relative for numbers above 1.
        nan_agrees: NaN agrees with NaN in the same place; for comparing one wrong answer with another.
        any_dtype: only the numbers count.

    Returns:
        True when they agree.
    """
    if not isinstance(seen, torch.Tensor) or not isinstance(expected, torch.Tensor):
        return type(seen) is type(expected) and seen == expected
    if seen.shape != expected.shape or (seen.dtype != expected.dtype and not any_dtype):
        return False
    a, b = seen.to(torch.float64), expected.to(torch.float64)
    if not expected.is_floating_point():
        tolerance = 0
    good = (a - b).abs() <= tolerance * b.abs().clamp(min=1)
    good = torch.where(a.isinf() | b.isinf(), a == b, good)
    if nan_agrees:
        good |= a.isnan() & b.isnan()
    return bool(good.all())


def same_distribution(seen: Value, expected: Value) -> bool:
    """Say whether two samples, a draw a row, can come from one distribution.

    Each column is held to the two-sample Kolmogorov–Smirnov bound (Smirnov 1939; Massart 1990): with `FALSE_ALARM` =
    10⁻⁶ and n draws on both sides, the two shares of draws below any number may differ by 3.8 / √n at most (4.4 / √n
    with a hundred columns). Take thousands of draws. NaN never agrees.
    """
    if not isinstance(seen, torch.Tensor) or not isinstance(expected, torch.Tensor):
        return False
    if seen.shape[1:] != expected.shape[1:] or seen.dtype != expected.dtype or 0 in (*seen.shape, *expected.shape):
        return False
    n, m = len(seen), len(expected)
    a, b = (x.to(torch.float64).reshape(len(x), -1).T.contiguous() for x in (seen, expected))  # (columns, draws)
    if a.isnan().any():
        return False
    points = torch.cat([a, b], 1)
    below = [torch.searchsorted(x.sort(1).values, points, right=True) / x.shape[1] for x in (a, b)]
    bound = math.sqrt(-math.log(FALSE_ALARM / 2 / len(a)) / 2 * (n + m) / (n * m))
    return bool((below[0] - below[1]).abs().max() <= bound)


def difference(name: str, seen: Value, expected: torch.Tensor | Data, tolerance: float) -> str:
    """Say in one sentence how a value that does not agree differs from the expected one."""
    if isinstance(expected, Data):
        return data.difference(name, seen, expected)
    if isinstance(seen, Data):
        return f"{name}: a {_kind(expected)} was expected, and {data.kind(seen)} came back."
    if isinstance(seen, Odd):
        return f"{name}: a {_kind(expected)} was expected, and {seen.kind} came back."
    if seen.shape != expected.shape:
        turned = seen.dim() == expected.dim() >= 2 and seen.transpose(-2, -1).shape == expected.shape
        hint = "; the last two dimensions are exchanged" if turned else ""
        return f"{name}: the shape is {tuple(seen.shape)} and should be {tuple(expected.shape)}{hint}."
    values = seen.to(torch.float64)
    if values.isnan().any():
        return f"{name}: {int(values.isnan().sum())} of {values.numel()} numbers are NaN."
    if agrees(seen, expected, tolerance, any_dtype=True):
        return f"{name}: the numbers are right, the dtype is {_dtype(seen)} and should be {_dtype(expected)}."
    if expected.dim() == 0:
        return f"{name}: {number(expected)} was expected, and {number(seen)} came back."
    infinite = values.isinf() != expected.isinf()
    if infinite.any():
        place = tuple(int(index) for index in infinite.nonzero()[0])
        return f"{name}: at {_at(place)} stands {number(values[place])} where {number(expected[place])} was expected."
    place, distance = _furthest(values, expected)
    return f"{name}: the numbers differ by up to {number(distance)}, most at {_at(place)}."


def distribution(name: str, seen: Value, expected: torch.Tensor | Data) -> str:
    """Say in one sentence how numbers drawn at random differ in distribution from the expected ones."""
    if not isinstance(seen, torch.Tensor) or not isinstance(expected, torch.Tensor) or seen.dtype != expected.dtype:
        return difference(name, seen, expected, 0)
    if seen.shape[1:] != expected.shape[1:] or seen.numel() == 0 or seen.isnan().any():
        return difference(name, seen, expected, 0)
    a, b = seen.to(torch.float64), expected.to(torch.float64)
    if seen.is_floating_point():
        spreads = f"their spread (standard deviation) is {number(a.std())} and should be {number(b.std())}"
        return f"{name}: their mean is {number(a.mean())} and should be {number(b.mean())}, {spreads}."
    a, b = a.flatten(), b.flatten()
    shares = {
        value: (float((a == value).double().mean()), float((b == value).double().mean()))
        for value in sorted({*a.tolist(), *b.tolist()})
    }
    value, (mine, right) = max(shares.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    return f"{name}: {number(value)} is drawn in {100 * mine:.1f} % of all cases, and should be in {100 * right:.1f} %."


def show(value: Value, other: Value | None = None) -> str:
    """Write a value so that it can be read: of an array shape, dtype, and rounded numbers.

    Of an array with more than two dimensions one matrix is shown, the one where it differs most from `other`; of a
    large matrix its upper left corner.
    """
    if isinstance(value, Odd):
        return value.kind
    if isinstance(value, Data):
        return data.show(value)
    if value.dim() == 0:
        return number(value)
    text = f"{tuple(value.shape)} {_dtype(value)}"
    if value.numel() == 0:
        return text
    place: tuple[int, ...] = (0,) * max(0, value.dim() - 2)
    if isinstance(other, torch.Tensor) and other.shape == value.shape:
        place = _furthest(value.to(torch.float64), other)[0][: len(place)]
    matrix = value[place]
    if place:
        text += f", of which {_at(place)}"
    rows = matrix.reshape(-1, matrix.shape[-1])[:6]
    cells = [[number(cell) if column < 8 else "…" for column, cell in enumerate(row[:9])] for row in rows]
    width = max(len(cell) for row in cells for cell in row)
    lines = ["  ".join(cell.rjust(width) for cell in row) for row in cells]
    return "\n".join([text, *lines, "…"] if rows.numel() < matrix.numel() else [text, *lines])


def number(value: torch.Tensor | float) -> str:
    """Write one number with at most four significant digits."""
    plain = value.item() if isinstance(value, torch.Tensor) else value
    if isinstance(plain, bool):
        return str(plain)
    return "0" if plain == 0 else f"{plain:.4g}"


def _kind(expected: torch.Tensor) -> str:
    if expected.dim() == 0 and expected.dtype == torch.bool:
        return "bool (True or False)"
    return f"tensor of shape {tuple(expected.shape)}"


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _at(place: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, place))}]" if place else ""


def _furthest(seen: torch.Tensor, expected: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor]:
    """Return where two arrays of one shape differ most, and by how much; NaN and unequal infinities come first."""
    distance = (seen - expected.to(torch.float64)).abs()
    distance = torch.where(seen == expected, torch.zeros_like(distance), distance).nan_to_num(nan=torch.inf)
    flat = int(distance.argmax())
    place = tuple(int(index) for index in torch.unravel_index(torch.tensor(flat), seen.shape))
    return place, distance.reshape(-1)[flat]
