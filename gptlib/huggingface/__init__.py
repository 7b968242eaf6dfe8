"""The same model under two sets of names: ours, and those of transformers' GPT-2, Llama and its kin."""

from gptlib.huggingface.configs import config_from_transformers, config_to_transformers
from gptlib.huggingface.tokenizer import TransformersTokenizer
from gptlib.huggingface.weights import weights_from_transformers, weights_to_transformers

__all__ = [
    "TransformersTokenizer",
    "config_from_transformers",
    "config_to_transformers",
    "weights_from_transformers",
    "weights_to_transformers",
]
