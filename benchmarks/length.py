"""What a token costs as the text grows: one row written greedily, from its first token to the end of the context.

    python benchmarks/length.py [--shape 6x6x384x1024] [--dtype fp32] [--device auto] [--json FILE]

A shape is layers x heads x width x positions, of GPT-2's kind. With a cache each token costs the same products, and
reads all keys and values before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from decoding import DTYPES
from peers import gpt2_shape

from gptlib import GPT
from gptlib.bench.limits import wait_for
from gptlib.generation import stream
from gptlib.training import choose_device


def measure(shape: str, dtype: str, device: str) -> list[dict[str, Any]]:
    """Median milliseconds a token, in ten parts of the context, of three texts."""
    n_layer, n_head, n_embd, n_positions = (int(n) for n in shape.split("x"))
    torch.manual_seed(0)
    model = GPT(gpt2_shape(n_layer, n_head, n_embd, n_positions)).to(device, DTYPES[dtype]).eval()
    ids = torch.zeros(1, 1, dtype=torch.int64, device=device)
    costs: list[list[float]] = [[] for _ in range(n_positions - 1)]
    for _ in range(3):
        before = time.perf_counter()
        for cost, _token in zip(costs, stream(model, ids, n_positions - 1, temperature=0), strict=True):
            wait_for(device)
            now = time.perf_counter()
            cost.append(1000 * (now - before))
            before = now
    edges = [part * len(costs) // 10 for part in range(11)]
    return [
        {"from": 1 + a, "to": b, "milliseconds": statistics.median(t for cost in costs[a:b] for t in cost)}
        for a, b in pairwise(edges)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="6x6x384x1024")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = measure(options.shape, options.dtype, choose_device(options.device).value)
    for part in parts:
        print(f"tokens {part['from']:>5} to {part['to']:>5}  {part['milliseconds']:8.2f} ms each")
    print(f"the last tenth costs {parts[-1]['milliseconds'] / parts[0]['milliseconds']:.2f} times the first")
    if options.json:
        options.json.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
