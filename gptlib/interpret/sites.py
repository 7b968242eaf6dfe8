"""Where one can look and edit: the names of a model's activations, and which part of an activation is meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from gptlib.config import GPTConfig
from gptlib.model import GPT
from gptlib.recording import listening


@lru_cache(maxsize=32)
def activation_names(config: GPTConfig) -> Mapping[str, int | None]:
    """Every name that `record` gives to a model of this config, in the order in which they are computed.

    They are found by running a very narrow model of the same parts, so no config can get ahead of this list.

    Returns:
        Name to the number of heads of the activation; None for one without an axis of heads. Activations with heads are
        (B, heads, T, ...), all others (B, T, ...).

    Example:
        >>> names = activation_names(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> names["blocks.1.attention.weights"], names["blocks.1.residual"]
        (3, None)
    """
    found: dict[str, int | None] = {}

    def keep(name: str, activation: Tensor) -> Tensor:
        found[name] = activation.size(1) if activation.dim() == 4 else None
        return activation

    narrow = dataclasses.replace(config, vocab_size=1, n_embd=2 * config.n_head, n_inner=1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # its weights are drawn, and nobody's numbers may move
        model = GPT(narrow).eval()
        with listening(model, keep):
            model(torch.zeros(1, 1, dtype=torch.long))
    return MappingProxyType(found)


def check_sites(model: GPT, names: str | Iterable[str]) -> list[str]:
    """The names as a list.

    Raises:
        ValueError: for none, or for a name that the model does not have, with the nearest one.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no activation is named; give at least one, for example 'blocks.0.residual'")
    known = activation_names(model.config)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"names are such as {', '.join(list(known)[:3])}"
            raise ValueError(f"{name!r} is no activation of this model; {hint}")
    return names


def check_layer(model: GPT, layer: int) -> int:
    """The layer itself.

    Raises:
        ValueError: if the model does not have it; negative numbers are not counted from the end.
    """
    return _check_index("layer", layer, model.config.n_layer)


def check_heads(model: GPT, name: str, heads: Iterable[int]) -> list[int]:
    """The heads of one activation as a list.

    Raises:
        ValueError: if the activation has no heads, or not these.
    """
    count = activation_names(model.config)[name]
    if count is None:
        raise ValueError(
            f"{name!r} has no heads; leave heads=None, or name an activation that has some, such as 'heads'"
        )
    return [_check_index(f"head of {name!r}", head, count) for head in heads]


def select(activation: Tensor, heads: list[int] | None, positions: list[int] | None) -> Tensor:
    """A mask over an activation: True in the given heads at the given positions, everywhere for None.

    Args:
        activation: (B, T, X) or (B, H, T, X).
        heads: of the axis H.
        positions: of the axis T; -1 is the last.

    Returns:
        bool, (1, T, 1) or (1, H, T, 1), to be broadcast.

    Raises:
        ValueError: for a position that the text does not have.
    """
    T = activation.size(-2)
    at = torch.zeros(T, dtype=torch.bool, device=activation.device)
    at[slice(None) if positions is None else check_positions(positions, T)] = True
    if activation.dim() == 3:
        return at[None, :, None]  # (1, T, 1)
    of = torch.zeros(activation.size(1), dtype=torch.bool, device=activation.device)
    of[slice(None) if heads is None else heads] = True
    return (of[:, None] & at)[None, :, :, None]  # (H, 1) & (T,) -> (1, H, T, 1)


def check_positions(positions: Iterable[int], length: int) -> list[int]:
    """The positions as a list.

    Raises:
        ValueError: for one that a text of `length` tokens does not have.
    """
    positions = [int(position) for position in positions]
    for position in positions:
        if not -length <= position < length:
            raise ValueError(
                f"position {position} is outside the {length} tokens; use 0 to {length - 1}, or -1 for the last"
            )
    return positions


def _check_index(what: str, index: int, count: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        there = "there is only 0" if count == 1 else f"use 0 to {count - 1}"
        raise ValueError(f"{what} {index!r} does not exist; {there}")
    return index
