"""Text to token ids and back.

A GPT reads integers. `CharTokenizer` gives every character a number. `BPETokenizer` starts from the 256 bytes, so that
no text is beyond it, and learns longer tokens from text by joining, again and again, the pair of neighbours that occurs
most often.

In the order of the idea: `cutting` text into pieces, `merging` pairs, `fast_training` from megabytes, the tokenizers in
`characters` and `bpe`, their files in `saving` and `loading`; `alphabet` and `given` are what these stand on.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from gptlib.tokenizers.bpe import END_OF_TEXT, BPETokenizer
from gptlib.tokenizers.characters import CharTokenizer
from gptlib.tokenizers.cutting import GPT2_PATTERN, pretokenize
from gptlib.tokenizers.fast_training import learn_merges_fast
from gptlib.tokenizers.loading import load_tokenizer
from gptlib.tokenizers.merging import Pair, apply_merges, learn_merges, merge, pair_counts

__all__ = [
    "END_OF_TEXT",
    "GPT2_PATTERN",
    "BPETokenizer",
    "CharTokenizer",
    "Pair",
    "Tokenizer",
    "apply_merges",
    "learn_merges",
    "learn_merges_fast",
    "load_tokenizer",
    "merge",
    "pair_counts",
    "pretokenize",
]


class Tokenizer(Protocol):
    """What the course asks of a tokenizer, its own or another's."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids lie below it."""

    @property
    def end_id(self) -> int | None:
        """Id of the end-of-text token, or None if there is none."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids."""

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each id's own text, for labels."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a tokenizer.json."""
