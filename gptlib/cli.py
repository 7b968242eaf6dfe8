"""The `gptlib` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="gptlib",
    help="Inside GPT: train a GPT, make it write, and check your exercises.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# The class of typer's own errors; its module differs between typer's releases.
_UsageError: Any = typer.BadParameter.__bases__[0]

Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16 (autocast).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the draws; another text each time without it.")]


def main() -> None:
    """Run a command; a bad argument ends in one sentence and exit code 2, and never in a traceback."""
    # A prompt may hold any character, and a Windows console or a pipe may not expect that.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(app(args=sys.argv[1:] or ["--help"], standalone_mode=False))
    except _UsageError as error:
        command, sentence = error.ctx.command_path if error.ctx else "gptlib", error.format_message().rstrip(".?")
        print(f"gptlib: {sentence}; see {command} --help", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        print(f"gptlib: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:
        print(f"gptlib: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command(epilog="Example: gptlib doctor")
def doctor() -> None:
    """Say what this machine has and what will work; exit 0 when lessons can run."""
    from gptlib.doctor import examine

    ready = True
    for finding in examine():
        mark = "ok" if finding.ok else "MISSING" if finding.needed else "-"
        ready = ready and (finding.ok or not finding.needed)
        print(f"{mark:>7}  {finding.name:<14} {finding.text}", flush=True)
    print("\nLessons can run." if ready else "\nLessons cannot run until the lines marked MISSING are mended.")
    raise typer.Exit(0 if ready else 1)


@app.command(epilog="Example: gptlib train --corpus tinyshakespeare --preset shakespeare-cpu --out runs/shakespeare")
def train(
    corpus: Annotated[str, typer.Option(help="tales, tinyshakespeare, python, a file or folder, or hub:OWNER/NAME.")],
    preset: Annotated[str, typer.Option(help="Model and recipe: tales, shakespeare-cpu or shakespeare-gpu.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, log, checkpoints and result.json.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, if not the preset's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step, if not the preset's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest rate, if not the preset's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and dropout, if not the preset's.")] = None,
    tokenizer: Annotated[str, typer.Option(help="char, bpe, or auto: bpe for documents, char for one text.")] = "auto",
    vocab_size: Annotated[int, typer.Option(help="Tokens of a bpe tokenizer.")] = 1024,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints, if not the preset's.")] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
) -> None:
    """Train a GPT on a text; Ctrl-C stops it with its state saved."""
    from gptlib.config import GPTConfig
    from gptlib.training import TrainConfig, choose_device, choose_precision

    changes = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "save_every": save_every,
    }
    config = TrainConfig.preset(
        preset,
        precision=precision,
        device=device,
        compile=compile,
        **{name: value for name, value in changes.items() if value is not None},
    )
    shape = GPTConfig.preset(preset)
    choose_precision(choose_device(device).value, precision)  # a wrong name is said before the corpus is read

    import torch

    from gptlib import training
    from gptlib.corpora import load_corpus
    from gptlib.model import GPT
    from gptlib.tokenizers import load_tokenizer

    text = load_corpus(corpus)
    saved = out / "tokenizer.json"
    known = resume and saved.exists()
    coder = load_tokenizer(saved) if known else training.tokenizer_for(text, tokenizer, vocab_size=vocab_size)
    torch.manual_seed(config.seed)
    model = GPT(GPTConfig.from_dict({**shape.to_dict(), "vocab_size": coder.vocab_size}))
    result = training.train(model, text, coder, config, out=out, resume=resume)
    raise typer.Exit(0 if result.finished else 130)


@app.command(epilog='Example: gptlib generate runs/shakespeare --prompt "ROMEO:" --temperature 0.8 --seed 1')
def generate(
    model: Annotated[str, typer.Argument(help="Folder of a run, or the bundled model: tales.")],
    prompt: Annotated[str, typer.Option(help="Text to continue; empty to begin a new one.")] = "",
    tokens: Annotated[int, typer.Option(help="New tokens at most.")] = 300,
    temperature: Annotated[float, typer.Option(help="0 is greedy, 1 the model's own distribution.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Keep the K most probable tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the fewest tokens that reach probability P.")] = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Make a model write, token by token."""
    from gptlib.generation import check_sampling, stream_text

    check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    if tokens < 1:
        raise ValueError(f"--tokens {tokens} writes nothing; use 1 or more")

    from gptlib.pretrained import load_model
    from gptlib.training import choose_device

    network, tokenizer = load_model(model, device=choose_device(device).value)
    if tokenizer is None:
        raise ValueError(f"{model} has no tokenizer.json, so it cannot read a prompt")
    limit = network.config.n_positions
    if len(tokenizer.encode(prompt)) + tokens > limit:
        note = f"the context holds {limit} tokens; when it is full, its older half is forgotten"
        print(f"gptlib: {note}", file=sys.stderr)
    pieces = stream_text(
        network, tokenizer, prompt, tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@app.command(epilog="Example: gptlib check work/exercises/03_attention.ipynb --exercise attention.causal_mask")
def check(
    notebook: Annotated[Path, typer.Argument(help="An exercise notebook with your answers.")],
    exercise: Annotated[str | None, typer.Option(help="Check this exercise only.")] = None,
) -> None:
    """Say what your answers do right and wrong; exit 1 while something is wrong."""
    from gptlib.checks import check_notebook

    reports = check_notebook(notebook, exercise=exercise)
    for report in reports:
        print(report, end="\n\n")
    raise typer.Exit(0 if all(report.status == "correct" for report in reports) else 1)
