"""Models that are ready to use: the one that comes with the course, those you trained, and other people's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gptlib.huggingface import (
    TransformersTokenizer,
    config_from_transformers,
    config_to_transformers,
    weights_from_transformers,
    weights_to_transformers,
)
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer, load_tokenizer
from gptlib.training.checkpoint import (
    CHECKPOINT,
    CONFIG,
    RESULT,
    TOKENIZER,
    WEIGHTS,
    is_ours,
    load_weights,
    read_config,
    read_tensors,
    weights_of,
)

ASSETS = Path(__file__).parent / "assets"
HUB_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2")


def bundled_models() -> list[str]:
    """Names of the models that need no download and no training."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{CONFIG}"))


def load_model(
    source: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[GPT, Tokenizer | None]:
    """A trained model and its tokenizer.

    Args:
        source: the name of a bundled model ("tales"); a folder that `train` wrote (of an unfinished run, the last
            checkpoint); a transformers folder with a GPT-2 or Llama; a .gguf file with one; or such a model's name on
            the hub ("gpt2", "HuggingFaceTB/SmolLM2-135M").
        dtype: of the weights.
        device: of the weights.

    Returns:
        The model in evaluation mode, and its tokenizer, or None when there is none.

    Raises:
        ValueError: for a source that holds no model, or one that `GPT` cannot be.
        ConnectionError: if the hub is needed and cannot be reached.

    Example:
        >>> model, tokenizer = load_model("tales")
        >>> model.training
        False
    """
    folder = ASSETS / str(source) if str(source) in bundled_models() else Path(source)
    if folder.suffix == ".gguf" and folder.is_file():
        model, tokenizer = _from_transformers(str(folder.parent), gguf_file=folder.name)
    elif (folder / CONFIG).is_file() and is_ours(folder):
        model, tokenizer = _from_run(folder)
    elif (folder / CONFIG).is_file():
        model, tokenizer = _from_transformers(str(folder))
    elif folder.is_dir():
        raise ValueError(f"{folder} is a folder without a {CONFIG}, so no model was saved there; {_known()}")
    elif str(source) in HUB_NAMES or (str(source).count("/") == 1 and not folder.is_absolute() and not folder.suffix):
        model, tokenizer = _from_transformers(str(source))
    else:
        raise ValueError(f"there is no model {str(source)!r}; {_known()}")
    return model.eval().to(device=device, dtype=dtype), tokenizer


def export_to_huggingface(model: GPT, tokenizer: Tokenizer | None, folder: str | Path) -> Path:
    """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` of transformers load, with the same logits.

    Args:
        model: with the parts of GPT-2 or of Llama.
        tokenizer: written beside it, if there is one.
        folder: made if it is not there.

    Returns:
        The folder.

    Raises:
        ValueError: if transformers has no architecture for the model.
    """
    import transformers

    folder = Path(folder)
    theirs = config_to_transformers(model.config)
    end_id = None if tokenizer is None else tokenizer.end_id
    theirs.bos_token_id = theirs.eos_token_id = theirs.pad_token_id = end_id
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(theirs)
    weights = weights_to_transformers(model.config, weights_of(model))
    network.load_state_dict(weights, strict=False, assign=True)
    network.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    if isinstance(tokenizer, TransformersTokenizer):
        tokenizer.inner.save_pretrained(folder)
    elif tokenizer is not None:
        file = tokenizer.save(folder / TOKENIZER)
        special = {} if end_id is None else {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
        limit = model.config.n_positions
        transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(file), model_max_length=limit, clean_up_tokenization_spaces=False, **special
        ).save_pretrained(folder)
    return folder


def _known() -> str:
    return f"bundled models: {', '.join(bundled_models())}; or give the folder of a run, as in runs/shakespeare"


def _from_run(folder: Path) -> tuple[GPT, Tokenizer | None]:
    model = GPT(read_config(folder))
    unfinished = (folder / CHECKPOINT).exists() and not (folder / RESULT).exists()
    path = folder / (CHECKPOINT if unfinished else WEIGHTS)
    if not path.exists():
        raise ValueError(f"{folder} has a config and no weights; its run was stopped before the first checkpoint")
    tensors, _ = read_tensors(path)
    if unfinished:
        tensors = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    load_weights(model, tensors, str(path))
    return model, load_tokenizer(folder / TOKENIZER) if (folder / TOKENIZER).exists() else None


def _from_transformers(source: str, **options: Any) -> tuple[GPT, Tokenizer | None]:
    import transformers

    with _hub_errors(source):
        theirs_config = transformers.AutoConfig.from_pretrained(source, **options)
    config = config_from_transformers(theirs_config)
    safe = {} if options else {"use_safetensors": True}  # a pickle could run code, so it is not asked for
    with _hub_errors(source):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **safe, **options)
    weights = weights_from_transformers(config, theirs.state_dict())
    del theirs
    model = GPT(config)
    load_weights(model, weights, source)
    return model, TransformersTokenizer.find(source, **options)


@contextmanager
def _hub_errors(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if Path(source).exists():
            raise ValueError(f"{source} could not be read: {str(error).splitlines()[0]}") from None
        raise ConnectionError(
            f"{source!r} could not be had from the hub ({str(error).splitlines()[0]}); check name and network, or use "
            f"a local folder; bundled models: {', '.join(bundled_models())}"
        ) from None
