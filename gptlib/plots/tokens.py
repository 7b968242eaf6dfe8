"""Distributions over next tokens as bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gptlib.plots.style import BLUE, GREY, Picture, array, picture, ticks, visible


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
    p = array(probabilities, 1)
    b = None if before is None else array(before, 1)
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
    ticks(axes, "y", rows, [visible(tokens[i]) for i in order])
    axes.set(xlabel="probability (%)", xlim=(0, 1.12 * reach), ylim=(len(order) - 0.4, -0.6))
    axes.tick_params("y", length=0)
    if b is not None:
        axes.legend(loc="lower right", frameon=False)
    return figure
