"""Static figures: what print, GitHub and screen readers get, and what lessons draw.

Every function returns a `Picture`, which a notebook shows when it is a cell's last value. The caller's title states the
finding; the background is white, so that a figure reads the same on a light and on a dark page.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

# Okabe and Ito (2008), "Color Universal Design": told apart by every kind of colour vision; without its pale yellow.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY = "#6b7178"
_STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.size": 10,
    "text.color": "#1f2328",
    "axes.labelcolor": "#1f2328",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "#1f2328",
    "ytick.labelcolor": "#1f2328",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "grid.color": "#e4e7ea",
}
Log = Sequence[Mapping[str, Any]]

# Weights are drawn by their square root, as in the live view, so that small ones can be told apart.
_WEIGHT = PowerNorm(0.5, vmin=0, vmax=1)
_WEIGHT_TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1]
_MARKS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"}
_HIDDEN = re.compile("[\x00-\x1f\x7f-\xa0\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class Picture(Figure):
    """A figure outside pyplot's list, so that a notebook shows it once, with a sentence for those who do not see it.

    `alt` holds the sentence.
    """

    alt: str = ""

    def png(self) -> bytes:
        """The picture as a PNG file of 256 colours, a third of the size: a notebook keeps it in every version."""
        file, small = io.BytesIO(), io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a token may be in any script; a box will do
            self.savefig(file, format="png", bbox_inches="tight", pad_inches=0.15)
        Image.open(file).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(
            small, format="png", optimize=True
        )
        return small.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def style() -> Any:
    """Matplotlib's settings for the course, as a context: `with plots.style(): ...`."""
    return matplotlib.rc_context(_STYLE)  # type: ignore[arg-type]  # its stubs list every key as a literal


