"""A corpus in memory, and a text on its way there: read piece by piece, as often as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from gptlib.tokenizers import END_OF_TEXT

HELD_BACK = 0.1  # the part of a text that is kept for validation
SHORTEST_TEXT = 100  # characters

Part = str  # "train", "validation" or "test"


@dataclass(frozen=True)
class Corpus:
    """A text in parts.

    Args:
        name: what it was loaded as.
        train: the text to learn from.
        validation: text held back, to measure on during training.
        test: text held back to the end; empty where the source has none.
        separator: the text that ends each document; None for one running text.
    """

    name: str
    train: str
    validation: str
    test: str = ""
    separator: str | None = None

    def __repr__(self) -> str:
        sizes = f"train={len(self.train):,}, validation={len(self.validation):,}, test={len(self.test):,} characters"
        return f"Corpus({self.name!r}: {sizes})"

    @cached_property
    def sha256(self) -> str:
        """A digest of what is learned from and measured on, whatever the corpus is called."""
        digest = hashlib.sha256()
        for text in (self.train, self.validation):
            content = text.encode()
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A text that need not fit into memory.

    Args:
        name: what it was asked for as.
        pieces: begins to read it, and gives pairs of a part and a piece of text: a whole document, or a stretch of one
            running text.
        separator: the text that ends each document; None for one running text.
        streams: whether it comes over the network and may have no end; then validation does not come last.
        characters: how many there are, where that is known.
    """

    name: str
    pieces: Callable[[], Iterator[tuple[Part, str]]]
    separator: str | None = END_OF_TEXT
    streams: bool = False
    characters: int | None = None

    def collect(self) -> Corpus:
        """The whole text in memory.

        Raises:
            ValueError: The text is empty or too short.
        """
        parts: dict[Part, list[str]] = {"train": [], "validation": [], "test": []}
        for part, piece in self.pieces():
            parts[part].append(piece)
        check_length(self.name, sum(map(len, (*parts["train"], *parts["validation"]))))
        end = self.separator or ""
        train, validation, test = ("".join(piece + end for piece in pieces) for pieces in parts.values())
        return Corpus(self.name, train, validation, test, self.separator)


def check_length(name: str, length: int) -> None:
    """Refuse a text from which nothing can be learned.

    Raises:
        ValueError: It has fewer than `SHORTEST_TEXT` characters.
    """
    if length < SHORTEST_TEXT:
        amount = f"has only {length} characters" if length else "is empty"
        raise ValueError(
            f"corpus {name!r} {amount}, and training and validation together need at least {SHORTEST_TEXT}; "
            "choose a longer text"
        )


def tenth(n: int, held_back: float = HELD_BACK) -> int:
    """How many of `n` documents are for training; at least one is held back."""
    return min(round(n * (1 - held_back)), n - 1)
