"""One model of ours and its like in transformers, trained and made to write in turns."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.bench.limits import measure_limits, memory_of, wait_for
from gptlib.bench.report import Race, Report
from gptlib.bench.turns import take_turns
from gptlib.config import GPTConfig
from gptlib.generation import generate
from gptlib.huggingface import config_to_transformers, weights_to_transformers
from gptlib.model import GPT
from gptlib.scaling import cache_memory, parameters, training_flops, training_flops_per_token, training_memory
from gptlib.training import TrainConfig, autocast, choose_device, choose_precision, make_optimizers
from gptlib.training.step import clip_gradient

ROW = 1024  # tokens of a row in training at most
STEP = 4096  # tokens of a step at most
PROMPT, WRITTEN = 8, 64  # tokens read before writing, tokens written at most


def bench(
    preset: str = "shakespeare-gpu",
    *,
    seconds: float = 60.0,
    batch_size: int | None = None,
    precision: str = "auto",
    device: str = "auto",
    progress: Callable[[float], object] = lambda part: None,
) -> Report:
    """Measure the machine's limits, and how near to them a model of a preset's shape trains and writes.

    Dropout is off. gptlib and transformers have the same weights, optimizer and tokens, and take turns, so that what
    else the machine does slows both.

    Args:
        preset: a name of `PRESETS`.
        seconds: how long it should take; a slow machine takes longer, as every turn is taken a few times.
        batch_size: rows of a training step; if None, what suits the model and the time.
        precision: of training, as in `TrainConfig`.
        device: as in `TrainConfig`.
        progress: called with the part that is done, 0 to 1.

    Raises:
        ValueError: for an unknown name, a time or batch size of nothing, or a model that memory does not hold.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds={seconds} must be a time above 0; the default is 60")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size} trains on nothing; use 1 or more")
    config = GPTConfig.preset(preset, dropout=0.0)
    place = choose_device(device)
    chosen = choose_precision(place.value, precision)
    n_tokens = min(config.n_positions, ROW)
    require_memory(preset, training_memory(config, batch_size or 1, n_tokens), memory_of(place.value))

    limits = measure_limits(place.value, chosen.value, seconds / 6)
    progress(1 / 6)
    batch_size = batch_size or suitable_batch(config, n_tokens, limits.flops_per_second, seconds)
    torch.manual_seed(0)
    ours = GPT(config).to(place.value)
    theirs, peer = find_peer(ours)
    trainers = _trainers(ours, theirs, batch_size, n_tokens, place.value, chosen.value)
    training = take_turns(trainers, seconds / 2, lambda part: progress(1 / 6 + part / 2))
    n_written = max(1, min(WRITTEN, config.n_positions - PROMPT))
    decoding = take_turns(_writers(ours, theirs, n_written), seconds / 3, lambda part: progress(2 / 3 + part / 3))

    training_limit = limits.flops_per_second / training_flops_per_token(config, n_tokens)
    decoding_limit = limits.bytes_per_second / bytes_per_token(config, PROMPT + n_written // 2)
    machine = {
        "processor": f"{platform.machine()}, {os.cpu_count()} logical cores",
        "device": str(place),
        "precision": str(chosen),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }
    return Report(
        machine,
        preset,
        parameters(config).total,
        batch_size,
        n_tokens,
        n_written,
        limits,
        Race(training[0], training[1] if theirs else None, training_limit),
        Race(decoding[0], decoding[1] if theirs else None, decoding_limit),
        peer,
    )


def require_memory(preset: str, needed: dict[str, int], available: int | None) -> None:
    """Refuse a model for which, and for its like beside it, there is no room.

    Args:
        preset: its name, for the sentence.
        needed: what `training_memory` says.
        available: bytes; None if unknown.

    Raises:
        ValueError: Two models with gradients and optimizer, of which one computes, need more than there is.
    """
    both = 2 * sum(needed.values()) - needed["activations"]
    if available is not None and both > available:
        raise ValueError(
            f"preset {preset!r} needs {both / 1e9:,.0f} GB to train two models in turns, and this device has "
            f"{available / 1e9:,.0f} GB; choose a smaller one, such as shakespeare-gpu"
        )


def suitable_batch(config: GPTConfig, n_tokens: int, flops_per_second: float, seconds: float) -> int:
    """Rows of which a step takes a fortieth of the time, at half the machine's speed; 4,096 tokens at most."""
    in_time = seconds / 40 * flops_per_second / 2 / training_flops(config, n_tokens).total
    return max(1, min(int(in_time), STEP // n_tokens))


def bytes_per_token(config: GPTConfig, n_cached: int) -> int:
    """Bytes that are read, in fp32, to write one token: the weights that take part, and the cache.

    Of a table of embeddings that is one row, which is left out, unless the table is the output map too.
    """
    count = parameters(config)
    idle = count.get("position embeddings", 0) + (0 if config.tie_weights else count["token embeddings"])
    return 4 * (count.total - idle) + cache_memory(config, n_cached)


def find_peer(model: GPT) -> tuple[Any, str]:
    """The same model in transformers, and its name; or None, and why there is none."""
    try:
        import transformers

        theirs = transformers.AutoModelForCausalLM.from_config(config_to_transformers(model.config))
    except (ImportError, ValueError) as error:
        return None, f"no comparison with transformers: {error}"
    theirs.load_state_dict(weights_to_transformers(model.config, model.state_dict()), strict=False)
    theirs.generation_config.eos_token_id = None  # no token ends the text
    theirs.generation_config.pad_token_id = 0
    return theirs.to(model.token_embedding.weight.device), f"transformers {transformers.__version__}"


def _trainers(
    ours: GPT, theirs: Any, batch_size: int, n_tokens: int, device: str, precision: str
) -> list[Callable[[], int]]:
    ids = torch.randint(ours.config.vocab_size, (batch_size, n_tokens + 1)).to(device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()  # (B, T)

    def our_loss() -> Any:
        return ours(inputs, targets)[1]

    def their_loss() -> Tensor:
        logits = theirs(input_ids=inputs, use_cache=False).logits  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], loss_of: Callable[[], Any]) -> int:
        """One optimizer step, as in `gptlib.training.train`."""
        model.train()
        with autocast(device, precision):
            loss = loss_of()
        loss.backward()
        clip_gradient(model, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait_for(device)
        return inputs.numel()

    pairs = [(ours, our_loss)] + ([(theirs, their_loss)] if theirs else [])
    recipe = TrainConfig(learning_rate=1e-5)
    return [partial(train, model, make_optimizers(model, recipe), loss_of) for model, loss_of in pairs]


def _writers(ours: GPT, theirs: Any, n_written: int) -> list[Callable[[], int]]:
    device = str(ours.token_embedding.weight.device)
    length = max(1, min(PROMPT, ours.config.n_positions - n_written))
    prompt = torch.arange(length, device=device)[None] % ours.config.vocab_size  # (1, length)

    def our_text() -> Tensor:
        return generate(ours.eval(), prompt, n_written, temperature=0)

    def their_text() -> Any:
        everything = torch.ones_like(prompt)
        return theirs.eval().generate(prompt, attention_mask=everything, max_new_tokens=n_written, do_sample=False)

    def write(text_of: Callable[[], Tensor]) -> int:
        text = text_of()  # (1, length + n_written)
        wait_for(device)
        return text.size(1) - length

    return [partial(write, text_of) for text_of in ([our_text, their_text] if theirs else [our_text])]
