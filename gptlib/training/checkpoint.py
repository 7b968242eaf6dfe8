"""A run on disk. Every file is written beside its place and then moved there, so that no moment leaves half a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gptlib.config import GPTConfig
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer
from gptlib.training.distributed import cut_like, held, whole

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
CHECKPOINT, LOG, RESULT = "checkpoint.safetensors", "log.jsonl", "result.json"


def weights_of(model: GPT, keep: bool = True) -> dict[str, Tensor]:
    """Parameters by name, whole and on the CPU; an output map that is tied to the token embedding is left out.

    Args:
        model: of which each of several processes may hold a part; then all of them must ask.
        keep: off, the result is empty, and never more than one tensor is held: for all processes but one.
    """
    return _whole_ones(named_weights(model), keep)


def _whole_ones(tensors: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        one = whole(tensor.detach())
        if keep:
            found[name] = one.cpu().contiguous()
    return found


def named_weights(model: GPT) -> dict[str, Tensor]:
    """Parameters by name, as they lie in the model; an output map that is tied to the token embedding is left out."""
    tied = {"lm_head.weight"} if model.config.tie_weights else set()
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def load_weights(model: GPT, weights: dict[str, Tensor], source: str) -> None:
    """Copy `weights` into `model`.

    Raises:
        ValueError: naming the first tensor that is missing, left over or of another shape; the model is unchanged then.
    """
    own = named_weights(model)
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(set(expected) | set(found)):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{source} does not fit this model: {name} has shape {found.get(name, 'none')} there and "
                f"{expected.get(name, 'none')} here; load it with the config it was trained with"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            held(tensor).copy_(held(cut_like(weights[name], tensor)))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON, in one move."""
    _replace(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Replace `path` by a safetensors file, in one move.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        _replace(path, lambda temporary: save_file(tensors, temporary, metadata))
    except SafetensorError as error:
        raise OSError(f"{path} could not be written ({error}); what was there before is whole") from None


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed while writing have left."""
    for name in (CHECKPOINT, WEIGHTS):
        for unfinished in folder.glob(f".{name}.*.tmp"):
            unfinished.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file ({error}); restore it or train again") from None


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(folder: Path, config: GPTConfig, weights: dict[str, Tensor], tokenizer: Tokenizer | None) -> None:
    """Write what `load_model` needs: config.json, model.safetensors and, if there is one, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, {"model_type": "gptlib", **config.to_dict()})
    write_tensors(folder / WEIGHTS, weights, {"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)  # in one move of its own


def is_ours(folder: Path) -> bool:
    """Whether the folder's config.json was written by `save_model` (or is unreadable, which `read_config` will say)."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    return not isinstance(values, dict) or values.get("model_type") in ("gptlib", None)


def read_config(folder: Path) -> GPTConfig:
    """The config that `save_model` wrote.

    Raises:
        ValueError: if it is not JSON or no config of this library.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    if not isinstance(values, dict) or values.pop("model_type", None) != "gptlib":
        raise ValueError(f"{path} describes no model of this library; its model_type is not 'gptlib'")
    return GPTConfig.from_dict(values)


def pack_optimizers(optimizers: list[torch.optim.Optimizer], keep: bool = True) -> dict[str, Tensor]:
    """The optimizers' state as named tensors: `optimizer.<number>.<parameter number>.<key>`; `keep` as above."""
    tensors = {
        f"optimizer.{i}.{number}.{key}": value
        for i, optimizer in enumerate(optimizers)
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    return _whole_ones(tensors, keep)


def unpack_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Give the optimizers the state that `pack_optimizers` took."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, optimizer_number, parameter_number, key = name.split(".")
            states[int(optimizer_number)].setdefault(int(parameter_number), {})[key] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, values in state.items():
            like = parameters[number]
            state[number] = {k: cut_like(v, like) if v.shape == like.shape else v for k, v in values.items()}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
