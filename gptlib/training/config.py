"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Literal

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run. `preset` has those that go with the model presets of the same name.

    Args:
        steps: optimizer steps.
        batch_size: windows a step and pass, B; a window is `n_positions` tokens.
        accumulation: passes whose gradients are averaged into one step.
        learning_rate: at the end of the warmup.
        min_learning_rate: at the last step; a tenth of `learning_rate` if None.
        warmup_steps: over which the rate rises from near 0; less than `steps`, and cut to a tenth of a shorter run.
        weight_decay: on matrices and embeddings; biases and norms have none.
        optimizer: "adamw", or "muon" for the matrices inside the blocks with AdamW for the rest.
        beta1: AdamW's decay of the mean gradient.
        beta2: AdamW's decay of the mean squared gradient.
        grad_clip: largest norm of the gradient; 0 for no limit.
        seed: of the batches, of dropout, and of nothing else.
        eval_every: steps between validation losses on `eval_windows` windows; the last one is always on all.
        eval_windows: see above.
        save_every: steps between checkpoints.
        log_every: steps between lines of the log.
        keep: which weights the run hands out: of the "last" step, or of the "best" validation loss on the way.
        precision: "auto", "fp32" or "bf16" (autocast; weights and losses stay fp32).
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        compile: run the model through `torch.compile`.
        shard: cut weights, gradients and optimizer state into parts, one for each process of the run (FSDP2), for a
            model that one device cannot hold.

    Raises:
        ValueError: for a setting outside its range.
    """

    steps: int = 2000
    batch_size: int = 12
    accumulation: int = 1
    learning_rate: float = 1e-3
    min_learning_rate: float | None = None
    warmup_steps: int = 100
    weight_decay: float = 0.1
    optimizer: Literal["adamw", "muon"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0
    seed: int = 1337
    eval_every: int = 250
    eval_windows: int = 200
    save_every: int = 250
    log_every: int = 10
    keep: Literal["last", "best"] = "last"
    precision: Precision = "auto"
    device: str = "auto"
    compile: bool = False
    shard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "eval_every", "eval_windows", "save_every", "log_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a whole number of at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} must be a whole number from 0 to {2**63 - 1}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate} must be above 0; 1e-3 suits small models")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"min_learning_rate={self.min_learning_rate} must lie between 0 and learning_rate={self.learning_rate}"
            )
        for name in ("warmup_steps", "weight_decay", "grad_clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative; 0 turns it off")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1); AdamW's usual pair is 0.9 and 0.99")
        choices_of = {"precision": ("auto", "fp32", "bf16"), "keep": ("last", "best"), "optimizer": ("adamw", "muon")}
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")

    @property
    def final_learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self.learning_rate / 10 if self.min_learning_rate is None else self.min_learning_rate

    def looks(self, step: int) -> bool:
        """Whether the validation loss is measured after this many steps."""
        return step % self.eval_every == 0

    @property
    def warmup(self) -> int:
        """Steps of warmup, which in a short run are a tenth of it at most."""
        return min(self.warmup_steps, self.steps // 10)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainConfig:
        """The recipe that goes with `GPTConfig.preset(name)`, with `changes` made to it.

        Raises:
            ValueError: for a preset that has no recipe.
        """
        if name not in RECIPES:
            near = difflib.get_close_matches(name, RECIPES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"no training recipe for preset {name!r}; {hint}presets with one: {', '.join(RECIPES)}")
        return cls(**{**RECIPES[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        return dataclasses.asdict(self)


def _gpt2(rate: float, accumulation: int = 8) -> dict[str, Any]:
    """For large GPUs, as docs/many-gpus.md tells; not run from end to end.

    Rate and tokens a step (64 · 1,024 · accumulation) are those of GPT-3's models of like size: Brown et al., "Language
    Models are Few-Shot Learners" (2020), table 2.1. As many steps as make some 10 billion tokens of half a million.
    """
    return {
        "steps": 19_000,
        "batch_size": 64,
        "accumulation": accumulation,
        "learning_rate": rate,
        "warmup_steps": 700,
        "beta2": 0.95,
        "save_every": 500,
    }


RECIPES: dict[str, dict[str, Any]] = {
    # 1,000 steps of 24 windows of 64 characters: the 1.54 M tokens of nanoGPT's CPU recipe, in half the steps.
    "shakespeare-cpu": {"steps": 1000, "batch_size": 24, "learning_rate": 3e-3, "warmup_steps": 100},
    # The last rung of source/measure/ideas.py, and a little longer: 0.26 M tokens.
    "shakespeare-fast": {
        "steps": 250,
        "batch_size": 16,
        "learning_rate": 6e-3,
        "min_learning_rate": 0.0,
        "warmup_steps": 10,
        "optimizer": "muon",
    },
    # 5,000 steps of 64 windows of 256 characters: nanoGPT's GPU recipe, which overfits before it ends.
    "shakespeare-gpu": {"steps": 5000, "batch_size": 64, "learning_rate": 1e-3, "warmup_steps": 100, "keep": "best"},
    "gpt2": _gpt2(rate=6e-4),
    "gpt2-medium": _gpt2(rate=3e-4),
    "gpt2-large": _gpt2(rate=2.5e-4),
    "gpt2-xl": _gpt2(rate=2e-4, accumulation=16),
    # Some five minutes on two cores. The bundled model had more of the same: MODEL_CARD.md beside it has the command.
    "tales": {
        "steps": 1200,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "min_learning_rate": 0.0,
        "optimizer": "muon",
        "eval_every": 200,
    },
}
