"""Where parameters sit, as shares of a model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gptlib.config import GPTConfig
from gptlib.plots.style import COLOURS, GREY, Picture, picture, ticks
from gptlib.scaling import parameters

PARTS = ("token embeddings", "position embeddings", "attention", "feed-forward", "norms", "output map")


def plot_parameters(configs: Mapping[str, GPTConfig], *, title: str) -> Picture:
    """Each model as a bar of its parts' shares, its exact number of parameters beside it.

    Args:
        configs: name to config, from the top.
        title: states the finding.

    Raises:
        ValueError: if there are none.
    """
    if not configs:
        raise ValueError("no configs; pass at least one, for example {'gpt2': GPTConfig.preset('gpt2')}")
    counts = {name: parameters(config) for name, config in configs.items()}
    told = "; ".join(
        f"{name} {count.total:,}: " + ", ".join(f"{part} {count.share(part):.1%}" for part in count)
        for name, count in counts.items()
    )
    figure, axes = picture(7.4, 1.2 + 0.36 * len(counts), alt=f"{title}. {told}.", title=title)
    left = np.zeros(len(counts))
    for colour, part in zip(COLOURS, PARTS, strict=False):
        shares = np.array([100 * count.share(part) for count in counts.values()])
        if shares.any():
            axes.barh(range(len(counts)), shares, left=left, height=0.7, color=colour, label=part)
        left += shares
    for row, count in enumerate(counts.values()):
        axes.text(101, row, f"{count.total:,}", va="center", fontsize=8.5, color=GREY)
    ticks(axes, "y", range(len(counts)), list(counts))
    axes.set(xlabel="share of all parameters (%)", xlim=(0, 100), ylim=(len(counts) - 0.4, -0.6))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / (0.4 + 0.36 * len(counts))), ncols=3, fontsize=8.5)
    return figure
