"""Rotary positions: how the score of two equal vectors falls with their distance, under each rule for longer texts."""

from __future__ import annotations

import torch

from gptlib.plots.style import COLOURS, GREY, Picture, picture
from gptlib.positions import RotaryScaling, rotary_frequencies


def plot_distance(
    head_dim: int, n_positions: int, *, title: str, base: float = 10_000.0, factor: float = 4.0
) -> Picture:
    """q·k by distance for a query and a key that are equal before turning, as the mean over planes.

    Args:
        head_dim: D, even.
        n_positions: the trained length; the curves go on to `factor` times that.
        title: states the finding.
        base: of the rotary positions.
        factor: how many times longer the text is than those of training.
    """
    distances = torch.arange(int(n_positions * factor) + 1)
    rules = {
        "plain rotary": None,
        "interpolation": RotaryScaling("linear", factor),
        "NTK": RotaryScaling("ntk", factor),
        "YaRN": RotaryScaling("yarn", factor, original_n_positions=n_positions),
    }
    curves = {}
    for name, scaling in rules.items():
        turns = rotary_frequencies(head_dim, base=base, scaling=scaling)  # (D/2,)
        scale = 1.0 if scaling is None else scaling.attention_scale**2
        curves[name] = (distances[:, None] * turns).cos().mean(-1) * scale  # (T, D/2) -> (T,)
    near = min(10, len(distances) - 1)
    told = ", ".join(f"{name} {curve[near]:.2f}" for name, curve in curves.items())
    alt = f"{title}. At distance {near}: {told}. Trained length {n_positions}, {factor:g} times longer."
    figure, axes = picture(7.0, 3.6, alt=alt, title=title)
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(distances.numpy(), curve.numpy(), "-" if name == "plain rotary" else "--", color=colour, label=name)
    axes.axvline(n_positions, color=GREY, linewidth=1)
    axes.annotate("trained length", (n_positions, 1), (4, -8), textcoords="offset points", color=GREY, fontsize=8.5)
    axes.set(xlabel="distance (tokens)", ylabel="q·k, mean of planes")
    axes.grid(axis="y")
    axes.legend()
    return figure
