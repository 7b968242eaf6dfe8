"""Training: batches, a schedule, a step, and a loop that can be stopped at any moment and gone on with."""

from gptlib.training.config import TrainConfig
from gptlib.training.control import Control
from gptlib.training.data import TokenData, evaluate, tokenize_corpus, tokenizer_for, tokenizer_from
from gptlib.training.devices import autocast, choose_device, choose_precision
from gptlib.training.loop import Progress, TrainResult, train
from gptlib.training.step import learning_rate_at, make_optimizers

__all__ = [
    "Control",
    "Progress",
    "TokenData",
    "TrainConfig",
    "TrainResult",
    "autocast",
    "choose_device",
    "choose_precision",
    "evaluate",
    "learning_rate_at",
    "make_optimizers",
    "tokenize_corpus",
    "tokenizer_for",
    "tokenizer_from",
    "train",
]
