# ruff: noqa: F401
"""Inside GPT: the parts of a GPT, small enough to read.

Names load on first use, so `import gptlib` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = {
    "recording": ["record"],
    "tokenizers": ["BPETokenizer", "CharTokenizer", "load_tokenizer"],
    "corpora": ["load_corpus"],
    "layers": ["GatedMLP", "LayerNorm", "MLP", "RMSNorm"],
    "positions": ["Rotary", "RotaryScaling", "sinusoidal"],
    "config": ["GPTConfig"],
    "cache": ["KVCache"],
    "attention": ["CausalSelfAttention", "causal_mask", "scaled_dot_product_attention"],
    "model": ["GPT", "Block"],
    "training": ["TrainConfig", "train"],
    "generation": ["Sampling", "beam_search", "generate", "left_pad", "next_token_probabilities", "stream"],
    "pretrained": ["export_to_huggingface", "load_model"],
    "prose": ["say"],
    "checks": ["check"],
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from gptlib.attention import CausalSelfAttention, causal_mask, scaled_dot_product_attention
    from gptlib.cache import KVCache
    from gptlib.checks import check
    from gptlib.config import GPTConfig
    from gptlib.corpora import load_corpus
    from gptlib.generation import (
        Sampling,
        beam_search,
        generate,
        left_pad,
        next_token_probabilities,
        stream,
    )
    from gptlib.layers import MLP, GatedMLP, LayerNorm, RMSNorm
    from gptlib.model import GPT, Block
    from gptlib.positions import Rotary, RotaryScaling, sinusoidal
    from gptlib.pretrained import export_to_huggingface, load_model
    from gptlib.prose import say
    from gptlib.recording import record
    from gptlib.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
    from gptlib.training import TrainConfig, train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gptlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gptlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
