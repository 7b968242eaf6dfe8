"""Models that are ready to use: the one that comes with the course, those you trained, and other people's."""

from gptlib.pretrained.export import export_to_huggingface
from gptlib.pretrained.load import ASSETS, HUB_NAMES, bundled_models, find_tokenizer, hub_answers, load_model

__all__ = [
    "ASSETS",
    "HUB_NAMES",
    "bundled_models",
    "export_to_huggingface",
    "find_tokenizer",
    "hub_answers",
    "load_model",
]
