"""How well somebody guessed: their mean loss beside that of models, and whether they meant what they said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from gptlib.plots.style import BLUE, GREY, VERMILION, Picture, picture, style

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def plot_guesses(nats: Mapping[str, float], said: Sequence[tuple[float, bool]], *, n: int) -> Picture:
    """Mean losses as bars, and how often words came true by the probability that they were given.

    Args:
        nats: name to mean loss in nats a word; the first is drawn in another colour if it is "you".
        said: for every word that was named, its probability in (0, 1) and whether it was right.
        n: over how many words the losses are.
    """
    best = min(nats, key=lambda name: nats[name])
    title = (
        "Nobody has played yet"
        if "you" not in nats
        else f"You paid {nats['you']:.2f} nats a word, {best} {nats[best]:.2f}"
    )
    losses = ", ".join(f"{name} {value:.2f}" for name, value in nats.items())
    bins = [[right for p, right in said if low < p <= high] for low, high in pairwise(EDGES)]
    means = [[p for p, _ in said if low < p <= high] for low, high in pairwise(EDGES)]
    came = "; ".join(
        f"of {len(right)} words given {np.mean(p):.0%} on average {np.mean(right):.0%} came true"
        for p, right in zip(means, bins, strict=True)
        if right
    )
    alt = f"{title}. Mean loss over {n} words in nats: {losses}." + (f" Calibration: {came}." if came else "")
    figure, axes = picture(8.4, 2.9, alt=alt, title=title)
    axes.remove()
    with style():
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(nats)
    left.barh(names, list(nats.values()), color=[VERMILION if name == "you" else BLUE for name in names])
    for name, value in nats.items():
        left.annotate(f"{value:.2f}", (value, name), textcoords="offset points", xytext=(4, -3), fontsize=9, color=GREY)
    left.invert_yaxis()
    left.margins(x=0.15)
    left.set_title(title, parse_math=False)
    left.set(xlabel=f"loss (nats per word, {n} words)")
    right.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1.2)
    for p, hits in zip(means, bins, strict=True):
        if hits:
            x, y = 100 * float(np.mean(p)), 100 * float(np.mean(hits))
            right.plot(x, y, "o", color=VERMILION, markersize=4 + 2 * len(hits) ** 0.5)
            right.annotate(str(len(hits)), (x, y), textcoords="offset points", xytext=(7, -3), fontsize=8, color=GREY)
    right.set_title("Calibrated is on the line" if said else "Calibration: no guesses yet", parse_math=False)
    right.set(xlabel="you said (%)", ylabel="came true (%)", xlim=(-4, 104), ylim=(-4, 104))
    return figure
