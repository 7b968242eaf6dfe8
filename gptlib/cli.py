"""The `gptlib` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
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

Vocab = Annotated[int, typer.Option(help="Tokens of a bpe tokenizer.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16 (autocast).")]
Exchange = Annotated[
    Path, typer.Option(envvar="GPTLIB_EXCHANGE", help="The folder that the class shares; a class's hub names it.")
]
TEXTS = "tales, tinyshakespeare, python, a file or folder, or hub:OWNER/NAME"
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
    corpus: Annotated[str, typer.Option(help=f"{TEXTS}; or a folder that `gptlib tokenize` made.")],
    preset: Annotated[
        str,
        typer.Option(help="Model and recipe: tales, shakespeare-fast, -cpu or -gpu, or gpt2, -medium, -large, -xl."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, log, checkpoints and result.json.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, if not the preset's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a pass, if not the preset's.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Passes a step, if not the preset's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest rate, if not the preset's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and dropout, if not the preset's.")] = None,
    tokenizer: Annotated[str, typer.Option(help="char, bpe, or auto: bpe for documents, char for one text.")] = "auto",
    vocab_size: Vocab = 1024,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints, if not the preset's.")] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    shard: Annotated[
        bool, typer.Option("--shard", help="Cut the model into parts, one a process, if one GPU cannot hold it.")
    ] = False,
) -> None:
    """Train a GPT on a text; Ctrl-C stops it with its state saved.

    `torchrun --nproc-per-node=N -m gptlib train` and the same options share the run out among N processes, one a GPU.
    """
    from gptlib.config import GPTConfig
    from gptlib.training import TrainConfig, choose_device, choose_precision
    from gptlib.training.distributed import Team

    changes = {
        "steps": steps,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "learning_rate": learning_rate,
        "seed": seed,
        "save_every": save_every,
    }
    config = TrainConfig.preset(
        preset,
        precision=precision,
        device=device,
        compile=compile,
        shard=shard,
        **{name: value for name, value in changes.items() if value is not None},
    )
    shape = GPTConfig.preset(preset)
    mine = Team.from_environment().device(device)
    choose_precision(choose_device(mine).value, precision)  # a wrong name is said before the corpus is read

    import torch

    from gptlib import tales, training
    from gptlib.corpora import Corpus, TokenFiles, are_tokens, load_corpus, load_tokens
    from gptlib.model import GPT
    from gptlib.tokenizers import Tokenizer, load_tokenizer

    text: Corpus | TokenFiles
    coder: Tokenizer
    saved = out / "tokenizer.json"
    if are_tokens(corpus):
        if tokenizer != "auto":
            raise ValueError(f"{corpus} holds token ids, so --tokenizer {tokenizer} comes too late; leave it out")
        text = load_tokens(corpus)
        coder = text.tokenizer
    else:
        text = load_corpus(corpus)
        known = resume and saved.exists()
        coder = load_tokenizer(saved) if known else training.tokenizer_for(text, tokenizer, vocab_size=vocab_size)
    torch.manual_seed(config.seed)
    model = GPT(GPTConfig.from_dict({**shape.to_dict(), "vocab_size": coder.vocab_size}))
    measure = tales.tracker(coder) if text.name.partition(":")[0] == "tales" else None
    result = training.train(model, text, coder, config, out=out, resume=resume, measure=measure)
    raise typer.Exit(0 if result.finished else 130)


@app.command(epilog="Example: gptlib tokenize --corpus books/ --tokenizer bpe --vocab-size 4096 --out data/books")
def tokenize(
    corpus: Annotated[str, typer.Option(help=f"{TEXTS}, which is read as it comes.")],
    out: Annotated[Path, typer.Option(help="A new folder, for `gptlib train --corpus`.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="bpe or char, learned from the text; auto: bpe for documents, char for one text; a tokenizer.json or "
            "a folder with one; or a model on the hub, such as openai-community/gpt2."
        ),
    ] = "auto",
    vocab_size: Vocab = 1024,
    held_back: Annotated[float, typer.Option(help="Part for validation, where the source does not say.")] = 0.1,
    max_tokens: Annotated[int | None, typer.Option(help="End the training part after so many tokens.")] = None,
) -> None:
    """Turn a text that may be larger than memory into token ids on disk, for training."""
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"--max-tokens {max_tokens} keeps nothing; use 1 or more, or leave it out")

    from tqdm import tqdm

    from gptlib.corpora import open_source, write_tokens
    from gptlib.pretrained import find_tokenizer
    from gptlib.training import tokenizer_from

    source = open_source(corpus, held_back=held_back, streaming=True)
    learned = tokenizer in ("auto", "char", "bpe")
    coder = tokenizer_from(source, tokenizer, vocab_size=vocab_size) if learned else find_tokenizer(tokenizer)
    with tqdm(total=source.characters, unit=" characters", unit_scale=True, desc=corpus, delay=0.5) as bar:
        try:
            made = write_tokens(source, coder, out, max_tokens=max_tokens, progress=bar.update)
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped, and nothing was left in {out}", file=sys.stderr)
            raise
    for name, part in (("train", made.train), ("validation", made.validation)):
        documents = "" if part.starts is None else f" in {len(part.starts):,} documents"
        print(f"{name}: {len(part.ids):,} tokens{documents}")
    print(f"{made.tokenizer!r}, {made.train.ids.itemsize} bytes a token, in {out}")


@app.command(epilog='Example: gptlib generate runs/shakespeare --prompt "ROMEO:" --temperature 0.8 --seed 1')
def generate(
    model: Annotated[str, typer.Argument(help="Folder of a run, or the bundled model: tales.")],
    prompt: Annotated[str, typer.Option(help="Text to continue; empty to begin a new one.")] = "",
    tokens: Annotated[int, typer.Option(help="New tokens at most.")] = 300,
    temperature: Annotated[float, typer.Option(help="0 is greedy, 1 the model's own distribution.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Keep the K most probable tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the fewest tokens that reach probability P.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Keep tokens of at least P times the most probable one.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: shun tokens that the text already holds.")] = 1.0,
    beams: Annotated[int | None, typer.Option(help="Search for the most probable text with N beams; no draws.")] = None,
    stop: Annotated[list[str], typer.Option(metavar="<str>", help="End before this text; repeatable.")] = [],  # noqa: B006
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Make a model write, token by token."""
    from gptlib.generation import Sampling, check_sampling, context_limit, encode_prompt, search_text, stream_text

    settings: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    sampling = check_sampling(seed=seed, **settings)
    if tokens < 1:
        raise ValueError(f"--tokens {tokens} writes nothing; use 1 or more")
    if beams is not None and beams < 1:
        raise ValueError(f"--beams {beams} keeps nothing; use 1 (greedy) or more")
    if beams is not None and (seed is not None or sampling != Sampling()):
        raise ValueError(
            f"--beams {beams} draws nothing, so temperature, filters, penalty and seed have no say; drop one"
        )

    from gptlib.pretrained import load_model
    from gptlib.training import choose_device

    network, tokenizer = load_model(model, device=choose_device(device).value)
    if tokenizer is None:
        raise ValueError(f"{model} has no tokenizer.json, so it cannot read a prompt")
    limit, read = context_limit(network.config), encode_prompt(tokenizer, prompt).size(1)
    full = limit is not None and read + tokens > limit
    if beams is None:
        pieces: Iterable[str] = stream_text(network, tokenizer, prompt, tokens, stop=stop, seed=seed, **settings)
        then = "when it is full, its older half is forgotten"
    else:
        room = max(1, limit - read) if limit is not None and full else tokens
        pieces = [search_text(network, tokenizer, prompt, room, beams=beams, stop=stop)]
        then = "the search looks no further"
    if full:
        print(f"gptlib: the context holds {limit} tokens; {then}", file=sys.stderr)
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@app.command(epilog="Example: gptlib evaluate tales")
def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a run on tales, or the bundled model: tales.")],
    stories: Annotated[int, typer.Option(help="Test stories to measure the loss on.")] = 500,
    device: Device = "auto",
) -> None:
    """Set a model's loss on tales beside the lowest possible one, and say what it can do."""
    if stories < 1:
        raise ValueError(f"--stories {stories} measures nothing; use 1 or more")

    from gptlib import tales
    from gptlib.pretrained import load_model
    from gptlib.training import choose_device

    network, tokenizer = load_model(model, device=choose_device(device).value)
    if tokenizer is None:
        raise ValueError(f"{model} has no tokenizer.json, so it cannot read a story")
    loss = tales.evaluate(network, tokenizer, tales.split("test", stories))
    print(f"{loss.nats_per_token:.4f} ± {loss.standard_error:.4f} nats per token on {loss.stories} test stories")
    print(f"{loss.floor:.4f} is the floor, exact for the same stories")
    print(f"{loss.over_floor:.3f} = loss ÷ floor\n", flush=True)
    print(tales.abilities(network, tokenizer))


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


