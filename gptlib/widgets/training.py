"""The training monitor: a run while it goes on, and a hand on it."""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets

from gptlib import tales
from gptlib.corpora import Corpus
from gptlib.generation import generate
from gptlib.model import GPT
from gptlib.plots import Picture
from gptlib.plots.monitor import plot_run
from gptlib.tokenizers import Tokenizer
from gptlib.training import Control, Progress, TrainConfig, TrainResult, choose_device, choose_precision, train
from gptlib.training.checkpoint import CHECKPOINT, LOG
from gptlib.widgets.base import View, view_module, view_style

Entry = dict[str, Any]
SHOWN = 1500  # points of a curve that are sent: more than there are pixels across
SAMPLES = 50  # texts that are sent, the latest
EVERY = 0.3  # seconds between messages to the browser
SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 80, 0.8


class TrainingMonitor(View):
    """A run of `train` and what it is doing: loss and its floor, learning rate, gradient norm, speed, texts, abilities.

    `start()` trains in a thread and returns at once, so that the kernel stays free: other cells run, and the buttons
    (pause, go on, save, stop) are heard in every notebook, Colab among them. `run()` starts and waits for the end;
    interrupting it ends the run with its state saved. In a terminal `run()` shows `train`'s own progress line instead.
    While a run goes on, leave its model alone: pause it first.

    Args:
        model: trained in place.
        corpus: text, with a part held back for validation.
        tokenizer: its vocabulary must fit the model's.
        config: `TrainConfig()` if None.
        out: folder of the run; without one nothing is saved, and a stopped run cannot be gone on with.
        resume: go on from the checkpoint in `out`.
        measure: as in `train`; `tales.tracker(tokenizer)` scores abilities.
        prompt: what the texts that the model writes on the way begin with; an end of text if None, or the corpus's
            first characters for a tokenizer without one; "" for no texts.
        floor: the lowest possible loss in nats per token; on tales it is known, and computed if None.
        recorded: an earlier run to lay beneath: a run folder, its `log.jsonl`, or the `log` of a `TrainResult`.
        recorded_name: its label; its folder's name if None.

    Raises:
        ValueError: for a device, precision or recorded run that cannot be used; what does not fit else is said by the
            run itself.

    Example:
        >>> TrainingMonitor.replay([{"step": 10, "loss": 2.5, "tokens": 640, "seconds": 1.0}]).status
        'recorded'
    """

    _esm = view_module("training_monitor")
    _css = view_style("charts", "training_monitor")
    name = traitlets.Unicode("this run").tag(sync=True)
    status = traitlets.Unicode("ready").tag(sync=True)
    about = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    actions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    steps = traitlets.Int(0).tag(sync=True)
    seconds = traitlets.Float(0.0).tag(sync=True)
    left = traitlets.Float(0.0).tag(sync=True)
    floor = traitlets.Float(None, allow_none=True).tag(sync=True)
    curve = traitlets.Bytes(b"").tag(sync=True)  # float32 rows, as `_curve` makes them
    measures = traitlets.List(traitlets.Unicode()).tag(sync=True)
    rising = traitlets.Bytes(b"").tag(sync=True)  # float32 rows: step, and a value for each measure
    samples: Any = traitlets.List().tag(sync=True)  # [step, text]
    recorded_name = traitlets.Unicode("").tag(sync=True)
    recorded_curve = traitlets.Bytes(b"").tag(sync=True)
    recorded_measures = traitlets.List(traitlets.Unicode()).tag(sync=True)
    recorded_rising = traitlets.Bytes(b"").tag(sync=True)
    recorded_samples: Any = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: GPT,
        corpus: Corpus,
        tokenizer: Tokenizer,
        config: TrainConfig | None = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        measure: Callable[[GPT], dict[str, float]] | None = None,
        prompt: str | None = None,
        floor: float | None = None,
        recorded: str | Path | Sequence[Entry] | None = None,
        recorded_name: str | None = None,
    ) -> None:
        config = config or TrainConfig()
        device = choose_device(config.device)
        precision = choose_precision(device.value, config.precision)
        sample = None if prompt == "" else _writer(tokenizer, corpus, prompt)
        self._model = model
        self._train: Callable[..., TrainResult] = partial(
            train, model, corpus, tokenizer, config, out=out, measure=measure, sample=sample
        )
        self._out, self._resume = Path(out) if out else None, resume
        if floor is None and corpus.name.split(":")[0] == "tales":
            floor = tales.entropy(tokenizer, n=2000).nats_per_token
        about = f"{model.n_parameters():,} parameters on {corpus.name}; device {device}; precision {precision}"
        self._prepare([] if recorded is None else read_log(recorded))
        super().__init__(
            floor=floor, steps=config.steps, about=about, actions=["start"], **_recording(recorded, recorded_name)
        )

    def _prepare(self, past: list[Entry]) -> None:
        self._past = past  # the recorded run
        self._lock = threading.RLock()  # the run's thread and the kernel's both change what is synchronised
        self._log: list[Entry] = []
        self._control: Control | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._result: TrainResult | None = None
        self._again = False  # whether this is not the first start
        self._error: BaseException | None = None
        self._told = 0.0

    @classmethod
    def replay(
        cls, recorded: str | Path | Sequence[Entry], *, name: str | None = None, floor: float | None = None
    ) -> TrainingMonitor:
        """A view of a recorded run alone; nothing is trained.

        Args:
            recorded: a run folder, its `log.jsonl`, or the `log` of a `TrainResult`.
            name: its label; its folder's name if None.
            floor: the lowest possible loss in nats per token, if it is known.

        Raises:
            ValueError: for a log that cannot be read or is empty.
        """
        view = cls.__new__(cls)
        past = read_log(recorded)
        view._prepare(past)
        values, last = _recording(recorded, name), past[-1]
        View.__init__(
            view, status="recorded", floor=floor, seconds=float(last["seconds"]), **values,
            note=f"A recorded run, {values['recorded_name']}: {last['step']:,} steps. Nothing is trained here.",
        )  # fmt: skip
        return view

    # The run --------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the run's thread is alive, paused or not."""
        return self._thread is not None and not self._ended.is_set()

    @property
    def result(self) -> TrainResult | None:
        """What the run came to, or None before its end."""
        return self._result

    @property
    def log(self) -> list[Entry]:
        """Entries so far, as in `TrainResult.log`."""
        return list(self._log)

    def start(self) -> None:
        """Train in a thread; a run that was stopped and has a folder goes on from its checkpoint.

        Raises:
            ValueError: if it runs already, is finished, or cannot be gone on with.
        """
        with self._lock:
            self._begin()
            self._thread = threading.Thread(target=self._work, kwargs={"verbose": False}, daemon=True)
            self._thread.start()
        atexit.register(self._leave)

    def wait(self) -> TrainResult:
        """Wait for the run's end; interrupting the kernel stops the run, with its state saved.

        Raises:
            ValueError: if nothing runs, or the run cannot begin.
            FloatingPointError: if its loss was no longer a number.
        """
        if self._thread is None:
            raise ValueError("nothing runs; call start() first")
        try:
            self._join()
        except KeyboardInterrupt:
            self.stop()
            self._join()
        return self._outcome()

    def run(self) -> TrainResult:
        """Train and wait: in a notebook with the view on the page, in a terminal with a progress line.

        Raises:
            ValueError: as `start` and `wait`.
        """
        if not _in_notebook():
            with self._lock:
                self._begin()
            self._work(verbose=True)
            return self._outcome()
        from IPython.display import display

        shown = display(self, display_id=True)
        try:
            self.start()
            return self.wait()
        finally:
            # The notebook keeps the picture of what was displayed: let that be the run's end and not its beginning.
            if shown is not None and not hasattr(self, "_ipython_display_"):  # ipywidgets 7 would show a second view
                shown.update(self)

    def pause(self) -> None:
        """Wait after the step at hand, with the state saved; the model can be used meanwhile."""
        self._living("pause").pause()

    def go_on(self) -> None:
        """End a pause, or take up a run that was stopped."""
        if self.running:
            self._living("go on").go_on()
        else:
            self.start()

    def save(self) -> None:
        """Save after the step at hand."""
        if self._out is None:
            raise ValueError("out=None: there is no folder to save to; make the monitor with out='runs/name'")
        self._living("save").save()

    def stop(self) -> None:
        """End the run after the step at hand, with its state saved."""
        self._living("stop").stop()

    def _living(self, what: str) -> Control:
        if self._control is None or self._ended.is_set():
            raise ValueError(f"nothing runs that could {what}; call start() first")
        return self._control

    def _begin(self) -> None:
        if self.status == "recorded":
            raise ValueError("this is a recorded run; make a TrainingMonitor with a model to train one")
        if self.running:
            raise ValueError("the run goes on already; pause or stop it")
        if self._result is not None and self._result.finished:
            raise ValueError(f"the run is finished after {self._result.step} steps; make a new monitor for another")
        if self._result is not None and self._out is None:
            raise ValueError("the run was stopped and had no folder to go on from; make a new monitor with out=")
        self._again = self._resume or self._result is not None
        if self._again and self._out is not None and (self._out / CHECKPOINT).exists():
            self._log = _entries_of(self._out / LOG)
        self._result, self._error = None, None
        self._ended.clear()
        self._control = Control(self._happened)
        self._tell(status="running", note="", actions=self._possible("pause", "save", "stop"))

    def _work(self, verbose: bool) -> None:
        try:
            result = self._train(resume=self._again, on_step=self._on_step, control=self._control, verbose=verbose)
        except BaseException as error:  # it would be lost in the thread; `wait` raises it, and the view says it
            self._error = error
            self._tell(status="failed", problem=str(error), actions=[], **self._drawn())
        else:
            self._keep(result)
        finally:
            self._ended.set()

    def _keep(self, result: TrainResult) -> None:
        self._result, self._log = result, list(result.log)
        where = f"Its state is in {self._out}." if self._out else "Nothing was saved: the monitor has no folder (out=)."
        if result.finished:
            status, told = (
                "finished",
                f"Validation loss {result.val_loss:.4f} nats per token after {result.step:,} steps.",
            )
        else:
            status, told = "stopped", f"Stopped at step {result.step:,}."
        actions = ["go on"] if self._out and not result.finished else []
        self._tell(status=status, note=f"{told} {where}", actions=actions, **self._drawn())

    def _join(self) -> None:
        # Not Thread.join: when it is interrupted, Python takes the thread for ended. In pieces, so that it is heard.
        while not self._ended.wait(0.1):
            pass

    def _outcome(self) -> TrainResult:
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _leave(self) -> None:
        """The kernel ends: stop the run, so that its state is saved."""
        if self.running and self._control is not None:
            self._control.stop()
            self._ended.wait(20)

    # What the browser is told, and what it asks ---------------------------------------------------------------------

    def _on_step(self, progress: Progress) -> None:
        while self._log and self._log[-1]["step"] >= progress.step:
            self._log.pop()  # of the run before the checkpoint that this one goes on from
        entry = {k: v for k, v in vars(progress).items() if k != "stop" and v is not None}
        self._log.append(entry)
        if time.perf_counter() - self._told > EVERY or progress.measured or progress.sample:
            self._tell(**self._drawn())

    def _happened(self, event: str, step: int) -> None:
        if event == "saved":
            self._tell(note=f"Saved at step {step:,} in {self._out}." if self._out else "")
        elif event == "paused":
            kept = f"Paused at step {step:,}, saved in {self._out}." if self._out else f"Paused at step {step:,}."
            self._tell(status="paused", note=kept, actions=["go on", "stop"], **self._drawn())
        else:
            self._tell(status="running", note="", actions=self._possible("pause", "save", "stop"))

    def _possible(self, *actions: str) -> list[str]:
        return [action for action in actions if action != "save" or self._out is not None]

    def _tell(self, **values: Any) -> None:
        with self._lock, self.hold_sync():
            for name, value in values.items():
                setattr(self, name, value)
            self.step += 1
            self._told = time.perf_counter()

    def _drawn(self) -> dict[str, Any]:
        zero = {"step": 0, "seconds": 0.0}
        last, recent = (self._log or [zero])[-1], [zero, *self._log][-20:]
        measures, rising = _measures(self._log)
        each = (last["seconds"] - recent[0]["seconds"]) / max(1, last["step"] - recent[0]["step"])
        return {
            "curve": _curve(self._log), "measures": measures, "rising": rising, "samples": _samples(self._log),
            "seconds": float(last["seconds"]), "left": float(each * max(0, self.steps - last["step"])),
        }  # fmt: skip

    def _on_request(self, *arguments: Any) -> None:
        with self._lock:
            super()._on_request(*arguments)

    def _answer(self, request: dict[str, Any]) -> None:
        actions = {"start": self.start, "pause": self.pause, "go on": self.go_on, "save": self.save, "stop": self.stop}
        if request.get("do") not in actions:
            raise ValueError(f"the view asked for {request}; it can ask to do one of {', '.join(actions)}")
        actions[request["do"]]()

    # Where no script runs -------------------------------------------------------------------------------------------

    def _picture(self) -> Picture:
        log = [] if self.status == "recorded" else self._log
        title = self._finding(log or self._past)
        return plot_run(log, title=title, floor=self.floor, recorded=self._past, recorded_name=self.recorded_name)

    def _finding(self, log: Sequence[Entry]) -> str:
        """What a still of the view shows, as a title."""
        if len(log) < 2:
            return f"The run: {self.status}"
        end = next((entry["val_loss"] for entry in reversed(log) if entry.get("val_loss") is not None), None)
        kind, end = ("loss", log[-1]["loss"]) if end is None else ("validation loss", end)
        above = "" if self.floor is None else f", {end - self.floor:.2f} above the floor"
        return f"After {log[-1]['step']:,} steps the {kind} is {end:.2f}{above}"

    def _sentence(self) -> str:
        log = self._log or self._past
        where = f"step {log[-1]['step']:,}, loss {log[-1]['loss']:.3f}" if log else "nothing is measured yet"
        floor = "" if self.floor is None else f"; the floor is {self.floor:.3f} nats per token"
        return f"TrainingMonitor: {self.status}; {where}{floor}"


