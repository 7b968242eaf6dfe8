"""What was measured, as a table and as a JSON file."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from gptlib.bench.limits import Limits


@dataclass(frozen=True)
class Race:
    """Tokens a second, round by round, of gptlib and of transformers, who took turns.

    Args:
        ours: of gptlib, one round at least.
        theirs: of transformers in the same rounds; None if it did not take part.
        limit: tokens a second that the machine's limit would allow.
    """

    ours: list[float]
    theirs: list[float] | None
    limit: float

    @property
    def share(self) -> float:
        """Our median, as a share of the limit."""
        return statistics.median(self.ours) / self.limit

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """Ours by theirs within a round: lower quartile, median, upper quartile.

        Example:
            >>> Race(ours=[10, 12, 30], theirs=[10, 10, 20], limit=100).ratio
            (1.1, 1.2, 1.35)
        """
        if self.theirs is None:
            return None
        ratios = [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]
        if len(ratios) == 1:
            return (ratios[0],) * 3
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return lower, median, upper

    def to_dict(self) -> dict[str, Any]:
        """Every round, and what the table says of them."""
        return {
            "tokens_per_second": statistics.median(self.ours),
            "limit": self.limit,
            "share": self.share,
            "ratio_quartiles": self.ratio,
            "rounds": {"gptlib": self.ours, "transformers": self.theirs},
        }


@dataclass(frozen=True)
class Report:
    """All that was measured; prints as a table.

    Args:
        machine: where and how: processor, device, precision, threads, version of torch.
        preset: name of the model's shape.
        n_parameters: of a model of this shape.
        batch_size: rows of a training step, B.
        n_tokens: tokens of a row, T.
        n_written: tokens that a turn of decoding wrote.
        limits: of the machine.
        training: tokens trained on.
        decoding: tokens written, one row at a time, in fp32.
        peer: the peer's name and version, or why there is none.
    """

    machine: dict[str, str]
    preset: str
    n_parameters: int
    batch_size: int
    n_tokens: int
    n_written: int
    limits: Limits
    training: Race
    decoding: Race
    peer: str

    def __str__(self) -> str:
        precision = self.machine["precision"].partition(" ")[0]
        limits = {f"products of {precision} matrices": f"{self.limits.flops_per_second / 1e9:,.0f} GFLOP/s"}
        limits = {"products of fp32 matrices": f"{self.limits.fp32_flops_per_second / 1e9:,.0f} GFLOP/s"} | limits
        limits["reading memory"] = f"{self.limits.bytes_per_second / 1e9:,.1f} GB/s"
        head = ["tokens/s", "gptlib", "limit", "share", "transformers", "ratio (quartiles)"]
        races = [head, _row("training", self.training), _row("decoding", self.decoding)]
        lines = [
            *_table([[name, value] for name, value in self.machine.items()], left=2),
            "",
            "Limits of this machine",
            *_table([[name, value] for name, value in limits.items()]),
            "",
            f"{self.preset}, {self.n_parameters:,} parameters",
            *_table(races),
            "",
            f"training: {self.batch_size} x {self.n_tokens} tokens a step, in {precision}.",
            "          Limit: the matrix products of a step at full speed.",
            f"decoding: one row, {self.n_written} tokens, in fp32.",
            "          Limit: reading all weights and the cache once a token. A model that",
            "          the processor's own cache holds can pass it.",
            f"ratio:    gptlib by {self.peer}, same weights, in turns." if self.training.theirs else self.peer,
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        return asdict(self) | {"training": self.training.to_dict(), "decoding": self.decoding.to_dict()}


def _row(name: str, race: Race) -> list[str]:
    row = [name, f"{statistics.median(race.ours):,.0f}", f"{race.limit:,.0f}", f"{100 * race.share:.0f} %"]
    if race.theirs is None or race.ratio is None:
        return [*row, "-", "-"]
    lower, median, upper = race.ratio
    return [*row, f"{statistics.median(race.theirs):,.0f}", f"{median:.2f} ({lower:.2f} to {upper:.2f})"]


def _table(rows: list[list[str]], *, left: int = 1) -> list[str]:
    """Columns of equal width, the first `left` of them ranged left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        places = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(word.ljust(width) if i < left else word.rjust(width) for i, (word, width) in places))
    return ["  " + line.rstrip() for line in lines]
