"""Rotary positions for longer texts: planes that turn more slowly, by five rules that differ in which planes do."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

Kind = Literal["linear", "ntk", "dynamic", "yarn", "llama3"]
_NEED_LENGTH = ("dynamic", "yarn", "llama3")
_FAST_TURNS = {"yarn": 32.0, "llama3": 4.0}


@dataclass(frozen=True)
class RotaryScaling:
    """How the planes of rotary positions are slowed, so that a longer text turns them no further than training did.

    The rules say by how much each plane is slowed, between 1 (not at all) and `factor`:

    - "linear", position interpolation: all by `factor`, as if positions stood closer together.
    - "ntk": the fastest plane not at all, the slowest by `factor`, the others geometrically between. The same as a
      larger base: base · factor^(D / (D - 2)).
    - "dynamic": "ntk" by a factor that grows with the text: 1 up to `original_n_positions`, and for T tokens
      factor · T / original_n_positions - (factor - 1). Every angle then depends on T, so keys that a cache holds
      would be wrong a token later: beyond `original_n_positions` it works without a cache only.
    - "yarn": planes that turn more than `fast_turns` times within `original_n_positions` not at all, planes that
      turn less than `slow_turns` times by `factor`, and a ramp over the planes between, linear in the plane's number.
      Cosines and sines are multiplied by `attention_scale` too, which sharpens attention over the longer text.
    - "llama3": the same with a ramp that is linear in the number of turns, and nothing sharpened.

    Args:
        kind: the rule.
        factor: 1 or more; at 1 nothing changes ("dynamic": nothing up to `original_n_positions`).
        original_n_positions: length of the texts of training; "dynamic", "yarn" and "llama3" need it.
        slow_turns: "yarn" and "llama3"; the papers' α or low_freq_factor.
        fast_turns: "yarn" and "llama3"; the papers' β or high_freq_factor; if None 32 for "yarn", 4 for "llama3".
        attention_factor: "yarn"; what cosines and sines are multiplied by, 0.1 · ln(factor) + 1 if None.
        rounded: "yarn"; whether the ramp's ends are moved outwards to whole planes.

    Raises:
        ValueError: for a value that no rule can use.

    Example:
        >>> round(RotaryScaling("yarn", factor=4.0, original_n_positions=2048).attention_scale, 4)
        1.1386

    Source: Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation" (2023);
    Peng et al., "YaRN" (2023), definition 1 for "ntk", section 3.3 for "dynamic", sections 3.2 and 3.4 for "yarn",
    whose ramp is written there as Llama 3 uses it and was run, by its authors too, as it is here; Llama 3.1 (2024).
    """

    kind: Kind
    factor: float
    original_n_positions: int | None = None
    slow_turns: float = 1.0
    fast_turns: float | None = None
    attention_factor: float | None = None
    rounded: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r} is unknown; choose one of {', '.join(get_args(Kind))}")
        for name in ("factor", "slow_turns", "fast_turns", "attention_factor"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
            if not number and not (value is None and name in ("fast_turns", "attention_factor")):
                raise ValueError(f"{name}={value!r} must be a number above 0")
        if self.factor < 1:
            raise ValueError(f"factor={self.factor} would make the planes turn faster; use 1 or more")
        n = self.original_n_positions
        if n is None and self.kind in _NEED_LENGTH:
            raise ValueError(f"kind={self.kind!r} needs original_n_positions, the length of the texts of training")
        if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
            raise ValueError(f"original_n_positions={n!r} must be a whole number of at least 1")
        if self.slow_turns >= self.ramp_end:
            raise ValueError(
                f"slow_turns={self.slow_turns} must lie below fast_turns={self.ramp_end}; the papers have 1 and 32, "
                f"Llama 3 has 1 and 4"
            )
        if self.attention_factor is not None and self.kind != "yarn":
            raise ValueError(f"attention_factor belongs to kind='yarn'; leave it out for kind={self.kind!r}")

    @property
    def ramp_end(self) -> float:
        """`fast_turns`, or what stands in for it: turns from which on a plane keeps its frequency."""
        return _FAST_TURNS.get(self.kind, math.inf) if self.fast_turns is None else self.fast_turns

    @property
    def attention_scale(self) -> float:
        """What cosines and sines are multiplied by; scores grow by its square. 1 for all kinds but "yarn"."""
        if self.kind != "yarn":
            return 1.0
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RotaryScaling:
        """The description whose fields were written to a JSON file.

        Raises:
            ValueError: for a field that there is not, or one that is missing.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        missing = sorted({"kind", "factor"} - set(values))
        if unknown or missing:
            raise ValueError(f"not a rotary scaling: unknown {unknown or 'none'}, missing {missing or 'none'}")
        return cls(**values)


def rotary_frequencies(
    head_dim: int,
    *,
    base: float = 10_000.0,
    scaling: RotaryScaling | None = None,
    length: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """How far each plane of a head turns from one position to the next.

    Args:
        head_dim: D, even.
        base: above 1; unscaled, plane i of D/2 turns by base^(-2i/D): the first by 1, the last by about 1/base.
        scaling: slows the planes.
        length: of the text in tokens; only kind "dynamic" asks, and takes None as not beyond its original length.
        device: of the result.

    Returns:
        (D/2,) in radians, fp32.
    """
    even = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)  # (D/2,): 2i
    frequencies = 1.0 / base ** (even / head_dim)
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind in ("ntk", "dynamic"):
        return frequencies / _growth(scaling, length) ** (even / max(head_dim - 2, 1))  # slowed by 1 … factor
    ramp = _yarn_ramp if scaling.kind == "yarn" else _llama3_ramp
    kept = ramp(frequencies, base, scaling)  # (D/2,): 1 for a plane that stays as it is, 0 for one slowed by factor
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def _growth(scaling: RotaryScaling, length: int | None) -> float:
    if scaling.kind == "ntk":
        return scaling.factor
    original = cast(int, scaling.original_n_positions)  # this kind has it
    return scaling.factor * max(length or 0, original) / original - (scaling.factor - 1)


def _yarn_ramp(frequencies: Tensor, base: float, scaling: RotaryScaling) -> Tensor:
    D, original = 2 * frequencies.size(0), cast(int, scaling.original_n_positions)

    def plane(turns: float) -> float:  # the plane, as a fraction, that turns so often within the original length
        return D * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = plane(scaling.ramp_end), plane(scaling.slow_turns)
    if scaling.rounded:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, D - 1)
    planes = torch.arange(D // 2, dtype=torch.float32, device=frequencies.device)
    width = max(last - first, 0.001)  # a ramp without width becomes a step
    return 1 - ((planes - first) / width).clamp(0, 1)


def _llama3_ramp(frequencies: Tensor, base: float, scaling: RotaryScaling) -> Tensor:
    turns = cast(int, scaling.original_n_positions) * frequencies / (2 * math.pi)  # within the original length
    return ((turns - scaling.slow_turns) / (scaling.ramp_end - scaling.slow_turns)).clamp(0, 1)
