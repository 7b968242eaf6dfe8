"""Tokenizers from files: tokenizer.json, and GPT-2's own encoder.json with vocab.bpe."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlib.tokenizers.alphabet import byte_characters, to_bytes
from gptlib.tokenizers.bpe import BPETokenizer
from gptlib.tokenizers.characters import CharTokenizer


def load_tokenizer(path: str | os.PathLike[str]) -> CharTokenizer | BPETokenizer:
    """Read a tokenizer from its files.

    Args:
        path: a `tokenizer.json` as written by `save` or by the `tokenizers` package for a GPT-2-like model; or GPT-2's
            own pair of files (`encoder.json` and `vocab.bpe`, or `vocab.json` and `merges.txt`), named by either; or a
            folder with any of these.

    Raises:
        FileNotFoundError: There is no such file, or the folder holds none.
        ValueError: The file is damaged, or of a kind that these two classes do not cover.
    """
    path = Path(path)
    if path.is_dir():
        present = [name for name in ("tokenizer.json", *_PAIRS) if (path / name).is_file()]
        if not present:
            raise FileNotFoundError(
                f"{path} holds no tokenizer: neither tokenizer.json, nor encoder.json and vocab.bpe, nor vocab.json "
                "and merges.txt; name the folder that does"
            )
        path = path / present[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a tokenizer file or a folder with one")
    try:
        if path.name in _PAIRS:
            partner = path.with_name(_PAIRS[path.name])
            vocab_file, merges_file = (path, partner) if path.suffix == ".json" else (partner, path)
            lines = merges_file.read_text(encoding="utf-8").splitlines()
            pairs = [line.split(" ") for line in lines[lines[0].startswith("#version") :] if line]
            return _bpe_from_strings(json.loads(vocab_file.read_text(encoding="utf-8")), pairs)
        return _from_file_content(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} does not exist, and {path.name} needs it; put it beside it"
        ) from None
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole tokenizer file ({error!r}); fetch or save it again") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


# Either file of a pair leads to the other one.
_PAIRS = {
    "encoder.json": "vocab.bpe",
    "vocab.json": "merges.txt",
    "vocab.bpe": "encoder.json",
    "merges.txt": "vocab.json",
}
_ELSEWHERE = "transformers.AutoTokenizer.from_pretrained reads other kinds"


def _from_file_content(content: dict[str, Any]) -> CharTokenizer | BPETokenizer:
    model, cut = content["model"], content["pre_tokenizer"]
    added = content.get("added_tokens") or []
    if model["type"] == "WordLevel" and cut and cut["type"] == "Split" and not added:
        characters = sorted(model["vocab"], key=model["vocab"].__getitem__)
        if all(len(c) == 1 for c in characters) and sorted(model["vocab"].values()) == list(range(len(characters))):
            return CharTokenizer(characters)
    if model["type"] != "BPE":
        raise ValueError(
            f"is of the kind {model['type']!r}, and only byte-level BPE and characters are read; {_ELSEWHERE}"
        )
    expected = {"normalizer": None, "cut": ("ByteLevel", False, True), "ignore_merges": False, "spaces": False}
    found = {
        "normalizer": content.get("normalizer"),
        "cut": cut and (cut["type"], cut.get("add_prefix_space"), cut.get("use_regex", True)),
        "ignore_merges": model.get("ignore_merges", False),
        "spaces": any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added),
    }
    if found != expected:
        differs = next(key for key in expected if found[key] != expected[key])
        raise ValueError(f"prepares text in another way than GPT-2 does ({differs}: {found[differs]}); {_ELSEWHERE}")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return _bpe_from_strings(model["vocab"], pairs, {token["content"]: token["id"] for token in added})


def _bpe_from_strings(
    ids: dict[str, int], pairs: Sequence[Sequence[str]], special_tokens: dict[str, int] | None = None
) -> BPETokenizer:
    """Build a tokenizer from tokens in GPT-2's alphabet; without `special_tokens` these are what no merge makes."""
    merges = {(ids[pair[0]], ids[pair[1]]): ids["".join(pair)] for pair in pairs}
    characters = set(byte_characters().values())
    if missing := characters - ids.keys():
        raise ValueError(f"lacks {len(missing)} of the 256 bytes, so some texts would have no ids; {_ELSEWHERE}")
    if special_tokens is None:
        made = characters | {"".join(pair) for pair in pairs}
        special_tokens = {token: i for token, i in ids.items() if token not in made}
    vocab = {to_bytes(token): i for token, i in ids.items() if token not in special_tokens}
    return BPETokenizer(vocab, merges, special_tokens)
