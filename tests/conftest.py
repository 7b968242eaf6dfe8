"""What all tests share: one thread, the corpora beside the checkout, and the model variants."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BESIDE = ROOT.parent / "shared" / "data"

if BESIDE.is_dir():  # corpora that lie there are used in place of a download
    os.environ.setdefault("GPTLIB_CACHE", str(BESIDE))

# B=5, T=7, V=23, C=24, D=4 and n_positions=17: an axis that is mistaken for another one never fits.
SHAPE: dict[str, Any] = {"vocab_size": 23, "n_positions": 17, "n_embd": 24, "n_layer": 2, "n_head": 6}

VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "no-bias": {"bias": False},
    "qkv-bias-alone": {"bias": False, "qkv_bias": True},
    "sinusoidal": {"position": "sinusoidal"},
    "no-positions": {"position": "none"},
    "rotary": {"position": "rotary"},
    "alibi": {"position": "alibi"},
    "grouped": {"n_kv_head": 3, "position": "rotary"},
    "grouped-alibi": {"n_kv_head": 2, "position": "alibi"},
    "multi-query": {"n_kv_head": 1},
    "window": {"window": 3},
    "window-of-one": {"window": 1},
    "window-rotary-grouped": {"window": 4, "position": "rotary", "n_kv_head": 2},
    "window-alibi": {"window": 4, "position": "alibi"},
    "qk-norm": {"qk_norm": True, "position": "rotary"},
    "post-norm": {"norm_order": "post"},
    "post-rmsnorm": {"norm_order": "post", "norm": "rmsnorm"},
    "rmsnorm": {"norm": "rmsnorm"},
    "relu": {"mlp": "relu"},
    "relu2": {"mlp": "relu2"},
    "gelu": {"mlp": "gelu"},
    "swiglu": {"mlp": "swiglu"},
    "geglu": {"mlp": "geglu", "n_inner": 40},
    "untied": {"tie_weights": False},
    "llama": {"position": "rotary", "n_kv_head": 3, "norm": "rmsnorm", "mlp": "swiglu", "bias": False},
    "all-at-once": {
        "position": "rotary",
        "n_kv_head": 2,
        "window": 5,
        "qk_norm": True,
        "norm": "rmsnorm",
        "norm_order": "post",
        "mlp": "geglu",
        "bias": False,
        "tie_weights": False,
        "n_inner": 32,
    },
}


def pytest_collection_finish(session: pytest.Session) -> None:
    """One thread: the models of the tests are too small for two, and other processes may want the second core."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest) -> Any:
    """A small config of every kind that a config can name."""
    from gptlib import GPTConfig

    return GPTConfig(**{**SHAPE, **request.param})


@pytest.fixture
def random_model() -> Any:
    """Build a model whose every parameter is random, so that a scale of 1 or a bias of 0 hides nothing."""
    import torch

    from gptlib import GPT

    def build(config: Any, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        model = GPT(config)
        with torch.no_grad():
            for parameter in model.parameters():
                scale = 0.3 if parameter.dim() > 1 else 0.5
                parameter.copy_(torch.randn_like(parameter) * scale + (parameter if parameter.dim() < 2 else 0.0))
        return model.eval()

    return build