def read_log(recorded: str | Path | Sequence[Entry]) -> list[Entry]:
    """Entries of a recorded run: from its folder, from its `log.jsonl`, or as they are.

    Raises:
        ValueError: for a path without a log, a line that is no entry, or no entries.
    """
    if isinstance(recorded, str | Path):
        path = Path(recorded) / LOG if Path(recorded).is_dir() else Path(recorded)
        if not path.is_file():
            raise ValueError(f"no log at {path}; name a run's folder or its {LOG}")
        recorded = _entries_of(path)
    entries = [entry for entry in recorded if isinstance(entry, dict) and {"step", "loss", "seconds"} <= entry.keys()]
    if not entries:
        raise ValueError("the recorded run has no entries; train for at least one logged step")
    return entries


def _entries_of(path: Path) -> list[Entry]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    try:
        return [json.loads(line) for line in lines if line.endswith("}")]  # a kill may tear the last line
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no log of a run ({error}); name the {LOG} that train wrote") from None


def _recording(recorded: str | Path | Sequence[Entry] | None, name: str | None) -> dict[str, Any]:
    if recorded is None:
        return {}
    log = read_log(recorded)
    if name is None:
        path = Path(recorded) if isinstance(recorded, str | Path) else None
        name = "recorded" if path is None else f"recorded: {path.parent.name if path.is_file() else path.name}"
    measures, rising = _measures(log)
    return {
        "recorded_name": name, "recorded_curve": _curve(log), "recorded_measures": measures, "recorded_rising": rising,
        "recorded_samples": _samples(log),
    }  # fmt: skip


