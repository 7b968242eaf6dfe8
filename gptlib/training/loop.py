"""The training loop: a dozen lines that learn, and what lets them be stopped, watched and gone on with."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gptlib.corpora import Corpus, TokenFiles
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer
from gptlib.training.config import TrainConfig
from gptlib.training.control import Control
from gptlib.training.data import TokenData, evaluate, tokenize_corpus
from gptlib.training.devices import autocast, choose_device, choose_precision
from gptlib.training.distributed import ALONE, Team, gradients_add_up
from gptlib.training.memory import freed_memory_kept
from gptlib.training.run import Run, State
from gptlib.training.step import clip_gradient, learning_rate_at, make_optimizers, set_learning_rate


@dataclass
class Progress:
    """What a run knows after a step. Set `stop` to end it with its state saved."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    val_loss: float | None = None
    measured: dict[str, float] | None = None
    sample: str | None = None
    stop: bool = False


@dataclass(frozen=True)
class TrainResult:
    """What a run came to; losses in nats per token.

    `val_loss` is measured in fp32 over the whole validation split, and is None for a run that was stopped.
    """

    finished: bool
    step: int
    steps: int
    tokens: int
    seconds: float
    train_loss: float | None
    val_loss: float | None
    precision: str
    threads: int
    device: str
    log: list[dict[str, Any]] = field(default_factory=list, repr=False)


def train(
    model: GPT,
    corpus: Corpus | TokenFiles,
    tokenizer: Tokenizer,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    measure: Callable[[GPT], dict[str, float]] | None = None,
    sample: Callable[[GPT], str] | None = None,
    control: Control | None = None,
    verbose: bool = True,
) -> TrainResult:
    """Train `model` in place to predict the next token of `corpus`.

    Args:
        model: moved to the device of the run; ends with the weights that `config.keep` names, in evaluation mode, and
            with `config.shard` cut into the processes' parts.
        corpus: text, with a part held back for validation; or token ids on disk, as `load_tokens` opens them.
        tokenizer: its vocabulary must fit the model's.
        config: `TrainConfig()` if None.
        out: folder for checkpoints, log, weights and result; nothing is written if None.
        resume: go on from the checkpoint in `out`; without one the run starts afresh. On the CPU, with the same
            precision and number of threads, the resumed run ends at the same weights to the last bit.
        on_step: called after each step that is logged (`config.log_every`), and can stop the run.
        measure: called every `config.eval_every` steps and after the last one, on the model in evaluation mode; its
            numbers go to the log and to `on_step` as `measured`. `tales.tracker` makes one that scores abilities.
        sample: called when `measure` is, for a text that the model writes; it goes the same ways as `sample`. It should
            draw from a generator of its own, as `generate` with a seed does.
        control: pauses, saves or stops the run from another thread; time spent in a pause does not count.
        verbose: print what was chosen, and a progress line.

    Started by `torchrun` in several processes, all of them train one model, each on its rows of every batch, with the
    loss of one process; only the first prints, writes and calls back (with `config.shard`, all call `measure` and
    `sample`, since none has the whole model). Dropout draws differently in each. A checkpoint does not depend on how
    many processes wrote it.

    Returns:
        Losses, times and the log. Ctrl-C (or SIGTERM) ends the run after the step at hand, with its state saved.

    Raises:
        ValueError: if corpus, tokenizer, model and checkpoint do not fit each other, or `out` holds another run, or not
            the same for all processes.
        FloatingPointError: if the loss is no longer a number; the last checkpoint is kept.
        ConnectionError: if another of several processes has ended; the last checkpoint is kept.
    """
    config, control, team = config or TrainConfig(), control or Control(), Team.from_environment()
    team.check(config.batch_size, config.shard)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model vocab_size={model.config.vocab_size}; "
            "make the model with the tokenizer's"
        )
    data, validation = tokenize_corpus(corpus, tokenizer, model.config.n_positions)
    device = choose_device(team.device(config.device))
    precision = choose_precision(device.value, config.precision)
    folder = Path(out) if out else None
    run = Run(folder, model, tokenizer, config, corpus, precision.value, device.value, team)
    verbose = verbose and team.leads
    say = tqdm.write if verbose else _silent
    say(_shape_of(model))
    shared = f"; {team.size} processes{', each with a part of the model' if config.shard else ''}"
    say(f"device {device}; precision {precision}" + (shared if team.size > 1 else ""))
    in_precision = partial(autocast, device.value, precision.value)
    kept = freed_memory_kept() if device.value == "cpu" else nullcontext()

    with _stop_signals() as interrupted, team.together(device.value), kept:
        team.place(model, device.value, config.shard)
        model.train()
        optimizers = make_optimizers(model, config)
        torch.manual_seed(config.seed + team.rank)  # dropout; batches have a generator of their own
        state = run.start(optimizers, resume, say)
        if (earlier := run.result()) is not None:
            say(f"this run is finished: validation loss {earlier['val_loss']:.4f} after {earlier['steps']} steps")
            return TrainResult(**earlier, log=run.log)
        before, began = state.seconds, time.perf_counter()
        averaging = team.averaging(model, config.shard)
        forward = torch.compile(averaging) if config.compile else averaging

        ending = False
        bar = tqdm(total=config.steps, initial=state.step, unit="step", disable=not verbose, dynamic_ncols=True)
        with bar:
            while state.step < config.steps and not ending:
                set_learning_rate(optimizers, learning_rate_at(state.step, config))
                loss = _accumulate(forward, data, state.step, config, model, device.value, in_precision, team)
                norm = clip_gradient(model, config.grad_clip)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                state.step += 1
                state.tokens += config.accumulation * config.batch_size * model.config.n_positions
                state.seconds = before + time.perf_counter() - began
                bar.update()

                last = state.step == config.steps
                if last or config.looks(state.step) or state.step % config.log_every == 0:
                    loss = team.mean(loss)
                    _require_finite(loss, norm, state.step, config)
                    state.train_loss = loss.item()
                    progress = _look(run, state, validation, norm, in_precision, measure, sample)
                    if team.leads:
                        run.write_log({k: v for k, v in asdict(progress).items() if k != "stop" and v is not None})
                        bar.set_postfix(_in_short(progress), refresh=False)
                        if on_step is not None:
                            on_step(progress)
                        if progress.stop:
                            interrupted.set()
                pausing = control.paused  # asked once, so that no pause begins unsaved
                asked = control.wants_saving() or pausing
                # All stop after the same step, and all have a part in saving.
                ending, asked = team.any(interrupted.is_set() or control.stopping, asked)
                if last or state.step % config.save_every == 0 or ending or asked:
                    _require_finite(loss, norm, state.step, config)  # a good checkpoint is not replaced by a broken one
                    run.save(optimizers, state)
                    control.saved(state.step)
                if pausing and not last:
                    with _undisturbed(model):
                        began += control.wait(state.step, interrupted)
                    # What there is was saved when the pause began. Several processes take one step more, and stop
                    # together.
                    ending = team.size == 1 and (control.stopping or interrupted.is_set())

        finished, val_loss = state.step == config.steps, None
        if finished:
            run.restore_best()
            val_loss = evaluate(model, validation, team=team)
        model.eval()
        result = TrainResult(
            finished,
            state.step,
            config.steps,
            state.tokens,
            round(state.seconds, 3),
            state.train_loss,
            val_loss,
            precision.value,
            torch.get_num_threads(),
            device.value,
            run.log,
        )
        if finished:
            run.finish({key: value for key, value in asdict(result).items() if key != "log"})
    if finished:
        say(f"validation loss {val_loss:.4f} nats per token after {state.step} steps, {state.seconds:.0f} s")
    else:
        where = (
            f"its state is in {out}; resume=True (--resume) goes on from there" if out else "nothing was saved: no out"
        )
        say(f"stopped at step {state.step} of {config.steps}; {where}")
    return result


