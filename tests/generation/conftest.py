"""One small model, for the tests that need no more."""

from typing import Any

import pytest

from gptlib import GPTConfig


@pytest.fixture
def model(random_model) -> Any:
    return random_model(GPTConfig(vocab_size=23, n_positions=17, n_embd=24, n_layer=2, n_head=6))
