"""The ladder of ideas: from nanoGPT's recipe for a CPU to `shakespeare-fast`, an idea at a time, over several seeds.

`python source/measure/ideas.py` takes some minutes on two cores, and fetches the plays if the cache has none. Every
rung keeps what the one below it has and trains on equally many tokens; the loss is that of the whole validation split.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from gptlib.config import PRESETS, GPTConfig
from gptlib.corpora import Corpus, load_corpus
from gptlib.measured import save
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer
from gptlib.training import TrainConfig, tokenizer_for, train

TOKENS = 225 * 16 * 64  # of every rung
SEEDS = (1, 2, 3)

# The command for a CPU in nanoGPT's README: 4 layers, 4 heads, 128 wide, 12 windows of 64 characters, no dropout. Its
# train.py has no biases, and on a CPU it multiplies in fp32.
SHAPE: dict[str, Any] = {
    "vocab_size": 65,
    "n_positions": 64,
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
    "bias": False,
    "mlp": "gelu",
}
RECIPE: dict[str, Any] = {"batch_size": 12, "learning_rate": 1e-3, "warmup_steps": 100, "precision": "fp32"}

# name, changes to the shape, changes to the recipe
RUNGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("nanoGPT's recipe, ended sooner", {}, {}),
    ("bf16", {}, {"precision": "auto"}),
    ("16 windows a step", {}, {"batch_size": 16}),
    ("a higher rate that ends at 0", {}, {"learning_rate": 3e-3, "min_learning_rate": 0.0, "warmup_steps": 10}),
    ("rotary positions", {"position": "rotary"}, {}),
    ("RMSNorm", {"norm": "rmsnorm"}, {}),
    ("SwiGLU", {"mlp": "swiglu"}, {}),
    ("QK-norm", {"qk_norm": True}, {}),
    ("Muon, at its own rate", {}, {"optimizer": "muon", "learning_rate": 1e-2}),
    ("rotary base 100", {"rotary_base": 100.0}, {}),
    ("2 layers, 5 heads, 160 wide", {"n_layer": 2, "n_head": 5, "n_embd": 160, "n_inner": 512}, {}),
    ("a lower rate", {}, {"learning_rate": 6e-3}),
]


def climb(
    name: str, shape: dict[str, Any], recipe: dict[str, Any], corpus: Corpus, letters: Tokenizer
) -> dict[str, Any]:
    """One rung: losses, and seconds of training, for each seed."""
    steps = round(TOKENS / shape["n_positions"] / recipe["batch_size"])
    losses, seconds = [], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = GPT(GPTConfig(**shape))
        config = TrainConfig(**recipe, steps=steps, seed=seed, device="cpu", eval_every=steps)
        result = train(model, corpus, letters, config, verbose=False)
        assert result.val_loss is not None
        losses.append(result.val_loss)
        seconds.append(result.seconds)
    row = {
        "name": name,
        "parameters": model.n_parameters(),
        "steps": steps,
        "precision": result.precision,
        "losses": losses,
        "seconds": seconds,
    }
    mean, spread = statistics.mean(losses), statistics.stdev(losses)
    print(f"{name:34} {mean:.4f} ± {spread:.4f} nats, {statistics.median(seconds):5.1f} s", flush=True)
    return row


def main() -> None:
    """Climb the ladder, and keep every rung."""
    began = time.perf_counter()
    torch.set_num_threads(2)
    corpus = load_corpus("tinyshakespeare")
    letters = tokenizer_for(corpus, "char")
    shape, recipe, rows = dict(SHAPE), dict(RECIPE), []
    for name, of_shape, of_recipe in RUNGS:
        shape |= of_shape
        recipe |= of_recipe
        rows.append(climb(name, shape, recipe, corpus, letters))
    assert GPTConfig(**shape) == GPTConfig(**PRESETS["shakespeare-fast"])
    save("ideas", {"tokens": TOKENS, "seeds": list(SEEDS), "rungs": rows}, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
