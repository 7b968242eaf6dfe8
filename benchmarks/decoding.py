"""Tokens a second in writing, side by side: gptlib, transformers and, from a folder, nanoGPT.

    python benchmarks/decoding.py [--shape 6x6x384] [--new 512] [--nanogpt FOLDER] [--seconds 30] [--json FILE]

A shape is layers x heads x width; two models of it are tried, GPT-2's kind (which nanoGPT knows too) and Llama's. One
row is written after a prompt of one token, greedily, in fp32 and then in bf16 with the same weights; then a batch of 16
prompts of unequal length. All take turns, and ratios are taken within a round. The last column says how many of the
tokens are gptlib's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peers import gpt2_shape, quartiles, to_nanogpt, to_transformers

from gptlib import GPT, GPTConfig, generate
from gptlib.bench import measure_limits, take_turns
from gptlib.bench.limits import wait_for
from gptlib.bench.measuring import bytes_per_token
from gptlib.generation import left_pad
from gptlib.training import choose_device

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def llama_shape(n_layer: int, n_head: int, n_embd: int, n_positions: int) -> GPTConfig:
    """A small model of Llama's kind, as gptlib's own presets are."""
    kind = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}
    return GPTConfig(65, n_positions, n_embd, n_layer, n_head, **kind)  # type: ignore[arg-type]


def race(config: GPTConfig, name: str, rows: int, n_new: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everyone writes `n_new` tokens for each of `rows` prompts."""
    device, dtype = options.device, DTYPES[name]
    torch.manual_seed(0)
    ours = GPT(config)
    theirs, nano = to_transformers(ours), None
    if options.nanogpt is not None and config.position == "learned" and rows == 1:
        nano = to_nanogpt(ours, options.nanogpt).to(device, dtype).eval()
    ours, theirs = ours.to(device, dtype).eval(), theirs.to(device, dtype).eval()
    ids, padding = left_pad([[(7 * i + j) % 65 for j in range(1 + 5 * i)] for i in range(rows)])
    ids, seen = ids.to(device), (torch.arange(ids.size(1)) >= padding[:, None]).long().to(device)

    def by_us() -> torch.Tensor:
        return generate(ours, ids, n_new, temperature=0, padding=padding)

    def by_transformers() -> torch.Tensor:
        return theirs.generate(ids, attention_mask=seen, max_new_tokens=n_new, do_sample=False)  # type: ignore[operator, no-any-return]

    def by_nanogpt() -> torch.Tensor:
        return nano.generate(ids, n_new, top_k=1)  # type: ignore[union-attr, operator, no-any-return]

    entries = {"gptlib": by_us, "transformers": by_transformers} | ({"nanoGPT": by_nanogpt} if nano else {})
    texts = {name: write()[:, ids.size(1) :] for name, write in entries.items()}
    same = {name: float((text == texts["gptlib"]).float().mean()) for name, text in texts.items()}

    def timed(write: Any) -> Any:
        def run() -> int:
            write()
            wait_for(device)
            return rows * n_new

        return run

    rates = take_turns([timed(write) for write in entries.values()], options.seconds)
    limit = measure_limits(device, "fp32", 3.0).bytes_per_second
    floor = bytes_per_token(config, ids.size(1) + n_new // 2) * dtype.itemsize / 4
    table = []
    for entry, own in zip(entries, rates, strict=True):
        ratios = [a / b for a, b in zip(rates[0], own, strict=True)]
        table.append(
            {"name": entry, "tokens_per_second": quartiles(own), "ratio": quartiles(ratios), "same": same[entry]}
        )
    return {
        "model": f"{config.n_layer}x{config.n_head}x{config.n_embd}, {config.position} positions",
        "dtype": name,
        "batch": rows,
        "new_tokens": n_new,
        "limit": rows * limit / floor if rows == 1 else None,
        "rounds": len(rates[0]),
        "rows": table,
    }


def show(result: dict[str, Any]) -> str:
    """The race as a table."""
    limit = f"; reading all weights once a token would allow {result['limit']:,.0f}" if result["limit"] else ""
    lines = [
        f"{result['model']}, {result['dtype']}, batch {result['batch']}, {result['new_tokens']} tokens{limit}",
        f"{'':16}{'tokens/s':>12}{'gptlib is':>12}{'same tokens':>30}",
    ]
    for row in result["rows"]:
        a, b, c = row["ratio"]
        rate, spread = row["tokens_per_second"][1], f"({a:.2f} to {c:.2f})"
        lines.append(f"{row['name']:16}{rate:>12,.0f}{b:>11.2f}x{spread:>18}{row['same']:>12.0%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="6x6x384")
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.device = choose_device(options.device).value
    n_layer, n_head, n_embd = (int(n) for n in options.shape.split("x"))
    results = []
    for make in (gpt2_shape, llama_shape):
        config = make(n_layer, n_head, n_embd, options.new + 128)
        for dtype, rows in (("fp32", 1), ("bf16", 1), ("fp32", 16)):
            n_new = options.new if rows == 1 else options.new // 4
            results.append(race(config, dtype, rows, n_new, options))
            print(show(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
