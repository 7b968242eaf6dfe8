"""The parameter map: where a GPT's parameters sit."""

from __future__ import annotations

from typing import Any

import traitlets

from gptlib.config import PRESETS, GPTConfig
from gptlib.plots import Picture
from gptlib.plots.parameters import plot_parameters
from gptlib.scaling import parameters
from gptlib.widgets.base import View, view_module, view_style


class ParameterMap(View):
    """Every parameter of a GPT as area, counted exactly, with sliders for width, layers, heads and vocabulary.

    The counts are computed in the browser from the config alone; GPT-3 needs no more memory than the tales model.

    Args:
        model: a preset's name, or a config, which is then called "yours" beside the presets.

    Raises:
        ValueError: for an unknown preset.

    Example:
        >>> ParameterMap("gpt2-xl").preset
        'gpt2-xl'
    """

    _esm = view_module("parameter_map")
    _css = view_style("charts", "parameter_map")
    presets: Any = traitlets.Dict().tag(sync=True)
    preset = traitlets.Unicode().tag(sync=True)

    def __init__(self, model: str | GPTConfig = "gpt2") -> None:
        own = {} if isinstance(model, str) else {"this model": model}
        self._configs = own | {name: GPTConfig.preset(name) for name in PRESETS}
        name = model if isinstance(model, str) else "this model"
        if isinstance(model, str):
            GPTConfig.preset(name)  # refuses an unknown name, with the nearest one
        super().__init__(presets={key: config.to_dict() for key, config in self._configs.items()}, preset=name)

    def _picture(self) -> Picture:
        first = {self.preset: self._configs[self.preset]}
        title = f"{self.preset} has {parameters(first[self.preset]).total:,} parameters"
        return plot_parameters(first | self._configs, title=title)

    def _sentence(self) -> str:
        count = parameters(self._configs[self.preset])
        shares = ", ".join(f"{part} {count.share(part):.1%}" for part in count)
        return f"ParameterMap: {self.preset} has {count.total:,} parameters: {shares}"