def _curve(log: Sequence[Entry]) -> bytes:
    """Rows of step, loss, learning rate, gradient norm, tokens per second and validation loss; NaN for what is not."""
    rows, before = [], {"tokens": 0, "seconds": 0.0}
    for entry in log:
        passed = entry["seconds"] - before["seconds"]
        tokens = entry.get("tokens", 0)
        speed = (tokens - before["tokens"]) / passed if passed > 0 and tokens >= before["tokens"] else np.nan
        found = (entry.get(name, np.nan) for name in ("learning_rate", "gradient_norm"))
        rows.append([entry["step"], entry["loss"], *found, speed, entry.get("val_loss", np.nan)])
        before = {"tokens": tokens, "seconds": entry["seconds"]}
    every = max(1, -(-len(rows) // SHOWN))
    kept = [row for i, row in enumerate(rows) if i % every == 0 or i == len(rows) - 1 or not np.isnan(row[5])]
    return np.array(kept, dtype="<f4").tobytes()


def _measures(log: Sequence[Entry]) -> tuple[list[str], bytes]:
    entries = [entry for entry in log if entry.get("measured")]
    names = list(dict.fromkeys(name for entry in entries for name in entry["measured"]))
    rows = [[entry["step"], *(entry["measured"].get(name, np.nan) for name in names)] for entry in entries]
    return names, np.array(rows, dtype="<f4").tobytes()


def _samples(log: Sequence[Entry]) -> list[list[Any]]:
    return [[entry["step"], entry["sample"]] for entry in log if entry.get("sample")][-SAMPLES:]


def _writer(tokenizer: Tokenizer, corpus: Corpus, prompt: str | None) -> Callable[[GPT], str]:
    end = tokenizer.end_id
    start = tokenizer.encode(prompt) if prompt else [end] if end is not None else tokenizer.encode(corpus.train[:8])

    def write(model: GPT) -> str:
        ids = torch.tensor([start[-model.config.n_positions // 2 :]])
        length = min(SAMPLE_TOKENS, model.config.n_positions - ids.size(1))
        written = generate(model, ids, length, temperature=SAMPLE_TEMPERATURE, stop_id=end, seed=0)[0].tolist()
        known = [token for token in written if token < tokenizer.vocab_size and token != end]
        return tokenizer.decode(known)

    return write


def _in_notebook() -> bool:
    """Whether a kernel runs this, so that there is a page to show a view on."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
