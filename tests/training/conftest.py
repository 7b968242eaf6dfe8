from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Corpus
from gptlib.training import TrainResult

TEXT = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\n"


@dataclass
class Small:
    """A run of a second or less: model, text and settings, each to be changed."""

    corpus: Corpus
    tokenizer: CharTokenizer

    def model(self, seed: int = 0, **changes: Any) -> GPT:
        torch.manual_seed(seed)
        shape = {"n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 3}
        return GPT(GPTConfig(**{"vocab_size": self.tokenizer.vocab_size, **shape, **changes}))

    def config(self, **changes: Any) -> TrainConfig:
        usual = {"steps": 30, "batch_size": 5, "eval_every": 6, "save_every": 4, "log_every": 3, "eval_windows": 4}
        return TrainConfig(**{**usual, "precision": "fp32", "device": "cpu", **changes})

    def train(self, out: Path | None = None, *, model: GPT | None = None, **changes: Any) -> tuple[GPT, TrainResult]:
        model_changes = {"dropout": changes.pop("dropout", 0.0)}
        options = {name: changes.pop(name) for name in ("resume", "on_step", "measure") if name in changes}
        model = model or self.model(**model_changes)
        result = train(model, self.corpus, self.tokenizer, self.config(**changes), out=out, verbose=False, **options)
        return model, result


@pytest.fixture(scope="session")
def small() -> Small:
    text = TEXT * 12
    return Small(Corpus("verse", text[:650], text[650:]), CharTokenizer.train(text))


def weights(model: GPT) -> torch.Tensor:
    """All parameters in a row."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(name="weights")
def _weights() -> Any:
    return weights
