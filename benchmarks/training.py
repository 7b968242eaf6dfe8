"""Tokens a second in training, side by side: gptlib, transformers and, from a folder, nanoGPT.

    python benchmarks/training.py [--shape 6x6x384x256x16] [--nanogpt FOLDER] [--seconds 60] [--json FILE]

A shape is layers x heads x width x tokens of a row x rows. All have the same weights, of GPT-2's kind, the same tokens
and no dropout, and take turns, so that what else the machine does slows all; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import gpt2_shape, quartiles, trainers

from gptlib.bench import measure_limits, take_turns
from gptlib.scaling import training_flops_per_token
from gptlib.training import choose_device, choose_precision
from gptlib.training.memory import freed_memory_kept


def race(shape: str, device: str, nanogpt: Path | None, seconds: float, vocab_size: int = 65) -> dict[str, Any]:
    """All contestants at one shape: tokens a second, shares of the limit, ratios of the first to each."""
    n_layer, n_head, n_embd, T, B = (int(n) for n in shape.split("x"))
    config = gpt2_shape(n_layer, n_head, n_embd, T, vocab_size)
    precision = choose_precision(device).value
    limits = measure_limits(device, precision, min(6.0, seconds / 6))
    entries = trainers(config, device, nanogpt)
    ids = torch.randint(vocab_size, (B, T + 1), generator=torch.Generator().manual_seed(0)).to(device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    runners = [partial(_as_shipped, entry, inputs, targets, device) for entry in entries]
    rates = take_turns(runners, seconds)
    needed = training_flops_per_token(config, T)
    rows = []
    for entry, own in zip(entries, rates, strict=True):
        ratios = [ours / other for ours, other in zip(rates[0], own, strict=True)]
        peak = limits.fp32_flops_per_second if "fp32" in entry.name else limits.flops_per_second
        if entry.name in ("nanoGPT", "transformers") and torch.device(device).type == "cpu":
            peak = limits.fp32_flops_per_second
        rows.append(
            {
                "name": entry.name,
                "tokens_per_second": quartiles(own),
                "share_of_peak": quartiles(own)[1] * needed / peak,
                "ratio": quartiles(ratios),
            }
        )
    return {
        "shape": shape,
        "device": str(choose_device(device)),
        "precision": precision,
        "peak": limits.flops_per_second,
        "peak_fp32": limits.fp32_flops_per_second,
        "bytes_per_second": limits.bytes_per_second,
        "rounds": len(rates[0]),
        "rows": rows,
    }


def _as_shipped(entry: Any, inputs: torch.Tensor, targets: torch.Tensor, device: str) -> int:
    """One step; of gptlib on a CPU some, with freed memory kept as its own trainer keeps it."""
    if not entry.name.startswith("gptlib") or device != "cpu":
        return int(entry.step(inputs, targets))
    with freed_memory_kept():
        return sum(int(entry.step(inputs, targets)) for _ in range(8))


def show(result: dict[str, Any]) -> str:
    """The race as a table."""
    lines = [
        f"{result['shape']} on {result['device']}, {result['rounds']} rounds; "
        f"peak {result['peak'] / 1e9:,.0f} GFLOP/s in {result['precision']}, {result['peak_fp32'] / 1e9:,.0f} in fp32",
        f"{'':26}{'tokens/s':>12}{'quartiles':>24}{'of peak':>9}{'gptlib is':>11}",
    ]
    for row in result["rows"]:
        low, middle, high = row["tokens_per_second"]
        a, b, c = row["ratio"]
        spread = f"{low:,.0f} to {high:,.0f}"
        lines.append(
            f"{row['name']:26}{middle:>12,.0f}{spread:>24}{row['share_of_peak']:>9.0%}{b:>10.2f}x  ({a:.2f} to {c:.2f})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append")
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--vocab-size", type=int, default=65)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device).value
    results = []
    for shape in options.shape or ["6x6x384x256x16", "4x4x128x64x12"]:
        results.append(race(shape, device, options.nanogpt, options.seconds, options.vocab_size))
        print(show(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
