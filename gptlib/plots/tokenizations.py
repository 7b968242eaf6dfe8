"""How tokenizers cut a text: a box for each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.patches import Rectangle

from gptlib.plots.style import GREY, Picture, picture, visible

COLUMNS = 92  # characters in a line
LINES = 10  # of one tokenizer
_FILLS = ("#cfe6f7", "#fbe3c0")  # Okabe and Ito's sky and orange, light enough to read on


def plot_tokenizations(tokens: Mapping[str, Sequence[str]], *, title: str) -> Picture:
    """The tokens of one text by several tokenizers, one under the other.

    Args:
        tokens: for each tokenizer's name the tokens' own texts.
        title: states the finding.

    Raises:
        ValueError: if there is no tokenizer.
    """
    if not tokens:
        raise ValueError("there is no tokenizer to draw; give a name and its tokens")
    counts = ", ".join(f"{len(labels)} tokens for {name}" for name, labels in tokens.items())
    rows: list[tuple[str, list[tuple[float, str, int]]]] = []  # heading or "", then x, label, place of each token
    for name, labels in tokens.items():
        lines = _wrapped([visible(label) for label in labels])
        left = sum(len(line) for line in lines[LINES:])
        rows.append((f"{name}: {len(labels)} tokens" + (f", the last {left} not drawn" if left else ""), []))
        rows.extend(("", line) for line in lines[:LINES])
    figure, axes = picture(8.2, 0.5 + 0.24 * len(rows), alt=f"{title}. {counts}.", title=title)
    axes.set(xlim=(0, COLUMNS), ylim=(len(rows), 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for y, (heading, line) in enumerate(rows):
        if heading:
            axes.text(0, y + 0.6, heading, va="center", fontsize=9, color=GREY, parse_math=False)
        for x, label, place in line:
            axes.add_patch(Rectangle((x, y + 0.08), len(label) + 0.5, 0.84, color=_FILLS[place % 2], linewidth=0))
            axes.text(
                x + 0.25,
                y + 0.5,
                label,
                va="center",
                fontsize=8,
                family=["DejaVu Sans Mono", "DejaVu Sans"],
                parse_math=False,
            )
    return figure


def _wrapped(labels: Sequence[str]) -> list[list[tuple[float, str, int]]]:
    """Lines of (x, label, place), x in characters."""
    lines: list[list[tuple[float, str, int]]] = [[]]
    x = 0.0
    for place, label in enumerate(labels):
        label = label if len(label) < COLUMNS - 2 else label[: COLUMNS - 3] + "…"
        if x + len(label) + 0.6 > COLUMNS:
            lines.append([])
            x = 0.0
        lines[-1].append((x, label, place))
        x += len(label) + 0.6
    return lines