@app.command(epilog="Example: gptlib export runs/shakespeare --to huggingface --out exported/shakespeare")
def export(
    model: Annotated[str, typer.Argument(help="Folder of a run, or the bundled model: tales.")],
    out: Annotated[Path, typer.Option(help="Folder for config, weights and tokenizer.")],
    to: Annotated[str, typer.Option(help="The format: huggingface.")] = "huggingface",
) -> None:
    """Write a model as a folder that transformers loads, and with it other people's tools."""
    if to != "huggingface":
        raise ValueError(f"--to {to} is unknown; huggingface is the one format there is")

    import json

    from gptlib.pretrained import export_to_huggingface, load_model

    network, tokenizer = load_model(model)
    folder = export_to_huggingface(network, tokenizer, out)
    [architecture] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    print(f"{model} is a {architecture} in {folder}, and loads with AutoModelForCausalLM.from_pretrained({str(out)!r})")


@app.command(epilog="Example: gptlib bench --preset tales --seconds 30 --json bench.json")
def bench(
    preset: Annotated[str, typer.Option(help="Shape of the model, such as tales or gpt2.")] = "shakespeare-gpu",
    seconds: Annotated[float, typer.Option(help="About how long; a slow machine takes longer.")] = 60.0,
    batch_size: Annotated[int | None, typer.Option(help="Rows a training step, if not what suits the model.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for every round, as JSON.")] = None,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Measure how near this machine's limits a GPT trains and writes, and compare with transformers."""
    if json_file is not None and not json_file.parent.is_dir():
        raise ValueError(f"--json {json_file} is in no folder that exists; make {json_file.parent} first")
    if json_file is not None and json_file.is_dir():
        raise ValueError(f"--json {json_file} is a folder; name a file in it, such as {json_file / 'bench.json'}")

    import json

    from tqdm import tqdm

    from gptlib import bench as room

    shown = {"bar_format": "{l_bar}{bar}| {elapsed}<{remaining}", "leave": False, "delay": 1}
    with tqdm(desc="measuring", total=1.0, **shown) as bar:
        report = room.bench(
            preset,
            seconds=seconds,
            batch_size=batch_size,
            precision=precision,
            device=device,
            progress=lambda part: bar.update(part - bar.n),
        )
    print(report)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")


@app.command(epilog="Example: gptlib grade submissions/ --out report/")
def grade(
    paths: Annotated[list[Path], typer.Argument(help="Notebooks, or folders in which they are at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for grades.csv, grades.json and the pages.")],
    private: Annotated[Path | None, typer.Option(help="Folder with your own exercises and cases.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Submissions at a time; one for each core without it.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the answers of one submission may run.")] = 60.0,
    format: Annotated[str | None, typer.Option(help="Also write for another grader: gradescope or nbgrader.")] = None,
    part: Annotated[
        str | None, typer.Option(help="K/N: only the K-th of N parts, for a machine of several; later run without it.")
    ] = None,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run submissions with your own rights, unprotected.")
    ] = False,
) -> None:
    """Grade submitted notebooks in a sandbox; an interrupted run goes on where it was."""
    from gptlib.grading.run import grade as grade_all

    wanted = None
    if part is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", part)
        if found is None:
            raise typer.BadParameter(f"{part!r} is no part; write K/N, as in 1/4", param_hint="--part")
        wanted = int(found[1]), int(found[2])

    results = grade_all(
        paths,
        out,
        private=private,
        jobs=jobs,
        timeout=timeout,
        unsafe=unsafe_no_sandbox,
        format=format,
        part=wanted,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for result in results:
        print(f"{result.score:g} of {result.max_score:g}  {result.submission}" + f"  {result.problem}".rstrip())
    if part is None:
        print(f"{len(results)} submissions graded; read {out / 'index.html'}")
    else:
        print(f"{len(results)} submissions graded, part {part}; run again without --part when all parts are done")
    raise typer.Exit(1 if any("could not finish" in result.problem for result in results) else 0)


@app.command(epilog="Example: gptlib hand-in exercises/03_attention.ipynb")
def hand_in(
    notebook: Annotated[Path, typer.Argument(help="The exercise notebook with your answers.")],
    exchange: Exchange,
    user: Annotated[
        str | None, typer.Option(envvar="JUPYTERHUB_USER", help="Whose it is; your user's name without it.")
    ] = None,
) -> None:
    """Hand in an exercise notebook to your class; handing in again replaces it."""
    import getpass

    from gptlib.grading import hand_in as put

    print(put(notebook, exchange, user or getpass.getuser()))


@app.command(epilog="Example: gptlib hand-back report/ --exchange /srv/inside-gpt/exchange")
def hand_back(
    report: Annotated[Path, typer.Argument(help="The folder that `gptlib grade` wrote.")], exchange: Exchange
) -> None:
    """Give each learner the pages of what was graded from the exchange's inbox."""
    from gptlib.grading import hand_back as give

    pages = give(report, exchange)
    print(f"{len(pages)} pages handed back, to {len({page.parent for page in pages})} learners")
