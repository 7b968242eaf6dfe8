"""Amounts by part, which print as a table."""

from __future__ import annotations

from collections.abc import Mapping


class Count(dict[str, int]):
    """Amounts by part, in one unit. A part of which there is nothing is left out.

    Args:
        parts: amount of each.
        unit: of all of them.

    Example:
        >>> count = Count({"weights": 30, "biases": 10, "wishes": 0}, "parameters")
        >>> count.total, count.share("biases"), count.share("wishes")
        (40, 0.25, 0.0)
        >>> print(count)
        weights  30  75.0 %
        biases   10  25.0 %
        total    40 parameters
    """

    def __init__(self, parts: Mapping[str, int], unit: str) -> None:
        super().__init__({part: amount for part, amount in parts.items() if amount})
        self.unit = unit

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.values())

    def share(self, part: str) -> float:
        """How much of the total a part is, 0 to 1."""
        return self.get(part, 0) / self.total

    def __str__(self) -> str:
        name = max(map(len, [*self, "total"]))
        number = len(f"{self.total:,}")
        lines = [
            f"{part:<{name}}  {amount:>{number},}  {100 * self.share(part):4.1f} %" for part, amount in self.items()
        ]
        return "\n".join([*lines, f"{'total':<{name}}  {self.total:>{number},} {self.unit}"])

    def _repr_html_(self) -> str:
        rows = [(part, f"{amount:,}", f"{100 * self.share(part):.1f} %") for part, amount in self.items()]
        rows.append(("total", f"{self.total:,}", self.unit))
        cells = (f"<th scope='row'>{part}</th><td>{amount}</td><td>{share}</td>" for part, amount, share in rows)
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def require_at_least(least: int, **values: int) -> None:
    """Refuse a number of tokens, rows or positions that makes no sense.

    Raises:
        ValueError: One of the values is below `least`.
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}={value} must be a whole number of at least {least}")
