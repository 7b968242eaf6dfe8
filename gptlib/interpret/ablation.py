"""Take something away and see what the model can no longer do: heads, half a block, or the sight of a position.

Each function is a context. They nest, within each other and within `record`; open `record` first, so that it sees what
the ablation made:

    with record(model) as run, ablate_heads(model, [(2, 1)]):
        model(ids)

No weight is changed, and after the context, or an error in it, the model is as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from gptlib.interpret.sites import check_heads, check_layer, check_positions, select
from gptlib.model import GPT
from gptlib.recording import listening

Replacement = Literal["zero", "mean", "resample"]
PARTS = ("attention", "mlp")


@contextmanager
def ablate_heads(
    model: GPT,
    heads: Iterable[tuple[int, int]],
    *,
    replace: Replacement = "zero",
    source: Mapping[str, Tensor] | None = None,
    positions: Iterable[int] | None = None,
) -> Iterator[None]:
    """Replace what heads pass on to the output projection.

    "zero" silences a head; "mean" and "resample" leave it saying something plausible that has nothing to do with this
    text, which disturbs the rest of the model less.

    Args:
        model: called by the caller inside the context.
        heads: pairs (layer, head).
        replace: "zero"; "mean", the head's average over all texts and positions of `source`; "resample", its values
            on the text of `source`, position by position.
        source: a recording of other texts, `with record(model) as source: model(others)`.
        positions: of the text that is read; all if None.

    Raises:
        ValueError: for a layer, head or position that is not there, or a source that is missing or does not fit.

    Source: mean ablation as in Wang et al., "Interpretability in the Wild" (2022), section 2.2; resampling as in Chan
    et al., "Causal Scrubbing" (2022).
    """
    sites: dict[str, list[int]] = {}
    for layer, head in heads:
        name = f"blocks.{check_layer(model, layer)}.attention.heads"
        sites.setdefault(name, []).extend(check_heads(model, name, [head]))
    with _replacing(model, dict(sites), replace, source, positions):
        yield


@contextmanager
def ablate_layers(
    model: GPT,
    parts: Iterable[tuple[int, str]],
    *,
    replace: Replacement = "zero",
    source: Mapping[str, Tensor] | None = None,
    positions: Iterable[int] | None = None,
) -> Iterator[None]:
    """Replace what the attention or the feed-forward network of a block adds to the residual stream.

    Args:
        model: called by the caller inside the context.
        parts: pairs (layer, "attention") or (layer, "mlp").
        replace: as in `ablate_heads`; "zero" leaves the part out.
        source: as in `ablate_heads`.
        positions: of the text that is read; all if None.

    Raises:
        ValueError: for a layer, part or position that is not there, or a source that is missing or does not fit.
    """
    sites: dict[str, list[int] | None] = {}
    for layer, part in parts:
        if part not in PARTS:
            raise ValueError(f"{part!r} is no part of a block; ablate 'attention' or 'mlp'")
        sites[f"blocks.{check_layer(model, layer)}.{part}.output"] = None
    with _replacing(model, sites, replace, source, positions):
        yield


@contextmanager
def ablate_positions(model: GPT, positions: Iterable[int], *, layers: Iterable[int] | None = None) -> Iterator[None]:
    """Hide positions: no later query looks at them; each still sees itself.

    Scores of hidden keys become -inf before the softmax, so the other weights of a row grow to sum to 1.

    Args:
        model: called by the caller inside the context.
        positions: of the keys; -1 is the last.
        layers: where; all if None.

    Raises:
        ValueError: for a layer or a position that is not there.

    Source: "attention knockout" of Geva et al., "Dissecting Recall of Factual Associations in Auto-Regressive Language
    Models" (2023), section 4.
    """
    layers = range(model.config.n_layer) if layers is None else layers
    names = {f"blocks.{check_layer(model, layer)}.attention.scores" for layer in layers}
    hidden = list(positions)

    def edit(name: str, scores: Tensor) -> Tensor:
        if name not in names:
            return scores
        T, S = scores.shape[-2:]
        others = torch.ones(T, S, dtype=torch.bool, device=scores.device)
        others[torch.arange(T), torch.arange(S - T, S)] = False  # queries are the last T of the keys' positions
        keys = torch.zeros(S, dtype=torch.bool, device=scores.device)
        keys[check_positions(hidden, S)] = True
        return scores.masked_fill(others & keys, -math.inf)

    with listening(model, edit):
        yield


@contextmanager
def _replacing(
    model: GPT,
    sites: Mapping[str, list[int] | None],
    replace: Replacement,
    source: Mapping[str, Tensor] | None,
    positions: Iterable[int] | None,
) -> Iterator[None]:
    if replace not in ("zero", "mean", "resample"):
        raise ValueError(f"replace={replace!r} is unknown; choose 'zero', 'mean' or 'resample'")
    if (source is None) != (replace == "zero"):
        need = "needs no source" if replace == "zero" else "needs source=, a recording of other texts"
        raise ValueError(f"replace={replace!r} {need}")
    values = {name: torch.zeros(()) if source is None else recorded(source, name) for name in sites}
    if replace == "mean":
        # Over texts and positions, so that texts of any length can be read: (1, 1, C) or (1, H, 1, D).
        values = {name: value.mean(dim=(0, -2), keepdim=True) for name, value in values.items()}
    at = None if positions is None else list(positions)

    def edit(name: str, activation: Tensor) -> Tensor:
        if name not in sites:
            return activation
        value = values[name].to(activation)
        if replace == "resample":
            check_fits(name, value, activation)
        return replaced(activation, value, sites[name], at)

    with listening(model, edit):
        yield


def recorded(source: Mapping[str, Tensor], name: str) -> Tensor:
    """An activation of a recording.

    Raises:
        ValueError: if it was not recorded.
    """
    if name not in source:
        raise ValueError(f"the source holds no {name!r}; record a whole run: with record(model) as source: model(ids)")
    return source[name]


def check_fits(name: str, value: Tensor, activation: Tensor) -> None:
    """Raise a ValueError unless `value` has the activation's shape; a batch of one serves every text."""
    if value.shape[1:] != activation.shape[1:] or value.size(0) not in (1, activation.size(0)):
        raise ValueError(
            f"{name!r} is {tuple(activation.shape)} here and {tuple(value.shape)} in the source; "
            "record texts of the same length, one of them or as many as are read"
        )


def replaced(activation: Tensor, value: Tensor, heads: list[int] | None, positions: list[int] | None) -> Tensor:
    """A copy of `activation` with `value` in some heads, at some positions."""
    return torch.where(select(activation, heads, positions), value, activation)
