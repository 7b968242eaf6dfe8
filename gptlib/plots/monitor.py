"""A training run at a glance: its loss above the floor, and beside it the abilities that were measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gptlib.plots.style import BLACK, BLUE, COLOURS, GREY, VERMILION, Picture, picture, style


def plot_run(
    log: Sequence[Mapping[str, Any]],
    *,
    title: str,
    floor: float | None = None,
    recorded: Sequence[Mapping[str, Any]] = (),
    recorded_name: str = "recorded",
) -> Picture:
    """A run's loss, with what was measured on the way beside it, if anything was.

    Args:
        log: entries as `train` writes them; may be empty, before the first logged step.
        title: states the finding.
        floor: the lowest possible loss, drawn as a line.
        recorded: the log of an earlier run, drawn dashed.
        recorded_name: its label.
    """
    measured = [entry for entry in log if entry.get("measured")] or [
        entry for entry in recorded if entry.get("measured")
    ]
    names = [n for n in (measured[0]["measured"] if measured else []) if n.endswith(" accuracy")][: len(COLOURS)]
    figure, axes = picture(
        9.6 if names else 6.8, 3.6, alt=_words(title, log, floor, recorded, recorded_name), title=title
    )
    if recorded:
        axes.plot(*_line(recorded, "loss"), "--", color=BLACK, linewidth=1.2, label=recorded_name)
    if log:
        axes.plot(*_line(log, "loss"), color=BLUE, label="this run")
    if any("val_loss" in entry for entry in log):
        points = _line(log, "val_loss")
        axes.plot(*points, "o", markersize=5, color=VERMILION, markeredgecolor="white", label="validation")
    if floor is not None:
        axes.axhline(floor, color=GREY, linestyle="--", linewidth=1.2, label=f"floor, {floor:.3f}")
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right")  # where a falling loss leaves room
    panels = [axes]
    if names:
        axes.set_subplotspec(figure.add_gridspec(1, 2)[0])
        with style():
            right = figure.add_subplot(1, 2, 2)
        for colour, name in zip(COLOURS, names, strict=False):
            values = [100 * entry["measured"][name] for entry in measured]
            steps = [entry["step"] for entry in measured]
            right.plot(steps, values, marker="o", markersize=3.5, color=colour, label=name.removesuffix(" accuracy"))
        right.set(xlabel="step", ylabel="right words preferred (%)", ylim=(-4, 104))
        right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        panels.append(right)
    for panel in panels:
        panel.grid(axis="y")
        panel.set_axisbelow(True)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure


def _line(log: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    found = [entry for entry in log if entry.get(name) is not None]
    return [entry["step"] for entry in found], [entry[name] for entry in found]


def _words(
    title: str, log: Sequence[Mapping[str, Any]], floor: float | None, recorded: Sequence[Mapping[str, Any]], name: str
) -> str:
    parts = [title.rstrip(".")]
    if log:
        parts.append(f"Loss {log[-1]['loss']:.3f} nats per token at step {log[-1]['step']:,}")
    if recorded:
        parts.append(f"The loss of {name} ended at {recorded[-1]['loss']:.3f} after {recorded[-1]['step']:,} steps")
    if floor is not None:
        parts.append(f"The floor is {floor:.3f}")
    last: dict[str, float] = next((entry["measured"] for entry in reversed(log) if entry.get("measured")), {})
    told = [f"{re.sub(' accuracy$', '', n)} {value:.0%}" for n, value in last.items() if n.endswith(" accuracy")]
    return ". ".join([*parts, *([f"Measured: {', '.join(told)}"] if told else [])]) + "."
