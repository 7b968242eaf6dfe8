"""A run's folder: what is written while it goes on, and how a later process takes it up again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlib.corpora import Corpus, TokenFiles
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer
from gptlib.training import checkpoint as files
from gptlib.training.config import TrainConfig
from gptlib.training.distributed import ALONE, Team, cut_like, held

# Settings that change how fast or how closely watched a run is, and not what it learns.
FREE = {"device", "precision", "compile", "shard", "eval_every", "eval_windows", "save_every", "log_every"}


@dataclass
class State:
    """Where a run stands; all of it is in the checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    train_loss: float | None = None
    best: float | None = None


class Run:
    """A run and its folder; without a folder nothing is written, and of several processes only the first writes."""

    def __init__(
        self,
        folder: Path | None,
        model: GPT,
        tokenizer: Tokenizer,
        config: TrainConfig,
        corpus: Corpus | TokenFiles,
        precision: str,
        device: str,
        team: Team = ALONE,
    ) -> None:
        self.folder, self.model, self.tokenizer = folder, model, tokenizer
        self.config, self.corpus, self.precision, self.device = config, corpus, precision, device
        self.team = team
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None

    def start(self, optimizers: list[torch.optim.Optimizer], resume: bool, say: Callable[[str], None]) -> State:
        """Begin a new run, or take up the one in the folder.

        Raises:
            ValueError: if the folder holds a run and `resume` is off, or another run than this one, or for some of the
                processes another state than for the others.
        """
        state, refusal = State(), None
        try:
            state = self._start(optimizers, resume, say)
        except ValueError as error:
            refusal = error
        [refused] = self.team.any(refusal is not None)
        if refusal is not None:
            raise refusal
        if refused:
            raise ValueError(
                f"process {self.team.rank} of {self.team.size}: another one refuses this run, and says why"
            )
        same = [self.config.to_dict(), self.model.config.to_dict(), self.corpus.sha256, state.step]
        digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
        if not self.team.equal(int(digest[:6], 16)):
            raise ValueError(
                f"not all processes have the same settings, corpus and run (process {self.team.rank} is at step "
                f"{state.step} in {self.folder}); give all the same command, and several machines a folder they share"
            )
        if state.step and not self.team.leads:  # the first one goes on drawing where it was
            torch.manual_seed(self.config.seed + self.team.rank + self.team.size * state.step)
        return state

    def _start(self, optimizers: list[torch.optim.Optimizer], resume: bool, say: Callable[[str], None]) -> State:
        if self.folder is None:
            return State()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; name a folder for the run")
        path = self.folder / files.CHECKPOINT
        if not path.exists() and not self.team.leads:
            return State()
        if not path.exists():
            self._refuse_to_overwrite()
            if resume:
                say(f"nothing to resume in {self.folder}: starting afresh")
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / files.LOG).write_text("", encoding="utf-8")  # first, since it marks the folder as a run's
            files.write_json(self.folder / files.CONFIG, {"model_type": "gptlib", **self.model.config.to_dict()})
            self.tokenizer.save(self.folder / files.TOKENIZER)
            return State()
        if self.team.leads:
            files.remove_unfinished(self.folder)
        tensors, metadata = files.read_tensors(path)
        if "state" not in metadata:
            raise ValueError(f"{path} is no checkpoint of a training run; choose another folder")
        state = State(**json.loads(metadata["state"]))
        if not resume:
            raise ValueError(
                f"{self.folder} already holds a run (step {state.step} of {json.loads(metadata['config'])['steps']}); "
                "add --resume (resume=True) to go on with it, or choose another folder"
            )
        self._check_same_run(metadata, say)
        model_weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        files.load_weights(self.model, model_weights, str(path))
        files.unpack_optimizers(optimizers, tensors)
        if self.config.keep == "best" and state.best is not None:
            best, _ = files.read_tensors(self.folder / files.WEIGHTS)
            own = files.named_weights(self.model)
            self.best = {name: held(cut_like(tensor, own[name])).cpu() for name, tensor in best.items()}
        torch.set_rng_state(tensors["rng"])
        if "rng.cuda" in tensors and self.device.startswith("cuda"):
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        log = self.folder / files.LOG
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        self.log = [entry for entry in entries if entry["step"] <= state.step]
        if self.team.leads:
            log.write_text("".join(json.dumps(e) + "\n" for e in self.log), encoding="utf-8")
        say(f"resuming at step {state.step} of {self.config.steps}")
        return state

    @property
    def _has_a_part(self) -> bool:
        """Whether this process has a part in writing: the first, and all where each has a part of the weights."""
        return self.team.leads or self.config.shard

    def _refuse_to_overwrite(self) -> None:
        assert self.folder is not None
        found = [name for name in (files.CONFIG, files.TOKENIZER, files.WEIGHTS) if (self.folder / name).exists()]
        if (self.folder / files.RESULT).exists():
            raise ValueError(
                f"{self.folder} holds a finished run whose {files.CHECKPOINT} is gone, so it can be used and not "
                "trained on; choose another folder"
            )
        if found and not (self.folder / files.LOG).exists():
            raise ValueError(
                f"{self.folder} holds {' and '.join(found)} of something else than a run, and training would overwrite "
                "them; choose another folder"
            )

    def _check_same_run(self, metadata: dict[str, str], say: Callable[[str], None]) -> None:
        then = {**json.loads(metadata["config"]), "corpus": metadata["corpus"]}
        now = {**self.config.to_dict(), "corpus": self.corpus.name}
        then_model, now_model = json.loads(metadata["model"]), self.model.config.to_dict()
        for old, new in ((then_model, now_model), (then, now)):
            for name in sorted(new.keys() - FREE):
                if old.get(name) != new[name]:
                    raise ValueError(
                        f"the run in {self.folder} has {name}={old.get(name)!r} and this one {name}={new[name]!r}; "
                        "resume with the same settings, or choose another folder"
                    )
        text_then = metadata.get("corpus_sha256", self.corpus.sha256)  # earlier runs did not write it down
        if text_then != self.corpus.sha256:
            raise ValueError(
                f"the text of {self.corpus.name!r} has changed since the run in {self.folder} began (SHA-256 "
                f"{text_then[:12]}… then, {self.corpus.sha256[:12]}… now); bring the old text back, or choose another "
                "folder"
            )
        here = {"precision": self.precision, "threads": str(torch.get_num_threads()), "device": self.device}
        for name, value in here.items():
            if metadata[name] != value:
                say(f"{name} was {metadata[name]} and is {value} now: losses will differ in their last digits")

    def write_log(self, entry: dict[str, Any]) -> None:
        """Add a line to the log."""
        self.log.append(entry)
        if self.folder is not None and self.team.leads:
            with (self.folder / files.LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def keep_weights(self) -> None:
        """Remember the weights of this step as the best so far."""
        own = files.named_weights(self.model)
        self.best = {name: held(tensor).detach().to("cpu", copy=True) for name, tensor in own.items()}
        if self.folder is not None and self._has_a_part:
            weights = files.weights_of(self.model, keep=self.team.leads)
            if self.team.leads:
                files.write_tensors(self.folder / files.WEIGHTS, weights, {"format": "pt"})

    def restore_best(self) -> None:
        """Give the model the weights of the best validation loss, where the run keeps them."""
        if self.best is not None:
            for name, tensor in files.named_weights(self.model).items():
                held(tensor).detach().copy_(self.best[name])

    def save(self, optimizers: list[torch.optim.Optimizer], state: State) -> None:
        """Replace the checkpoint by the present state, in one move."""
        if self.folder is None or not self._has_a_part:
            return
        weights = files.weights_of(self.model, keep=self.team.leads)
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        tensors |= files.pack_optimizers(optimizers, keep=self.team.leads)
        if not self.team.leads:
            return
        tensors["rng"] = torch.get_rng_state()
        if self.device.startswith("cuda"):
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        metadata = {
            "state": json.dumps(asdict(state)),
            "config": json.dumps(self.config.to_dict()),
            "model": json.dumps(self.model.config.to_dict()),
            "corpus": self.corpus.name,
            "corpus_sha256": self.corpus.sha256,
            "precision": self.precision,
            "threads": str(torch.get_num_threads()),
            "device": self.device,
        }
        files.write_tensors(self.folder / files.CHECKPOINT, tensors, metadata)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the final weights, then the result, whose presence says that the run is finished."""
        if self.folder is None or not self._has_a_part:
            return
        weights = files.weights_of(self.model, keep=self.team.leads)
        if self.team.leads:
            files.save_model(self.folder, self.model.config, weights, self.tokenizer)
            files.write_json(self.folder / files.RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """The result of a run that an earlier process finished."""
        if self.folder is None or not (self.folder / files.RESULT).exists():
            return None
        self.restore_best()
        self.model.eval()
        values: dict[str, Any] = json.loads((self.folder / files.RESULT).read_text(encoding="utf-8"))
        return values
