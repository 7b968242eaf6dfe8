"""The same GPT-2 in gptlib, in transformers and in nanoGPT: same shape and weights, each run as its own code does.

nanoGPT is read from a folder that the user names; nothing of it is kept here.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import GPT, GPTConfig, TrainConfig
from gptlib.bench.limits import wait_for
from gptlib.huggingface import config_to_transformers, weights_to_transformers
from gptlib.training import autocast, choose_precision, make_optimizers
from gptlib.training.step import clip_gradient


def gpt2_shape(n_layer: int, n_head: int, n_embd: int, n_positions: int, vocab_size: int = 65) -> GPTConfig:
    """A shape that all three can build: GPT-2's, with nanoGPT's exact GELU."""
    return GPTConfig(vocab_size, n_positions, n_embd, n_layer, n_head, mlp="gelu")


def to_transformers(model: GPT) -> nn.Module:
    """The same weights as a GPT2LMHeadModel."""
    import transformers

    shape = config_to_transformers(model.config)
    theirs = transformers.AutoModelForCausalLM.from_config(shape)
    theirs.load_state_dict(weights_to_transformers(model.config, model.state_dict()), strict=False)
    theirs.generation_config.eos_token_id = None
    theirs.generation_config.pad_token_id = 0
    return theirs  # type: ignore[no-any-return]


def to_nanogpt(model: GPT, folder: Path) -> nn.Module:
    """The same weights as nanoGPT's GPT, from the code in `folder`.

    Raises:
        ValueError: if there is no nanoGPT in the folder.
    """
    file = folder / "model.py"
    if not file.exists():
        raise ValueError(f"{folder} has no model.py; name a folder with a clone of nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    c = model.config
    with redirect_stdout(StringIO()):
        theirs = module.GPT(module.GPTConfig(c.n_positions, c.vocab_size, c.n_layer, c.n_head, c.n_embd, 0.0, c.bias))
    weights = weights_to_transformers(c, model.state_dict())
    linear = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # nn.Linear there, and transposed in GPT-2's files
    weights = {name: w.t().contiguous() if name.endswith(linear) else w for name, w in weights.items()}
    theirs.load_state_dict(weights, strict=False)
    return theirs  # type: ignore[no-any-return]


@dataclass
class Trainer:
    """One contestant's training step.

    Args:
        name: for the table.
        model: what it trains.
        loss_of: from inputs and targets, both (B, T), to its loss.
        optimizers: its own.
        context: in which the loss is computed; bf16 autocast or nothing.
    """

    name: str
    model: nn.Module
    loss_of: Callable[[Tensor, Tensor], Tensor]
    optimizers: list[torch.optim.Optimizer]
    context: Callable[[], AbstractContextManager[Any]]

    def step(self, inputs: Tensor, targets: Tensor) -> int:
        """One optimizer step; returns how many tokens were trained on."""
        self.model.train()
        with self.context():
            loss = self.loss_of(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradient(self.model, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait_for(str(inputs.device))
        return inputs.numel()


def trainers(config: GPTConfig, device: str, nanogpt: Path | None, only: str | None = None) -> list[Trainer]:
    """The contestants, as each ships and at equal precision; `only` one of them by name, if given.

    As they ship: gptlib in the precision that it chooses for the device. nanoGPT compiles and uses bf16 on a GPU, and
    does neither in its recipe for a CPU. transformers trains in fp32 and does not compile. Beside them stand gptlib and
    nanoGPT in the other precision, and on a GPU with and without compiling.
    """
    on_gpu = torch.device(device).type == "cuda"

    def own() -> GPT:
        torch.manual_seed(0)
        return GPT(config).to(device)

    def precision(name: str) -> Callable[[], AbstractContextManager[Any]]:
        chosen = choose_precision(device, name).value
        return partial(autocast, device, chosen) if chosen != "fp32" else nullcontext

    def ours(name: str, kind: str, compiled: bool) -> Trainer:
        model = own()
        run = torch.compile(model) if compiled else model
        return Trainer(name, model, lambda x, y: run(x, y)[1], make_optimizers(model, RECIPE), precision(kind))

    def nano(name: str, kind: str, compiled: bool) -> Trainer:
        assert nanogpt is not None
        model = to_nanogpt(own(), nanogpt).to(device)
        run = torch.compile(model) if compiled else model
        with redirect_stdout(StringIO()):
            optimizer = model.configure_optimizers(0.1, 1e-5, (0.9, 0.95), torch.device(device).type)  # type: ignore[operator]
        return Trainer(name, model, lambda x, y: run(x, y)[1], [optimizer], precision(kind))

    def hf(name: str, kind: str) -> Trainer:
        model = to_transformers(own()).to(device)

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            logits = model(input_ids=x, use_cache=False).logits  # (B, T, V)
            return F.cross_entropy(logits.flatten(0, 1).float(), y.flatten())

        return Trainer(name, model, loss_of, make_optimizers(model, RECIPE), precision(kind))

    makers: dict[str, Callable[[str], Trainer]] = {"gptlib": lambda name: ours(name, "auto", False)}
    if on_gpu:
        makers["gptlib --compile"] = lambda name: ours(name, "auto", True)
    else:
        makers["gptlib, fp32"] = lambda name: ours(name, "fp32", False)
    if nanogpt is not None:
        makers["nanoGPT"] = lambda name: nano(name, "bf16" if on_gpu else "fp32", on_gpu)
        makers["nanoGPT, bf16" + (", not compiled" if on_gpu else "")] = lambda name: nano(name, "bf16", False)
    makers["transformers"] = lambda name: hf(name, "fp32")
    makers["transformers, bf16"] = lambda name: hf(name, "bf16")
    return [make(name) for name, make in makers.items() if only in (None, name)]


RECIPE = TrainConfig(learning_rate=1e-5)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    ordered = torch.tensor(values, dtype=torch.float64)
    low, middle, high = (float(ordered.quantile(q)) for q in (0.25, 0.5, 0.75))
    assert math.isfinite(middle)
    return low, middle, high
