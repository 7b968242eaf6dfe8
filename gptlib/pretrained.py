"""Models that are ready to use: the one that comes with the course, and those you trained."""

from __future__ import annotations

from pathlib import Path

import torch

from gptlib.model import GPT
from gptlib.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
from gptlib.training.checkpoint import CHECKPOINT, CONFIG, TOKENIZER, WEIGHTS, load_weights, read_config, read_tensors

ASSETS = Path(__file__).parent / "assets"


def bundled_models() -> list[str]:
    """Names of the models that need no download and no training."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{CONFIG}"))


def load_model(
    source: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[GPT, BPETokenizer | CharTokenizer | None]:
    """A trained model and its tokenizer.

    Args:
        source: the name of a bundled model ("tales"), or a folder that `train` wrote; of an unfinished run, the last
            checkpoint.
        dtype: of the weights.
        device: of the weights.

    Returns:
        The model in evaluation mode, and its tokenizer, or None when the folder has none.

    Raises:
        ValueError: for a name or folder that holds no model, or files that do not fit each other.

    Example:
        >>> model, tokenizer = load_model("tales")
        >>> model.training
        False
    """
    folder = _find(source)
    model = GPT(read_config(folder)).eval()
    weights_path = folder / WEIGHTS
    if (folder / CHECKPOINT).exists() and not (folder / "result.json").exists():
        weights_path = folder / CHECKPOINT
    if not weights_path.exists():
        raise ValueError(f"{folder} has a config and no weights; its run was stopped before the first checkpoint")
    tensors, _ = read_tensors(weights_path)
    if weights_path.name == CHECKPOINT:
        tensors = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    load_weights(model, tensors, str(weights_path))
    tokenizer = load_tokenizer(folder / TOKENIZER) if (folder / TOKENIZER).exists() else None
    return model.to(device=device, dtype=dtype), tokenizer


def _find(source: str | Path) -> Path:
    if str(source) in bundled_models():
        return ASSETS / str(source)
    folder = Path(source)
    if (folder / CONFIG).is_file():
        return folder
    known = f"bundled models: {', '.join(bundled_models())}; or give the folder of a run, as in runs/shakespeare"
    if folder.is_dir():
        raise ValueError(f"{folder} is a folder without a {CONFIG}, so no model was saved there; {known}")
    raise ValueError(f"there is no model {str(source)!r}; {known}")
