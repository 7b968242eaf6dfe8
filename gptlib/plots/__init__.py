"""Static figures: what print, GitHub and screen readers get, and what lessons draw.

Every function returns a `Picture`, which a notebook shows when it is a cell's last value. The caller's title states the
finding; the background is white, so that a figure reads the same on a light and on a dark page.
"""

from gptlib.plots.attention import plot_attention, plot_attention_heads, plot_attention_pair
from gptlib.plots.guesses import plot_guesses
from gptlib.plots.ladder import plot_ladder
from gptlib.plots.steps import plot_attention_steps
from gptlib.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Picture,
    picture,
    style,
    visible,
)
from gptlib.plots.tokenizations import plot_tokenizations
from gptlib.plots.tokens import plot_next_tokens
from gptlib.plots.training import plot_abilities, plot_losses

__all__ = [
    "BLACK",
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "Picture",
    "picture",
    "plot_abilities",
    "plot_attention",
    "plot_attention_heads",
    "plot_attention_pair",
    "plot_attention_steps",
    "plot_guesses",
    "plot_ladder",
    "plot_losses",
    "plot_next_tokens",
    "plot_tokenizations",
    "style",
    "visible",
]
