"""What a run's log says: losses, and abilities as they rise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlib.plots.style import COLOURS, GREY, Picture, picture

Log = Sequence[Mapping[str, Any]]


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


def plot_abilities(
    log: Log | str | Path,
    *,
    title: str,
    what: str = "accuracy",
    status: str = "seen",
    kinds: Sequence[str] | None = None,
) -> Picture:
    """What a model of tales can do while it learns: a line for each ability, named where it ends.

    Args:
        log: of a run with `measure=tales.tracker(tokenizer)`: `TrainResult.log`, a run folder or its `log.jsonl`.
        title: states the finding.
        what: "accuracy", or "log_prob": the mean log-probability in nats of the right words.
        status: "seen", "held out" or "untold".
        kinds: which abilities, for example ["recall", "sum"]; all that were measured if None.

    Raises:
        ValueError: for a log in which no such ability was measured.
    """
    if what not in ("accuracy", "log_prob"):
        raise ValueError(f"what={what!r} was not measured; use accuracy or log_prob")
    entries = [entry for entry in _entries("this run", log) if entry.get("measured")]
    ending = f" {what}" + ("" if status == "seen" else f" ({status})")
    found = [name for entry in entries[:1] for name in entry["measured"] if name.endswith(ending)]
    names = [name for name in found if kinds is None or name.removesuffix(ending) in kinds]
    if not names:
        there = ", ".join(name.removesuffix(ending) for name in found) or "none"
        raise ValueError(
            f"no such ability with status {status!r} is in the log (there: {there}); train with "
            "measure=tales.tracker(tokenizer)"
        )
    percent = 100 if what == "accuracy" else 1
    steps = [entry["step"] for entry in entries]
    lines = {name.removesuffix(ending): [percent * entry["measured"][name] for entry in entries] for name in names}
    unit = "%" if what == "accuracy" else " nats"
    ends = ", ".join(f"{kind} {values[-1]:.{0 if percent == 100 else 2}f}{unit}" for kind, values in lines.items())
    alt = f"{title}. At step {steps[-1]:,}: {ends}."
    figure, axes = picture(7.2, 4.0, alt=alt, title=title)
    order = sorted(lines, key=lambda kind: lines[kind][-1])
    low, high = (0.0, 100.0) if percent == 100 else (min(map(min, lines.values())), max(map(max, lines.values())))
    places = _apart([lines[kind][-1] for kind in order], gap=(high - low or 1) / 16, most=high)
    for i, (kind, place) in enumerate(zip(order, places, strict=True)):
        colour, dash = COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else "--"
        axes.plot(steps, lines[kind], dash, marker="o", markersize=3.5, color=colour)
        beside = steps[-1] + 0.02 * (steps[-1] - steps[0] or 1)
        end = (steps[-1], lines[kind][-1])
        words = kind if dash == "-" else f"{kind} (dashed)"
        axes.annotate(words, end, (beside, place), color=colour, va="center", annotation_clip=False, parse_math=False)
    margin = 0.04 * (high - low or 1)
    axes.set(xlabel="step", ylim=(low - margin, high + margin))
    axes.set_ylabel("right words preferred (%)" if percent == 100 else "log-probability of the right words (nats)")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure


def _entries(name: str, log: Log | str | Path) -> Log:
    if isinstance(log, str | Path):
        path = Path(log)
        path = path / "log.jsonl" if path.is_dir() else path
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not log:
        raise ValueError(f"the log of {name!r} has no entries; train for at least one logged step")
    return log


def _apart(heights: Sequence[float], *, gap: float, most: float) -> list[float]:
    """Ascending heights, moved up or down as little as it takes to stand `gap` apart and not above `most`."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + gap) if places else height)
    ceiling = most
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places
