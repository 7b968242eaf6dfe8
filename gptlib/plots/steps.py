"""The steps of attention side by side: what each one makes of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from numpy.typing import ArrayLike

from gptlib.plots.style import Picture, array, picture, style, ticks, visible


def plot_attention_steps(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike, tokens: Sequence[str], *, title: str
) -> Picture:
    """QKᵀ, ÷ √D, + mask and softmax as maps of queries by keys, and the output; numbers are written in small ones.

    Args:
        q: (T, D).
        k: (S, D).
        v: (S, E).
        mask: (T, S), added.
        tokens: S labels; the queries are the last T of them.
        title: states the finding.

    Raises:
        ValueError: if shapes and labels do not fit.
    """
    queries, keys, values = array(q, 2), array(k, 2), array(v, 2)
    (T, D), (S, E) = queries.shape, values.shape
    forbid = array(mask, 2)
    if keys.shape != (S, D) or forbid.shape != (T, S) or len(tokens) != S or T > S:
        raise ValueError(
            f"q {queries.shape}, k {keys.shape}, v {values.shape}, mask {forbid.shape} and {len(tokens)} tokens do not "
            "fit; expected (T, D), (S, D), (S, E), (T, S), S and T ≤ S"
        )
    products = queries @ keys.T  # (T, D) @ (D, S) -> (T, S)
    scaled = products / np.sqrt(D)
    masked = scaled + forbid
    weights = np.exp(masked - masked.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    output = weights @ values  # (T, S) @ (S, E) -> (T, E)
    most = int(weights[-1].argmax())
    alt = (
        f"{title}. Five maps: q·k, divided by √{D}, mask added, softmax, and the output. The last query, "
        f"{visible(tokens[-1])!r}, has products from {products[-1].min():.2f} to {products[-1].max():.2f} and gives "
        f"its largest weight, {weights[-1, most]:.2f}, to {visible(tokens[most])!r}."
    )
    stages = [
        ("q·k", products),
        (f"÷ √{D}", scaled),
        ("+ mask", np.where(np.isneginf(masked), np.nan, masked)),
        ("softmax", np.where(np.isneginf(forbid), np.nan, weights)),
        ("· v: the output", output),
    ]
    columns = min(max(S, 3), 24)
    figure, axes = picture(2 + 5 * (0.55 + 0.16 * columns), 1.5 + 0.2 * min(T, 24), alt=alt)
    axes.remove()
    with style():
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
        for panel, (name, numbers) in zip(figure.subplots(1, 5), stages, strict=True):
            reach = float(np.nanmax(np.abs(numbers))) or 1.0
            scale = PowerNorm(0.5, vmin=0, vmax=1) if name == "softmax" else None
            limits = {} if scale else {"vmin": -reach, "vmax": reach}
            panel.imshow(numbers, cmap="viridis" if scale else "PuOr_r", norm=scale, aspect="auto", **limits)
            panel.set_title(name, fontsize=10, fontweight="normal", parse_math=False)
            panel.spines[:].set_visible(False)
            panel.tick_params(length=0)
            every = max(1, S // 24)
            ticks(panel, "y", [], [])
            if numbers is output:
                panel.set(xlabel=f"{E} numbers", xticks=[])
            else:
                ticks(panel, "x", range(0, S, every), [visible(token) for token in tokens[::every]])
                panel.tick_params("x", rotation=90)
            if name == "q·k":
                ticks(panel, "y", range(0, T, every), [visible(token) for token in tokens[S - T :][::every]])
            if T <= 6 and numbers.shape[1] <= 6:
                for (i, j), number in np.ndenumerate(numbers):
                    if not np.isnan(number):
                        panel.text(
                            j, i, f"{number:.2f}", ha="center", va="center", fontsize=7, color=_on(number, name, reach)
                        )
    return figure


def _on(number: float, name: str, reach: float) -> str:
    """The colour in which a number can be read on its cell."""
    dark = number < 0.4 if name == "softmax" else abs(number) > 0.55 * reach
    return "white" if dark else "black"
