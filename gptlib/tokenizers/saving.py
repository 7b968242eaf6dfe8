"""What stands in a tokenizer.json, the file that the `tokenizers` package and transformers read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlib.tokenizers.alphabet import to_characters
from gptlib.tokenizers.merging import Pair


def character_file(characters: Sequence[str]) -> dict[str, Any]:
    """Describe a tokenizer whose tokens are characters; the place of a character is its id."""
    ids = {character: i for i, character in enumerate(characters)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"[\s\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        # The format wants the name of an unknown token; as none has it, unknown characters are an error there too.
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
    }


def bpe_file(vocab: dict[bytes, int], merges: dict[Pair, int], special_tokens: dict[str, int]) -> dict[str, Any]:
    """Describe a byte-level BPE tokenizer, its tokens written in GPT-2's alphabet."""
    text_of = {i: to_characters(token) for token, i in vocab.items()} | {i: t for t, i in special_tokens.items()}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token} | plain for token, i in special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {to_characters(token): i for token, i in vocab.items()} | special_tokens,
            "merges": [[text_of[left], text_of[right]] for left, right in merges],
        },
    }


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> Path:
    """Write a file at once or not at all; in a folder it is called tokenizer.json. Returns where it is."""
    path = Path(path)
    file = path if path.suffix == ".json" else path / "tokenizer.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    os.replace(unfinished, file)
    return file
