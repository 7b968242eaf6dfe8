"""How a model knows the order of its tokens: learned and sinusoidal vectors, rotations, and a bias on the scores."""

from gptlib.positions.alibi import alibi_bias, alibi_slopes
from gptlib.positions.rotary import Rotary, rotary_angles, rotate
from gptlib.positions.scaling import RotaryScaling, rotary_frequencies
from gptlib.positions.vectors import LearnedPositions, SinusoidalPositions, sinusoidal

__all__ = [
    "LearnedPositions",
    "Rotary",
    "RotaryScaling",
    "SinusoidalPositions",
    "alibi_bias",
    "alibi_slopes",
    "rotary_angles",
    "rotary_frequencies",
    "rotate",
    "sinusoidal",
]
