"""How every figure looks, and the small parts that several of them share."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


def array(values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    """`values` as float64 with so many dimensions, none of them 0; a tensor may need a gradient or lie elsewhere."""
    detach = getattr(values, "detach", None)
    array = np.asarray(detach().float().cpu() if detach else values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"shape {array.shape} has {array.ndim} dimensions; {dimensions} are expected, none of them 0")
    return array


def ticks(axes: Axes, which: str, positions: Sequence[float] | range | NDArray[Any], labels: Sequence[str]) -> None:
    """Label an axis; no label is read as mathematics."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(positions), list(labels), fontsize=9, parse_math=False)
