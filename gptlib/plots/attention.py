"""Attention weights as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from numpy.typing import ArrayLike, NDArray

from gptlib.plots.style import BLUE, VERMILION, Picture, array, picture, style, ticks, visible

# Weights are drawn by their square root, as in the live view, so that small ones can be told apart.
_WEIGHT = PowerNorm(0.5, vmin=0, vmax=1)
_WEIGHT_TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1]
_CHANGE = LinearSegmentedColormap.from_list("change", [BLUE, "white", VERMILION])
_SHORT = {"previous": "prev", "duplicate": "same", "induction": "induct"}
_CHANGE_TICKS = [-1, -0.25, 0, 0.25, 1]


def plot_attention(
    weights: ArrayLike, tokens: Sequence[str], *, title: str, ylabel: str = "query: the token that looks"
) -> Picture:
    """One head's attention as a map: rows look, columns are looked at.

    Args:
        weights: (T, S), each row summing to 1.
        tokens: S labels; the rows are the last T of them.
        title: states the finding.
        ylabel: names the rows.

    Raises:
        ValueError: if shapes and labels do not fit.
    """
    w = array(weights, 2)
    T, S = w.shape
    if len(tokens) != S or T > S:
        raise ValueError(
            f"weights have shape {(T, S)} and there are {len(tokens)} tokens; give a token for each column, and T ≤ S"
        )
    q, k = divmod(int(np.argmax(w[1:])) + S if T > 1 else 0, S)
    query = tokens[S - T + q]
    alt = (
        f"{title}. Map of {T} queries by {S} keys; beyond the first row the largest weight is {w[q, k]:.2f}, from "
        f"{visible(query)!r} to {visible(tokens[k])!r}."
    )
    side = min(6.5, 1.6 + 0.28 * S)
    figure, axes = picture(side + 0.9, side * max(T / S, 0.35) + 0.3, alt=alt, title=title)
    image = axes.imshow(_causal(w), cmap="viridis", norm=_WEIGHT, aspect="equal" if T == S else "auto")
    every = max(1, S // 40)
    ticks(axes, "x", range(0, S, every), [visible(t) for t in tokens[::every]])
    ticks(axes, "y", range(0, T, every), [visible(t) for t in tokens[S - T :][::every]])
    if max(len(visible(t)) for t in tokens) > 1:
        axes.tick_params("x", rotation=90)
    axes.set(xlabel="key: the token looked at", ylabel=ylabel)
    axes.spines[:].set_visible(False)
    _weight_bar(figure, image, axes)
    return figure


def plot_attention_heads(weights: ArrayLike, *, title: str, labels: Sequence[str] = ()) -> Picture:
    """All heads of a model as small maps: a row for each layer, a column for each head.

    Args:
        weights: (L, H, T, T).
        title: states the finding.
        labels: a word for each head, layer by layer, such as its pattern; written into the map's empty corner unless
            it is "mixed".

    Raises:
        ValueError: if there are labels, and not one for each head.
    """
    w = array(weights, 4)
    L, H, T, _ = w.shape
    if labels and len(labels) != L * H:
        raise ValueError(f"{len(labels)} labels for {L} layers of {H} heads; give {L * H}")
    sharpest = w.max(axis=-1).mean(axis=-1)  # (L, H)
    layer, head = divmod(int(np.argmax(sharpest)), H)
    alt = (
        f"{title}. {L} layers of {H} heads on {T} tokens. The sharpest is layer {layer}, head {head}: "
        f"its largest weight is {sharpest[layer, head]:.2f} on average over queries."
    )
    named = {(n // H, n % H): label for n, label in enumerate(labels) if label != "mixed"}
    if named:
        told = ", ".join(f"{label} in layer {n}, head {h}" for (n, h), label in list(named.items())[:12])
        alt = f"{alt} Clear patterns: {told}."
    cell = min(1.1, 6.2 / max(H, 4))
    w = _pooled(w, cell)
    T = w.shape[2]
    mosaic, step = _mosaic(w)
    figure, axes = picture(H * cell + 1.6, min(L * cell + 1.1, 14), alt=alt, title=title)
    image = axes.imshow(mosaic, cmap="viridis", norm=_WEIGHT, interpolation="antialiased")
    _number(axes, L, H, T, step)
    for (n, h), label in named.items():
        corner = (h * step + T - 0.5, n * step)
        short = label if cell > 0.8 else _SHORT.get(label, label)
        axes.annotate(short, corner, ha="right", va="top", fontsize=max(4.0, min(8.0, 9 * cell)), parse_math=False)
    axes.set(xlabel="head (in each map, columns are looked at)", ylabel="layer (in each map, rows look)")
    _weight_bar(figure, image, axes)
    return figure


def plot_attention_pair(weights: ArrayLike, other: ArrayLike, *, title: str, same: int = 0) -> Picture:
    """All heads of a model on two texts, side by side, and the second minus the first.

    Args:
        weights: of the first text, (L, H, T, T).
        other: of the second, (L, H, S, S).
        title: states the finding.
        same: with how many equal tokens both texts begin; in those rows a causal model cannot differ.

    Raises:
        ValueError: if the two are not of one model's shape.
    """
    a, b = array(weights, 4), array(other, 4)
    if a.shape[:2] != b.shape[:2]:
        raise ValueError(f"{a.shape[:2]} and {b.shape[:2]} layers and heads; give the weights of one model")
    (L, H), T = a.shape[:2], min(a.shape[2], b.shape[2])
    change = b[:, :, :T, :T] - a[:, :, :T, :T]
    change[:, :, :same] = np.nan  # nothing to see there, and rounding to be mistaken for something
    most = "both begin with the same tokens, as far as both go"
    if same < T:
        layer, head, q, k = np.unravel_index(np.nanargmax(np.abs(change)), change.shape)
        most = (
            f"the largest change is {change[layer, head, q, k]:+.2f}, in layer {layer}, head {head}, "
            f"from token {q} to token {k}"
        )
    tokens = f"{a.shape[2]} and on {b.shape[2]} tokens"
    alt = f"{title}. {L} layers of {H} heads on {tokens}, and the second minus the first; {most}."
    cell = min(0.55, 2.4 / max(H, 4))
    a, b, change = (_pooled(w, cell) for w in (a, b, change))
    figure, axes = picture(3 * H * cell + 2.6, min(L * cell + 1.1, 14), alt=alt)
    figure.clear()
    with style():
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
        panels = figure.subplots(1, 3, sharey=False)
    for axes, w, name in zip(panels, (a, b, change), ("first text", "second text", "second minus first"), strict=True):
        mosaic, step = _mosaic(w, causal=w is not change)
        if w is change:
            sized = np.sign(mosaic) * np.sqrt(np.abs(mosaic))
            image = axes.imshow(sized, cmap=_CHANGE, vmin=-1, vmax=1, interpolation="nearest")
            bar = figure.colorbar(image, ax=axes, shrink=min(0.7, 4 / figure.get_figheight()), aspect=22)
            bar.set_ticks(
                [float(np.sign(t) * abs(t) ** 0.5) for t in _CHANGE_TICKS],
                labels=[f"{t:+g}" if t else "0" for t in _CHANGE_TICKS],
            )
            bar.set_label("change of weight (blue: less)")
            bar.outline.set_visible(False)
        else:
            image = axes.imshow(mosaic, cmap="viridis", norm=_WEIGHT, interpolation="antialiased")
        _number(axes, L, H, w.shape[2], step)
        axes.set_title(name, fontsize=10, fontweight="normal")
        axes.set(xlabel="head")
        if w is b:
            _weight_bar(figure, image, axes)
    panels[0].set_ylabel("layer (in each map, rows look)")
    return figure


def _mosaic(w: NDArray[np.float64], causal: bool = True) -> tuple[NDArray[np.float64], int]:
    """The maps of (L, H, T, T) in one, layers below one another, and how far apart they begin."""
    L, H, T, _ = w.shape
    gap = max(1, T // 12)
    step = T + gap
    mosaic = np.full((L * step - gap, H * step - gap), np.nan)
    for layer in range(L):
        for head in range(H):
            one = w[layer, head]
            mosaic[layer * step : layer * step + T, head * step : head * step + T] = _causal(one) if causal else one
    return mosaic, step


def _pooled(w: NDArray[np.float64], cell: float) -> NDArray[np.float64]:
    """Maps with no more cells than `cell` inches show, each with the largest weight (or change) of those it stands for.

    On average a column that every row looks at, one cell wide, would vanish.
    """
    L, H, T, _ = w.shape
    size = -(-T // max(24, round(80 * cell)))  # rounded up
    if size == 1:
        return w
    n = -(-T // size)
    padded = np.full((L, H, n * size, n * size), np.nan)
    padded[:, :, :T, :T] = w
    blocks = padded.reshape(L, H, n, size, n, size).swapaxes(3, 4).reshape(L, H, n, n, -1)
    known = np.nan_to_num(blocks)
    largest = np.take_along_axis(known, np.abs(known).argmax(-1)[..., None], -1)[..., 0]
    return np.where(np.isnan(blocks).all(-1), np.nan, largest)


def _number(axes: Axes, L: int, H: int, T: int, step: int) -> None:
    middle = (T - 1) / 2
    ticks(axes, "x", [middle + h * step for h in range(H)], [str(h) for h in range(H)])
    ticks(axes, "y", [middle + n * step for n in range(L)], [str(n) for n in range(L)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _causal(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blank keys that come later than their query, if none has weight: forbidden is not the same as small."""
    T, S = weights.shape
    later = np.triu(np.ones((T, S), dtype=bool), k=1 + S - T)
    return weights if weights[later].any() else np.where(later, np.nan, weights)


def _weight_bar(figure: Picture, image: Any, axes: Axes) -> None:
    shrink = min(0.7, 4 / figure.get_figheight())
    bar = figure.colorbar(image, ax=axes, shrink=shrink, aspect=22, ticks=_WEIGHT_TICKS, format="%g")
    bar.set_label("weight (colour: its square root)")
    bar.outline.set_visible(False)
