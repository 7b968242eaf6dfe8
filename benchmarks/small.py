"""What takes seconds and not minutes: start, tokenizer, peak memory of a training run, and time to a loss.

    python benchmarks/small.py [--nanogpt FOLDER] [--json FILE]

Each start, and each run whose memory is measured, is a process of its own; times are medians of five.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def seconds_of(*command: str, times: int = 5, cwd: Path | None = None) -> float:
    """Median wall time of a command, in seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def start() -> dict[str, float]:
    """How long it takes until something can be done."""
    python, command = sys.executable, str(Path(sys.executable).with_name("gptlib"))
    torch = seconds_of(python, "-c", "import torch")
    return {
        "import torch": torch,
        "import gptlib adds": seconds_of(python, "-c", "import torch, gptlib") - torch,
        "gptlib --help": seconds_of(command, "--help"),
        "load_model('tales'), torch included": seconds_of(python, "-c", "import gptlib; gptlib.load_model('tales')"),
    }


def tokenizer() -> dict[str, float]:
    """Training on a megabyte, and encoding it in Python and through `tokenizers`."""
    from gptlib import BPETokenizer, load_corpus

    text = load_corpus("tinyshakespeare").train[:1_000_000]
    results = {}
    began = time.perf_counter()
    trained = BPETokenizer.train(text, 256 + 1024 + 1)
    results["train, 1 MB, 1,024 merges"] = time.perf_counter() - began
    began = time.perf_counter()
    ids = trained.encode(text)
    results["encode 1 MB"] = time.perf_counter() - began
    assert trained.decode(ids) == text
    return results


MEMORY = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
from peers import gpt2_shape, trainers
from gptlib.training.memory import freed_memory_kept
from contextlib import nullcontext
name = {name!r}
import peers
config = gpt2_shape(6, 6, 384, 256)
entry = next(e for e in trainers(config, "cpu", {nanogpt}, only=name))
x = torch.randint(65, (16, 256))
with freed_memory_kept() if name.startswith("gptlib") else nullcontext():
    for _ in range(6):
        entry.step(x, x)
from small import peak_bytes
print(peak_bytes())
"""


def peak_bytes() -> int:
    """Most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent had, before this process became another program
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory(nanogpt: Path | None) -> dict[str, float]:
    """Peak resident bytes of a process that trains 6 x 384 with 16 x 256 tokens a step, on the CPU."""
    names = ["gptlib", "gptlib, fp32", "transformers", "transformers, bf16"] + (["nanoGPT"] if nanogpt else [])
    results = {}
    for name in names:
        folder = f"Path({str(nanogpt)!r})" if nanogpt else "None"
        code = MEMORY.format(here=str(HERE), name=name, nanogpt=folder)
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        results[name] = float(done.stdout.split()[-1])
    return results


def time_to_loss(nanogpt: Path | None) -> dict[str, Any]:
    """nanoGPT's recipe for a CPU from its README, and `shakespeare-fast`: from the start of the command to its end."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [str(Path(sys.executable).with_name("gptlib")), "train", "--corpus", "tinyshakespeare"]
        began = time.perf_counter()
        subprocess.run([*command, "--preset", "shakespeare-fast", "--out", str(out)], check=True, capture_output=True)
        results["gptlib"] = {
            "seconds": time.perf_counter() - began,
            "val_loss": json.loads((out / "result.json").read_text(encoding="utf-8"))["val_loss"],
        }
    if nanogpt is not None and (nanogpt / "data" / "shakespeare_char" / "train.bin").exists():
        options = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12"
        options += " --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "train.py", "config/train_shakespeare_char.py", *options.split()],
            check=True,
            capture_output=True,
            text=True,
            cwd=nanogpt,
        )
        last = [line for line in done.stdout.splitlines() if line.startswith("step ")][-1]
        results["nanoGPT"] = {"seconds": time.perf_counter() - began, "val_loss": float(last.split()[-1])}
    return results


def measure(nanogpt: Path | None) -> dict[str, Any]:
    """All of it."""
    return {
        "start": start(),
        "tokenizer": tokenizer(),
        "memory": memory(nanogpt),
        "time_to_loss": time_to_loss(nanogpt),
    }


def show(results: dict[str, Any]) -> str:
    """The results as lines."""
    lines = [f"{name:44}{seconds:>9.2f} s" for name, seconds in (results["start"] | results["tokenizer"]).items()]
    ours = results["memory"]["gptlib"]
    for name, n_bytes in results["memory"].items():
        lines.append(f"{'peak memory of training, ' + name:44}{n_bytes / 1e6:>8,.0f} MB{n_bytes / ours:>8.2f}x")
    for name, run in results["time_to_loss"].items():
        lines.append(f"{'to a loss of ' + format(run['val_loss'], '.3f') + ', ' + name:44}{run['seconds']:>9.1f} s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    results = measure(options.nanogpt and options.nanogpt.resolve())
    print(show(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
