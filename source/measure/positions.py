"""The loss at each place of a text far longer than those of training, for each kind of positions.

`python source/measure/positions.py` measures all kinds, in some minutes; with kinds behind it, those alone, and the
results of the others are kept.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlib import tales
from gptlib.config import GPTConfig, Position
from gptlib.corpora import load_corpus
from gptlib.measured import recorded, save
from gptlib.model import GPT
from gptlib.positions import SinusoidalPositions
from gptlib.pretrained import load_model
from gptlib.training import TrainConfig, train

NAME = "positions"
KINDS = get_args(Position)
LONGER = "learned, longer table"  # rows for LONG positions, of which training met TRAINED
ORDER = (*KINDS, LONGER)
SEEDS = (0, 1, 2)
TRAINED, LONG, GROUP = 64, 512, 16  # tokens of a window in training, of a window in the test, of a point of the curve
WAVES = 0.1  # what the waves are multiplied by
SHAPE: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4}
RECIPE: dict[str, Any] = {
    "steps": 300,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "min_learning_rate": 0.0,
    "warmup_steps": 20,
    "optimizer": "muon",
    "eval_every": 10_000,
    "precision": "fp32",
    "device": "cpu",
}


def windows(tokenizer: Any, stories: int = 500) -> tuple[Tensor, float]:
    """Test stories one after the other, cut into windows (N, LONG + 1), and their floor in nats per token."""
    told = tales.split("test", stories)
    ids = torch.tensor(tokenizer.encode("".join(f"<|endoftext|>{story.text}" for story in told)))
    floor = -sum(story.log_prob for story in told) / len(ids)
    return ids.unfold(0, LONG + 1, LONG), floor


def by_place(model: GPT, rows: Tensor) -> list[float]:
    """Mean loss in nats per token of each GROUP of places, over all windows."""
    losses = []
    with torch.no_grad():
        for some in torch.split(rows, 16):
            logits, _ = model(some[:, :-1])  # (B, T, V)
            losses.append(F.cross_entropy(logits.transpose(1, 2), some[:, 1:], reduction="none"))  # (B, T)
    return cast("list[float]", torch.cat(losses).mean(dim=0).view(-1, GROUP).mean(dim=1).tolist())


def with_waves_scaled(model: GPT) -> GPT:
    """Bring the waves, if the model has them, near the size of its token vectors, which they would drown otherwise.

    The transformer of 2017 does the same from the other side: it multiplies its token vectors by the root of C.
    """
    if isinstance(model.position_embedding, SinusoidalPositions):
        model.position_embedding.table *= WAVES
    return model


def measure(position: Position, seed: int, corpus: Any, tokenizer: Any, rows: Tensor) -> dict[str, list[float]]:
    """Train one model on windows of TRAINED tokens, and measure it on windows as long as it can read."""
    shape = {**SHAPE, "vocab_size": tokenizer.vocab_size, "position": position}
    torch.manual_seed(seed)
    model = with_waves_scaled(GPT(GPTConfig(n_positions=TRAINED, **shape)))
    run = train(model, corpus, tokenizer, TrainConfig(seed=seed, **RECIPE), verbose=False)
    if not run.finished:
        raise SystemExit(f"{position}, seed {seed}: stopped after {run.step} steps; nothing was kept")
    model.eval()
    longer = with_waves_scaled(GPT(GPTConfig(n_positions=LONG, **shape)).eval())
    weights = model.state_dict()
    if position != "learned":
        longer.load_state_dict(weights)
        return {position: by_place(longer, rows)}
    table = longer.state_dict()["position_embedding.weight"]  # (LONG, C): as they were drawn
    weights["position_embedding.weight"] = torch.cat([weights["position_embedding.weight"], table[TRAINED:]])
    longer.load_state_dict(weights)
    return {position: by_place(model, rows[:, : TRAINED + 1]), LONGER: by_place(longer, rows)}


def main() -> None:
    """Measure some kinds with some seeds, or all, and keep the results beside those of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED", help="(default: all of them)")
    options = parser.parse_args()
    kinds = options.kinds or list(KINDS)
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"{unknown[0]!r} is no kind; there are {', '.join(KINDS)}")
    torch.set_num_threads(1)  # models as small as these gain nothing from a second one
    began = time.process_time()
    _, tokenizer = load_model("tales")
    corpus = load_corpus("tales:5000")
    rows, floor = windows(tokenizer)
    found: dict[str, dict[str, list[float]]] = {}
    for kind in kinds:
        for seed in options.seeds:
            for name, curve in measure(kind, seed, corpus, tokenizer, rows).items():
                found.setdefault(name, {})[str(seed)] = curve
                inside, end = curve[TRAINED // GROUP - 1], curve[-1]
                print(f"{name}, seed {seed}: {inside:.2f} inside, {end:.2f} at the end (nats per token)", flush=True)
    seconds = time.process_time() - began  # of one thread at work, whatever else the machine was doing
    curves: dict[str, dict[str, list[float]]] = {}
    about: dict[str, Any] = {"trained": TRAINED, "long": LONG, "group": GROUP, "windows": len(rows)}
    about |= {"shape": SHAPE, "recipe": RECIPE, "waves": WAVES, "floor": floor}
    if set(kinds) != set(KINDS) or set(options.seeds) != set(SEEDS):
        try:
            before = recorded(NAME)
            curves = dict(before["curves"])
            seconds += before.made_with["seconds"]
        except ValueError:
            pass  # these are the first
    for name in found:
        both = curves.get(name, {}) | found[name]
        curves[name] = {seed: both[seed] for seed in sorted(both)}
    save(NAME, {**about, "curves": {name: curves[name] for name in ORDER if name in curves}}, seconds=seconds)


if __name__ == "__main__":
    main()
