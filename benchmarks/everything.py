"""All comparisons, one after the other, into README.md and docs/benchmarks.md with its picture: `make bench`.

    python benchmarks/everything.py [--nanogpt FOLDER] [--seconds 30]

The folder is a clone of nanoGPT whose character data set was prepared by its own script. Nothing else should run
beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import decoding
import matplotlib.pyplot as plt
import small
import torch
import training
from peers import gpt2_shape

from gptlib import GPTConfig, load_corpus
from gptlib.training import choose_device

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
BEGIN, END = "<!-- make bench writes what follows -->", "<!-- and ends here -->"
SHAPES = ("6x6x384x256x16", "4x4x128x64x12")

INTRODUCTION = (
    'Written by `make bench ARGS="--nanogpt FOLDER"`, where the folder is a clone of nanoGPT whose character '
    "data set is prepared; without it, nanoGPT is left out. What each line compares stands at the head of the "
    "scripts in `benchmarks/`. All contestants take turns within a run: take the ratios, with their quartiles,"
    " and not the seconds."
)
TRAINING = (
    "The same GPT-2 weights and tokens, without dropout. *gptlib*, *nanoGPT* and *transformers* train as they "
    "ship: gptlib in bf16 where the processor multiplies it natively, the others in fp32 on a CPU."
)
TIME_TO_LOSS = (
    "Time to a loss is wall time from the start of a command to its end: nanoGPT's recipe for a CPU from its "
    "README, whose loss is its own estimate on 20 batches, and `gptlib train --preset shakespeare-fast`, whose"
    " loss is that of the whole validation split. `python source/measure/ideas.py` climbs from the one recipe "
    "to the other, an idea at a time."
)


def measure(nanogpt: Path | None, seconds: float) -> dict[str, Any]:
    """Everything, in about ten minutes."""
    load_corpus("tinyshakespeare")  # missing, it is said now and not after ten minutes
    options = argparse.Namespace(device=choose_device().value, nanogpt=nanogpt, seconds=seconds)
    results: dict[str, Any] = {
        "machine": f"{processor()}, {os.cpu_count()} logical cores, torch {torch.__version__}, {options.device}",
        "date": time.strftime("%Y-%m-%d"),
        "training": [],
        "decoding": [],
    }
    for shape in SHAPES:
        results["training"].append(training.race(shape, options.device, nanogpt, 2 * seconds))
        print(training.show(results["training"][-1]), flush=True)
    kinds = (("fp32", 1), ("bf16", 1), ("fp32", 16))
    races = [(make(6, 6, 384, 640), *kind) for make in (gpt2_shape, decoding.llama_shape) for kind in kinds]
    races += [(GPTConfig.preset("smollm2-135m", n_positions=640), *kind) for kind in kinds[:2]]
    for config, dtype, rows in races:
        n_new = 512 if config.n_embd == 384 and rows == 1 else 128
        results["decoding"].append(decoding.race(config, dtype, rows, n_new, options))
        print(decoding.show(results["decoding"][-1]), flush=True)
    results["small"] = small.measure(nanogpt)
    print(small.show(results["small"]), flush=True)
    return results


def processor() -> str:
    """Its name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def page(results: dict[str, Any]) -> str:
    """What docs/benchmarks.md says."""
    parts = [
        "# Beside others",
        INTRODUCTION,
        f"{results['machine']}; {results['date']}.",
        "![Tokens a second of each contestant, by training and by writing](benchmarks.png)",
        "## Training",
        TRAINING,
        *("```\n" + training.show(each) + "\n```" for each in results["training"]),
        "## Writing",
        *("```\n" + decoding.show(each) + "\n```" for each in results["decoding"]),
        "## Start, tokenizer, memory, and time to a loss",
        TIME_TO_LOSS,
        "```\n" + small.show(results["small"]) + "\n```",
    ]
    gpu = DOCS / "benchmarks-gpu.md"
    if gpu.exists():
        parts.append(gpu.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def summary(results: dict[str, Any]) -> str:
    """What README.md says: how many times as fast as the others, and the machine."""
    lines = ["| gptlib is so many times as fast as | nanoGPT | transformers |", "|---|---|---|"]

    def line(what: str, rows: list[dict[str, Any]], ours: str, others: str) -> None:
        rates = {row["name"]: row["ratio"][1] for row in rows}
        found = [rates.get(f"{other}{others}") for other in ("nanoGPT", "transformers")]
        lines.append(f"| {what} | {' | '.join(f'{each / rates[ours]:.2f}' if each else '' for each in found)} |")

    for race in results["training"]:
        line(f"training {race['shape'].partition(' on ')[0]}, each as it ships", race["rows"], "gptlib", "")
        line("the same, all in bf16", race["rows"], "gptlib", ", bf16")
        line("the same, all in fp32", race["rows"], "gptlib, fp32", "")
    for race in results["decoding"]:
        line(f"writing with {race['model']}, {race['dtype']}, batch {race['batch']}", race["rows"], "gptlib", "")
    times = results["small"]["time_to_loss"]
    if "nanoGPT" in times:
        ratio = times["nanoGPT"]["seconds"] / times["gptlib"]["seconds"]
        reached = f"{times['nanoGPT']['val_loss']:.3f} there and {times['gptlib']['val_loss']:.3f} here"
        lines.append(f"| from the command to the loss of nanoGPT's recipe for a CPU ({reached}) | {ratio:.2f} | |")
    return "\n".join(
        [
            f"On {results['machine']}; {results['date']}. Shapes are layers x heads x width (x tokens x rows); "
            "30x9x576 is SmolLM2-135M's, with random weights.",
            "",
            *lines,
            "",
            "![Tokens a second of each contestant, by training and by writing](docs/benchmarks.png)",
        ]
    )


def in_readme(text: str, results: dict[str, Any]) -> str:
    """The README with the summary in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{summary(results)}\n{END}{after}"


def picture(results: dict[str, Any]) -> None:
    """Tokens a second, as bars."""
    races = [*results["training"], *results["decoding"]]
    fig, axes = plt.subplots(2, (len(races) + 1) // 2, figsize=(16, 6), layout="constrained")
    for ax, race in zip(axes.flat, races, strict=False):
        rows = race["rows"]
        rates = [row["tokens_per_second"] for row in rows]
        spread = [[m - a for a, m, _ in rates], [b - m for _, m, b in rates]]
        colours = ["#0072B2" if row["name"].startswith("gptlib") else "#999999" for row in rows]
        ax.barh([row["name"] for row in rows], [m for _, m, _ in rates], xerr=spread, color=colours)
        ax.invert_yaxis()
        kind = f"training {race['shape']}" if "shape" in race else f"writing, {race['dtype']}, batch {race['batch']}"
        ax.set_title(kind if "shape" in race else f"{kind}\n{race['model']}", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.set_xlabel("tokens/s", fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(races) :]:
        ax.axis("off")
    fig.savefig(DOCS / "benchmarks.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    results = measure(options.nanogpt and options.nanogpt.resolve(), options.seconds)
    (DOCS / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (DOCS / "benchmarks.md").write_text(page(results), encoding="utf-8")
    README.write_text(in_readme(README.read_text(encoding="utf-8"), results), encoding="utf-8")
    picture(results)
    print(f"written: {DOCS / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
