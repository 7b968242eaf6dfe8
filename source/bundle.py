"""Make the bundled model from a finished run: weights in half precision, tokenizer, and a card of measured numbers.

gptlib train --corpus tales:180000 --preset tales --steps 11000 --out runs/tales
python source/bundle.py runs/tales
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gptlib import tales
from gptlib.plots import plot_abilities
from gptlib.pretrained import ASSETS, load_model
from gptlib.training.checkpoint import CHECKPOINT, CONFIG, LOG, RESULT, TOKENIZER, WEIGHTS, read_tensors, weights_of

CARD, CARD_TEXT = "card.json", "MODEL_CARD.md"
PICTURE = Path(__file__).parents[1] / "docs" / "tales-abilities.png"
TEST_STORIES = 2000
MARKS = 1000  # scored of each ability at most: its standard error is then below one percentage point
LOG_EVERY = 50  # steps between the losses that are kept, beside all that was measured


def main() -> None:
    """Bundle the run named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run on tales")
    parser.add_argument("--out", type=Path, default=ASSETS / "tales")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="abilities over training, a PNG file")
    arguments = parser.parse_args()
    if not (arguments.run / RESULT).is_file():
        sys.exit(f"{arguments.run} holds no finished run; train one first, as the head of this file says")
    print(render(bundle(arguments.run, arguments.out)))
    figure = plot_abilities(arguments.out, title="Agreement is learned first, recall, sums and endings last")
    arguments.picture.write_bytes(figure.png())


def bundle(run: Path, out: Path) -> dict[str, Any]:
    """Write weights, config, tokenizer, log and card to `out`; returns the card."""
    model, tokenizer = load_model(run, dtype=torch.float16)
    if tokenizer is None:
        raise ValueError(f"{run} has no {TOKENIZER}")
    out.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "gptlib", **model.config.to_dict()}
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(weights_of(model), out / WEIGHTS, {"format": "pt"})
    (out / WEIGHTS).chmod(0o644)  # as installed for everybody
    tokenizer.save(out / TOKENIZER)
    log = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    kept = [entry for entry in log if entry["step"] % LOG_EVERY == 0 or "measured" in entry]
    (out / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    card = measure(out) | provenance(run)
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / CARD_TEXT).write_text(render(card), encoding="utf-8")
    return card


def measure(folder: Path, stories: int = TEST_STORIES, marks: int = MARKS) -> dict[str, Any]:
    """Everything about a bundled model that can be measured again."""
    model, tokenizer = load_model(folder)
    assert tokenizer is not None
    evaluation = tales.evaluate(model, tokenizer, tales.split("test", stories))
    abilities = tales.abilities(model, tokenizer, max_stories=3 * marks // 2, per_kind=marks)
    return {
        "parameters": model.n_parameters(),
        "config_sha256": hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode()).hexdigest(),
        "bytes": sum((folder / name).stat().st_size for name in (CONFIG, WEIGHTS, TOKENIZER)),
        "test_stories": evaluation.stories,
        "nats_per_token": round(evaluation.nats_per_token, 5),
        "standard_error": round(evaluation.standard_error, 5),
        "floor": round(evaluation.floor, 5),
        "over_floor": round(evaluation.over_floor, 4),
        "kl": round(abilities.kl, 5),
        "kl_tokens": abilities.kl_count,
        "abilities": [
            {
                "kind": row.kind,
                "status": row.status,
                "accuracy": round(row.accuracy, 4),
                "log_prob": round(row.log_prob, 4),
                "chance": round(row.chance, 4),
                "count": row.count,
            }
            for row in abilities.rows
        ],
    }


def provenance(run: Path) -> dict[str, Any]:
    """How a run was made, from its own files."""
    result = json.loads((run / RESULT).read_text(encoding="utf-8"))
    _, metadata = read_tensors(run / CHECKPOINT)
    log = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    curve = [[entry["step"], round(entry["val_loss"], 4)] for entry in log if "val_loss" in entry]
    return {
        "corpus": metadata["corpus"],
        "recipe": json.loads(metadata["config"]),
        "steps": result["steps"],
        "tokens": result["tokens"],
        "seconds": round(result["seconds"]),
        "threads": result["threads"],
        "precision": result["precision"],
        "validation_curve": curve,
    }


def render(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    recipe = card["recipe"]
    rows = "\n".join(
        f"| {a['kind']} | {a['status']} | {a['accuracy']:.1%} | {a['chance']:.1%} "
        f"| {a['log_prob']:.3f} | {a['count']} |"
        for a in card["abilities"]
    )
    curve = "\n".join(f"| {step} | {loss:.4f} |" for step, loss in _thinned(card["validation_curve"]))
    return f"""# The bundled model `tales`

A GPT of {card["parameters"]:,} parameters that knows one thing: the stories of `gptlib.tales`, its default world. It is
there to be looked into, and has no other use. Code and data are this project's own; the weights are under CC BY 4.0.

## How it was made

```sh
gptlib train --corpus {card["corpus"]} --preset tales --steps {card["steps"]} --out runs/tales
python source/bundle.py runs/tales
```

{card["steps"]:,} steps of {recipe["batch_size"]} windows, {card["tokens"]:,} tokens in all, seed {recipe["seed"]}.
{card["precision"]} on {card["threads"]} thread(s) of a shared two-core machine, {card["seconds"] / 60:.0f} minutes.
Weights are stored in half precision: {card["bytes"] / 1e6:.1f} MB with the tokenizer.

## How good it is

On {card["test_stories"]:,} test stories, which no training story equals:

| | nats per token |
|---|---|
| this model | {card["nats_per_token"]:.4f} ± {card["standard_error"]:.4f} |
| the floor, exact for the same stories | {card["floor"]:.4f} |
| model ÷ floor | {card["over_floor"]:.3f} |

Mean KL divergence from the true next-token distribution: {card["kl"]:.4f} nats, at {card["kl_tokens"]:,} tokens of
marked words.

## What it can do

How often it gives the right words more probability than each wrong alternative. "Held out" are combinations that no
training story has; "untold" are facts that no story states, where chance is all that can be hoped for.

| ability | status | accuracy | chance | mean log-probability | marks |
|---|---|---|---|---|---|
{rows}

## Validation loss while it learned

On {recipe["eval_windows"]} validation stories, nats per token.

| step | loss |
|---|---|
{curve}

`log.jsonl` beside this card has the whole run: losses, and every ability each {recipe["eval_every"]} steps
(`gptlib.plots.plot_abilities` draws it; `docs/tales-abilities.png` in the repository is that picture).
"""


def _thinned(curve: list[list[float]], most: int = 12) -> list[list[float]]:
    every = -(-len(curve) // most)
    return curve[every - 1 :: every] if curve else []


if __name__ == "__main__":
    main()
