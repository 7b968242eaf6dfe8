"""Our models as folders that transformers loads, and with it the hub, vLLM and llama.cpp's converter."""

from __future__ import annotations

from pathlib import Path

import torch

from gptlib.huggingface import TransformersTokenizer, config_to_transformers, weights_to_transformers
from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer
from gptlib.training.checkpoint import CONFIG, TOKENIZER, is_ours, weights_of


def export_to_huggingface(model: GPT, tokenizer: Tokenizer | None, folder: str | Path) -> Path:
    """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` of transformers load, with the same logits.

    Weights keep their dtype. A model with learned positions becomes a GPT-2; one with rotary positions a Llama, or one
    of Llama's kin: Mistral for a window, Qwen3 for `qk_norm`.

    Args:
        model: with the parts of one of these.
        tokenizer: written beside it, if there is one.
        folder: made if it is not there.

    Returns:
        The folder.

    Raises:
        ValueError: if transformers has no architecture for the model, as for ALiBi, post-norm or no positions; or if
            the folder is a file or holds a run of `train`. Nothing is written then.
    """
    import transformers

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and a folder is needed; name another")
    if (folder / CONFIG).is_file() and is_ours(folder):
        raise ValueError(f"{folder} holds a run, which the export would overwrite; name another folder")
    theirs = config_to_transformers(model.config)
    end_id = None if tokenizer is None else tokenizer.end_id
    theirs.bos_token_id = theirs.eos_token_id = theirs.pad_token_id = end_id
    theirs.dtype = model.token_embedding.weight.dtype
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
