"""A process that is killed at a random moment, also in the middle of writing, and started again."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Corpus

out, precision, dropout, optimizer = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
text = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\\n" * 12
tokenizer = CharTokenizer.train(text)
model = GPT(GPTConfig(tokenizer.vocab_size, n_positions=8, n_embd=60, n_layer=3, n_head=3, dropout=float(dropout)))
config = TrainConfig(
    steps=60, batch_size=5, save_every=1, eval_every=7, eval_windows=4, log_every=1, keep="best",
    precision=precision, optimizer=optimizer, device="cpu",
)
train(model, Corpus("verse", text[:650], text[650:]), tokenizer, config, out=out, resume=True, verbose=False)
"""


def start(*arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], env=environment)


def wait_for_steps(process: subprocess.Popen[bytes], log: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and f'{{"step": {step},' in log.read_text(encoding="utf-8"):
            return
        time.sleep(0.001)


def killed_and_resumed(tmp_path: Path, kills: int, *settings: object) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert start(whole, *settings).wait(300) == 0
    chance = random.Random()
    moments = sorted(chance.sample(range(2, 55), kills))
    landed = 0
    for step in moments:
        process = start(run, *settings)
        wait_for_steps(process, run / "log.jsonl", step)
        time.sleep(chance.uniform(0, 0.01))  # a step with its checkpoint takes about that long
        process.kill()
        landed += process.wait(60) == -9
    assert landed, "every kill came too late"
    assert start(run, *settings).wait(300) == 0
    for name in ("model.safetensors", "checkpoint.safetensors"):
        same = _tensors(run / name) == _tensors(whole / name)
        assert same, f"{name} differs after kills at steps {moments}"
    mine, theirs = (json.loads((folder / "result.json").read_text()) for folder in (run, whole))
    assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))


def _tensors(path: Path) -> bytes:
    """The values behind the header, which holds the seconds."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_killed_at_a_random_moment_it_ends_at_the_same_weights(tmp_path) -> None:
    killed_and_resumed(tmp_path, 1, "bf16", 0.2, "adamw")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_again_and_again_it_ends_at_the_same_weights(tmp_path, precision, dropout, optimizer) -> None:
    killed_and_resumed(tmp_path, 5, precision, dropout, optimizer)