def _accumulate(
    forward: Callable[..., Any],
    data: TokenData,
    step: int,
    config: TrainConfig,
    model: GPT,
    device: str,
    in_precision: Callable[[], Any],
    team: Team = ALONE,
) -> Tensor:
    """Gradients of one step, averaged over its passes; returns this process's mean loss, a scalar tensor."""
    total = torch.zeros((), device=device)
    for i in range(config.accumulation):
        number = step * config.accumulation + i
        inputs, targets = data.batch(number, config.batch_size, model.config.n_positions, config.seed, team.rows)
        with gradients_add_up(forward, more=i + 1 < config.accumulation):
            with in_precision():
                _, loss = forward(inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
            (loss / config.accumulation).backward()
        total += loss.detach() / config.accumulation
    return total


def _look(
    run: Run,
    state: State,
    validation: TokenData,
    norm: Tensor,
    in_precision: Callable[[], Any],
    measure: Callable[[GPT], dict[str, float]] | None,
    sample: Callable[[GPT], str] | None,
) -> Progress:
    """What there is to say after a step, with what its place in the run asks to be measured."""
    model, config, team = run.model, run.config, run.team
    last, val_loss, measured, written = state.step == config.steps, None, None, None
    # After the last step the whole split is measured; the best step needs the same windows throughout.
    if config.keep == "best" if last else config.looks(state.step):
        val_loss = evaluate(model, validation, max_windows=config.eval_windows, context=in_precision(), team=team)
        if config.keep == "best" and (state.best is None or val_loss < state.best):
            state.best = val_loss
            run.keep_weights()
    if (last or config.looks(state.step)) and (team.leads or config.shard):
        with in_precision():
            measured = None if measure is None else measure(model.eval())
            written = None if sample is None else sample(model.eval())
        model.train()
    assert state.train_loss is not None
    return Progress(
        state.step,
        state.train_loss,
        learning_rate_at(state.step - 1, config),
        norm.item(),
        state.tokens,
        state.seconds,
        val_loss,
        measured,
        written,
    )


def _in_short(progress: Progress) -> dict[str, str]:
    shown = {"loss": f"{progress.loss:.3f}", "tokens/s": f"{progress.tokens / progress.seconds:,.0f}"}
    return shown if progress.val_loss is None else {**shown, "val": f"{progress.val_loss:.3f}"}


def _require_finite(loss: Tensor, norm: Tensor, step: int, config: TrainConfig) -> None:
    if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
        raise FloatingPointError(
            f"the loss is {loss.item():.4g} and its gradient's norm {norm.item():.4g} at step {step}; a learning_rate "
            f"below {config.learning_rate} or a grad_clip above 0 may help"
        )


@contextmanager
def _undisturbed(model: GPT) -> Iterator[None]:
    """Whatever happens inside, dropout goes on drawing where it was, and the model is in training mode again."""
    on_gpu = model.token_embedding.weight.device.type == "cuda"
    rng, rng_on_gpu = torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None
    yield
    torch.set_rng_state(rng)
    if rng_on_gpu is not None:
        torch.cuda.set_rng_state(rng_on_gpu)
    model.train()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that a step is never left half done; a second Ctrl-C interrupts at once.

    A second SIGTERM does not: a launcher sends one of its own when it has been told to end.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may change signal handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    for number in before:
        signal.signal(number, ask)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shape_of(model: GPT) -> str:
    c = model.config
    return (
        f"{model.n_parameters():,} parameters: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, "
        f"{c.n_positions} positions, {c.vocab_size} tokens"
    )


def _silent(text: str) -> None:
    """Say nothing."""