def picture(width: float, height: float, *, alt: str, title: str = "") -> tuple[Picture, Axes]:
    """An empty figure with one set of axes in the course's style; sizes in inches."""
    with style():
        figure = Picture(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        figure.alt = alt
        axes = figure.add_subplot()
        axes.set_title(title, parse_math=False)
    return figure, axes


def visible(token: str) -> str:
    r"""A token as a label: spaces and line breaks as marks, control characters by their number.

    Example:
        >>> visible(" the\n")
        '␣the⏎'
    """
    if not token:
        return "∅"
    marked = re.sub("[ \n\r\t]", lambda m: _MARKS[m[0]], token)
    return _HIDDEN.sub(lambda m: f"\\u{{{ord(m[0]):x}}}", marked)


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
    w = _array(weights, 2)
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
    _ticks(axes, "x", range(0, S, every), [visible(t) for t in tokens[::every]])
    _ticks(axes, "y", range(0, T, every), [visible(t) for t in tokens[S - T :][::every]])
    if max(len(visible(t)) for t in tokens) > 1:
        axes.tick_params("x", rotation=90)
    axes.set(xlabel="key: the token looked at", ylabel=ylabel)
    axes.spines[:].set_visible(False)
    _weight_bar(figure, image, axes)
    return figure


def plot_attention_heads(weights: ArrayLike, *, title: str) -> Picture:
    """All heads of a model as small maps: a row for each layer, a column for each head.

    Args:
        weights: (L, H, T, T).
        title: states the finding.
    """
    w = _array(weights, 4)
    L, H, T, _ = w.shape
    gap = max(1, T // 12)
    step = T + gap
    mosaic = np.full((L * step - gap, H * step - gap), np.nan)
    for layer in range(L):
        for head in range(H):
            mosaic[layer * step : layer * step + T, head * step : head * step + T] = _causal(w[layer, head])
    sharpest = w.max(axis=-1).mean(axis=-1)  # (L, H)
    layer, head = divmod(int(np.argmax(sharpest)), H)
    alt = (
        f"{title}. {L} layers of {H} heads on {T} tokens. The sharpest is layer {layer}, head {head}: "
        f"its largest weight is {sharpest[layer, head]:.2f} on average over queries."
    )
    cell = min(1.1, 6.2 / max(H, 4))
    figure, axes = picture(H * cell + 1.6, min(L * cell + 1.1, 14), alt=alt, title=title)
    image = axes.imshow(mosaic, cmap="viridis", norm=_WEIGHT, interpolation="antialiased")
    middle = (T - 1) / 2
    _ticks(axes, "x", [middle + h * step for h in range(H)], [str(h) for h in range(H)])
    _ticks(axes, "y", [middle + n * step for n in range(L)], [str(n) for n in range(L)])
    axes.set(xlabel="head (in each map, columns are looked at)", ylabel="layer (in each map, rows look)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _weight_bar(figure, image, axes)
    return figure


def plot_next_tokens(
    probabilities: ArrayLike, tokens: Sequence[str], *, title: str, before: ArrayLike | None = None, limit: int = 20
) -> Picture:
    """The most probable next tokens as bars.

    Args:
        probabilities: (V,) or the part of it that `tokens` names.
        tokens: a label for each.
        title: states the finding.
        before: probabilities to compare with, drawn in grey behind.
        limit: number of bars.

    Raises:
        ValueError: if there is not one label for each probability.
    """
    p = _array(probabilities, 1)
    b = None if before is None else _array(before, 1)
    if len(tokens) != len(p) or (b is not None and len(b) != len(p)):
        raise ValueError(f"{len(p)} probabilities and {len(tokens)} tokens; give a token for each")
    order = np.argsort(-(p if b is None else b), kind="stable")[:limit]
    listed = ", ".join(f"{visible(tokens[i])} {p[i]:.1%}" for i in order[:5])
    figure, axes = picture(6.5, 0.9 + 0.24 * len(order), alt=f"{title}. {listed}.", title=title)
    rows = np.arange(len(order))
    if b is not None:
        axes.barh(rows, 100 * b[order], height=0.86, color="#d5d9de", label="the model's own")
    axes.barh(rows, 100 * p[order], height=0.5 if b is not None else 0.72, color=BLUE, label="what is drawn from")
    reach = 100 * float(max(p[order].max(), 0 if b is None else b[order].max()))
    for row, i in enumerate(order):
        end = 100 * max(p[i], 0 if b is None else b[i])
        axes.text(end + 0.01 * reach, row, f"{100 * p[i]:.1f}", va="center", fontsize=8.5, color=GREY)
    _ticks(axes, "y", rows, [visible(tokens[i]) for i in order])
    axes.set(xlabel="probability (%)", xlim=(0, 1.12 * reach), ylim=(len(order) - 0.4, -0.6))
    axes.tick_params("y", length=0)
    if b is not None:
        axes.legend(loc="lower right", frameon=False)
    return figure


def plot_losses(
    runs: Mapping[str, Log | str | Path], *, title: str, floor: float | None = None, against: str = "tokens"
) -> Picture:
    """Loss while training: a line for each run, measured validation losses as points on it.

    Args:
        runs: name to log: the `log` of a `TrainResult`, or a run folder or its `log.jsonl`.
        title: states the finding.
        floor: the lowest possible loss, drawn as a line.
        against: "tokens", "step" or "seconds", the horizontal axis.

    Raises:
        ValueError: for a log without entries, or an axis that logs do not have.
    """
    units = {"tokens": "training tokens", "step": "step", "seconds": "time (s)"}
    if against not in units:
        raise ValueError(f"against={against!r} is not in the log; use one of {', '.join(units)}")
    logs = {name: _entries(name, log) for name, log in runs.items()}
    ends = ", ".join(f"{name} ends at {log[-1]['loss']:.3f}" for name, log in logs.items())
    below = "" if floor is None else f" The floor is {floor:.3f}."
    figure, axes = picture(6.8, 3.6, alt=f"{title}. Loss in nats per token: {ends}.{below}", title=title)
    for colour, (name, log) in zip(COLOURS * (1 + len(logs) // len(COLOURS)), logs.items(), strict=False):
        axes.plot([e[against] for e in log], [e["loss"] for e in log], color=colour, label=name)
        measured = [e for e in log if e.get("val_loss") is not None]
        if measured:
            points = [e[against] for e in measured], [e["val_loss"] for e in measured]
            axes.plot(*points, "o", markersize=5, color=colour, markeredgecolor="white", label=f"{name}, validation")
    if floor is not None:
        axes.axhline(floor, color=GREY, linestyle="--", linewidth=1.2, label=f"floor, {floor:.3f}")
    axes.set(xlabel=units[against], ylabel="loss (nats per token)")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False)
    return figure


def _entries(name: str, log: Log | str | Path) -> Log:
    if isinstance(log, str | Path):
        path = Path(log)
        path = path / "log.jsonl" if path.is_dir() else path
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not log:
        raise ValueError(f"the log of {name!r} has no entries; train for at least one logged step")
    return log


def _array(values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    detach = getattr(values, "detach", None)  # a tensor may need a gradient, or lie on another device
    array = np.asarray(detach().float().cpu() if detach else values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"shape {array.shape} has {array.ndim} dimensions; {dimensions} are expected, none of them 0")
    return array


def _causal(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blank keys that come later than their query, if none has weight: forbidden is not the same as small."""
    T, S = weights.shape
    later = np.triu(np.ones((T, S), dtype=bool), k=1 + S - T)
    return weights if weights[later].any() else np.where(later, np.nan, weights)


def _ticks(axes: Axes, which: str, positions: Sequence[float] | range | NDArray[Any], labels: Sequence[str]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(positions), list(labels), fontsize=9, parse_math=False)


def _weight_bar(figure: Picture, image: Any, axes: Axes) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=22, ticks=_WEIGHT_TICKS, format="%g")
    bar.set_label("weight (colour: its square root)")
    bar.outline.set_visible(False)
