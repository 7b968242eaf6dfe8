"""The position explorer: what tells a GPT the order of its tokens."""

from __future__ import annotations

import traitlets

from gptlib.config import GPTConfig
from gptlib.plots import Picture
from gptlib.plots.positions import plot_distance
from gptlib.widgets.base import View, view_module, view_style

PARTS = ("sinusoids", "rotary", "decay", "alibi", "beyond")


class PositionExplorer(View):
    """Sinusoids, rotary turns, the decay of scores with distance, ALiBi, and what lies beyond the trained length.

    Everything is computed in the browser, and no model is asked: the view shows what the formulas say.

    Args:
        config: takes the features of a head, the trained length, the rotary base and the number of heads from here;
            GPT-2's numbers if None.
        view: what is open first: "sinusoids", "rotary", "decay", "alibi" or "beyond".

    Raises:
        ValueError: for another view, or heads whose features make no planes.

    Example:
        >>> PositionExplorer(GPTConfig.preset("tales"), view="rotary").head_dim
        32
    """

    _esm = view_module("position_explorer")
    _css = view_style("charts", "position_explorer")
    view = traitlets.Unicode().tag(sync=True)
    head_dim = traitlets.Int().tag(sync=True)
    n_positions = traitlets.Int().tag(sync=True)
    base = traitlets.Float().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    width = traitlets.Int().tag(sync=True)

    def __init__(self, config: GPTConfig | None = None, *, view: str = "rotary") -> None:
        config = config or GPTConfig.preset("gpt2")
        if view not in PARTS:
            raise ValueError(f"view={view!r} is unknown; choose one of {', '.join(PARTS)}")
        if config.head_dim % 2:
            raise ValueError(f"heads of {config.head_dim} features make no planes; use an even n_embd / n_head")
        width = min(config.n_embd - config.n_embd % 2, 128)  # of the sinusoids: more columns than that look the same
        super().__init__(
            view=view,
            head_dim=config.head_dim,
            n_positions=config.n_positions,
            base=config.rotary_base,
            heads=min(config.n_head, 32),
            width=width,
        )

    def _picture(self) -> Picture:
        title = "Turned by rotary positions, equal vectors agree less the further they are apart"
        return plot_distance(self.head_dim, self.n_positions, title=title, base=self.base)

    def _sentence(self) -> str:
        return (
            f"PositionExplorer: {self.head_dim // 2} planes a head, base {self.base:g}, trained on {self.n_positions} "
            f"positions, {self.heads} heads"
        )
