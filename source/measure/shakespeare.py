"""The whole run of the shakespeare-cpu preset: its curve, and what the model writes at the end.

`python source/measure/shakespeare.py` takes some minutes on two cores, and fetches the plays if the cache has none.
"""

from __future__ import annotations

import time

import torch

from gptlib.config import GPTConfig
from gptlib.corpora import load_corpus
from gptlib.generation import generate
from gptlib.measured import save
from gptlib.model import GPT
from gptlib.training import TrainConfig, tokenizer_for, train


def main() -> None:
    """Train, write, and keep both."""
    began = time.perf_counter()
    torch.set_num_threads(2)
    corpus = load_corpus("tinyshakespeare")
    letters = tokenizer_for(corpus, "char")
    torch.manual_seed(1337)
    model = GPT(GPTConfig.preset("shakespeare-cpu", vocab_size=letters.vocab_size))
    config = TrainConfig.preset("shakespeare-cpu", precision="fp32", device="cpu", eval_every=1000)
    result = train(model, corpus, letters, config)
    prompt = torch.tensor([letters.encode("ROMEO:")])  # (1, T)
    written = letters.decode(generate(model, prompt, 300, temperature=0.8, slide=True, seed=3)[0].tolist())
    save(
        "shakespeare",
        {
            "steps": result.steps,
            "tokens": result.tokens,
            "val_loss": result.val_loss,
            "curve": [[entry["step"], entry["loss"]] for entry in result.log],
            "sample": written,
        },
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    main()
