"""The course's running chart: how far each model so far stays above the floor of tales."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gptlib.measured import recorded
from gptlib.plots.style import BLUE, GREY, VERMILION, Picture, picture

# The models of the course in their order, with the lesson that measures each.
LADDER = {
    "bigram": 2,
    "one head": 3,
    "many heads": 4,
    "positions": 5,
    "block": 6,
    "GPT": 7,
}
BUNDLED = "bundled model"


def plot_ladder(points: Mapping[str, float], *, title: str) -> Picture:
    """The running chart with this lesson's points on it, after those that the lessons before have measured.

    Args:
        points: name to nats per token above the floor. A name of `LADDER`, or "bundled model", takes its place there;
            others, such as "you", come last and unconnected.
        title: states the finding.

    Raises:
        ValueError: without a point, or for one that is no finite number.
    """
    if not points or not all(math.isfinite(nats) for nats in points.values()):
        raise ValueError(f"points={dict(points)}: give at least one, each a finite number of nats")
    here = [lesson for name, lesson in LADDER.items() if name in points]
    known = recorded("ladder")
    before = [name for name, lesson in LADDER.items() if name in known and lesson < min(here, default=math.inf)]
    heights = {name: known[name] for name in (*before, BUNDLED) if name in known} | dict(points)
    steps = [name for name in (*LADDER, BUNDLED) if name in heights]
    places = [*steps, *(name for name in points if name not in steps)]
    said = [
        f"{name}: {heights[name]:.3f} nats above the floor{'' if name in points else ' (recorded)'}" for name in places
    ]
    figure, axes = picture(6.8, 3.1, title=title, alt="; ".join(said))
    axes.plot(places, [heights[name] for name in places], linestyle="none")  # the order of the places
    axes.plot(steps, [heights[name] for name in steps], color=GREY, linewidth=1)
    for colour, names, label in (
        (BLUE, [name for name in places if name not in points], "recorded, from earlier lessons"),
        (VERMILION, [name for name in places if name in points], "measured here"),
    ):
        axes.plot(names, [heights[name] for name in names], "o", color=colour, label=label)
    for name in places:
        nats = heights[name]
        text = f"{nats:.2f}" if nats >= 0.1 else f"{nats:.3f}"
        axes.annotate(text, (name, nats), textcoords="offset points", xytext=(4, 7), fontsize=9)
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1.2)
    top = max(heights.values())
    axes.set(ylabel="nats per token above the floor", ylim=(-0.05 * top, 1.15 * top))
    axes.margins(x=0.1)
    axes.legend(fontsize=9)
    return figure
