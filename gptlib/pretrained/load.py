"""One way in for every model: bundled, trained here, of transformers, of llama.cpp, or from the hub."""

from __future__ import annotations

import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gptlib.config import GPTConfig
from gptlib.huggingface import TransformersTokenizer, config_from_transformers, weights_from_transformers
from gptlib.model import GPT
from gptlib.pretrained.gguf import read_gguf
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
)

ASSETS = Path(__file__).parents[1] / "assets"
HUB_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2")
_OWNER_AND_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def bundled_models() -> list[str]:
    """Names of the models that need no download and no training."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{CONFIG}"))


def load_model(
    source: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[GPT, Tokenizer | None]:
    """A trained model and its tokenizer. Weights are read from safetensors and GGUF files only, never from a pickle.

    Args:
        source: the name of a bundled model ("tales"); a folder that `train` wrote (of an unfinished run, the last
            checkpoint); a transformers folder with a GPT-2, a Llama or its kin (`config_from_transformers` says which);
            a .gguf file with a GPT-2 or Llama; or a name on the hub ("gpt2", "HuggingFaceTB/SmolLM2-135M").
        dtype: of the weights.
        device: of the weights.

    Returns:
        The model in evaluation mode, and its tokenizer, or None when there is none.

    Raises:
        ValueError: for a source that holds no model, or one that `GPT` cannot be.
        ConnectionError: if the hub is needed and cannot be reached.
        ImportError: for a .gguf file without the package `gguf`.

    Example:
        >>> model, tokenizer = load_model("tales")
        >>> model.training
        False
    """
    folder = ASSETS / str(source) if str(source) in bundled_models() else Path(source)
    if folder.suffix == ".gguf" and folder.is_file():
        model, tokenizer = _from_gguf(folder)
    elif (folder / CONFIG).is_file() and is_ours(folder):
        model, tokenizer = _from_run(folder)
    elif (folder / CONFIG).is_file():
        model, tokenizer = _from_transformers(str(folder))
    elif folder.is_dir():
        raise ValueError(f"{folder} is a folder without a {CONFIG}, so no model was saved there; {_known()}")
    elif str(source) in HUB_NAMES or _may_be_on_the_hub(source):
        model, tokenizer = _from_transformers(str(source))
    else:
        raise ValueError(f"there is no model {str(source)!r}; {_known()}")
    return model.eval().to(device=device, dtype=dtype), tokenizer


def find_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer of a file, of a folder, of a bundled model, or of a model on the hub.

    Raises:
        FileNotFoundError: for a folder without one.
        ValueError: for a source that has none, or none that can be read.
        ConnectionError: if the hub is needed and cannot be reached.
    """
    path = ASSETS / str(source) if str(source) in bundled_models() else Path(source)
    if path.exists():
        return load_tokenizer(path)
    if str(source) in HUB_NAMES or _may_be_on_the_hub(source):
        with _reading(str(source)):
            found = TransformersTokenizer.find(str(source), **({} if hub_answers() else {"local_files_only": True}))
        if found is not None:
            return found
    raise ValueError(f"there is no tokenizer {str(source)!r}; give a tokenizer.json, a folder with one, or char or bpe")


def _known() -> str:
    return f"bundled models: {', '.join(bundled_models())}; or give the folder of a run, as in runs/shakespeare"


def _may_be_on_the_hub(source: str | Path) -> bool:
    return (
        isinstance(source, str)
        and _OWNER_AND_NAME.fullmatch(source) is not None
        and not source.endswith(".gguf")
        and not source.startswith(".")
        and not Path(source).parent.exists()  # runs/nothing, beside other runs, is a slip and no name on the hub
    )


def _filled(config: GPTConfig, weights: dict[str, Tensor], source: str) -> GPT:
    model = GPT(config)
    load_weights(model, weights, source)
    return model


def _from_run(folder: Path) -> tuple[GPT, Tokenizer | None]:
    config = read_config(folder)
    unfinished = (folder / CHECKPOINT).exists() and not (folder / RESULT).exists()
    path = folder / (CHECKPOINT if unfinished else WEIGHTS)
    if not path.exists():
        raise ValueError(f"{folder} has a config and no weights; its run was stopped before the first checkpoint")
    tensors, _ = read_tensors(path)
    if unfinished:
        tensors = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    model = _filled(config, tensors, str(path))
    return model, load_tokenizer(folder / TOKENIZER) if (folder / TOKENIZER).exists() else None


def _from_gguf(path: Path) -> tuple[GPT, Tokenizer | None]:
    config, weights, has_tokenizer = read_gguf(path)
    model = _filled(config, weights, str(path))
    if not has_tokenizer:
        return model, None
    with _reading(str(path)):
        return model, TransformersTokenizer.find(str(path.parent), gguf_file=path.name)


def _from_transformers(source: str) -> tuple[GPT, Tokenizer | None]:
    import transformers

    # Where the hub does not answer, what was fetched earlier is all there is.
    here = {} if Path(source).exists() or hub_answers() else {"local_files_only": True}
    # A model may come with code of its own, and weights as a pickle, which can run code: neither is asked for.
    with _reading(source):
        theirs_config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **here)
    config = config_from_transformers(theirs_config)
    with _reading(source):
        theirs, found = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **here,
        )
        tokenizer = TransformersTokenizer.find(source, **here)
    # What does not fit was left random.
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{source} lacks {len(missing)} weights of its model, {missing[0]} among them")
    if wrong := sorted(name for name, *_ in found["mismatched_keys"]):
        raise ValueError(f"{source} holds {len(wrong)} weights of other shapes than its config says, {wrong[0]} first")
    return _filled(config, weights_from_transformers(config, theirs.state_dict()), source), tokenizer


def hub_answers(timeout: float = 10.0) -> bool:
    """Say whether the hub of Hugging Face can be reached, within some seconds.

    It is asked once; the hub's own client would try five times, for half a minute, and print each failure.

    Args:
        timeout: seconds to wait for an answer.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a friendly one
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # Python may lack the certificates that the client brings
    except OSError:
        return False
    return True


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Whatever transformers trips over in other people's files is one sentence."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, OSError) and not Path(source).exists():
            raise ConnectionError(
                f"{source!r} could not be had from the hub ({reason}); check name and network, or use a local folder; "
                f"bundled models: {', '.join(bundled_models())}"
            ) from None
        if any(Path(source).glob("*.bin")) and not any(Path(source).glob("*.safetensors")):
            raise ValueError(
                f"{source} holds its weights as a pickle (.bin), which could run any code; save them as safetensors"
            ) from None
        raise ValueError(f"{source} could not be read: {reason}") from error
