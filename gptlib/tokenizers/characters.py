"""One token per character."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from gptlib.tokenizers.given import check_ids
from gptlib.tokenizers.saving import character_file, write_json


class CharTokenizer:
    """One token per character.

    Args:
        characters: the characters, each once; the place of a character is its id.
    """

    end_id: None = None

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = list(characters)
        self.vocab_size = len(self.characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}

    def __repr__(self) -> str:
        return f"CharTokenizer(vocab_size={self.vocab_size})"

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Number the characters of a text in their Unicode order.

        Raises:
            ValueError: The text is empty.

        Example:
            >>> CharTokenizer.train("hello").characters
            ['e', 'h', 'l', 'o']
        """
        if not text:
            raise ValueError("the text is empty, and a tokenizer is learned from text; pass at least one character")
        return cls(sorted(set(text)))

    def encode(self, text: str) -> list[int]:
        """Give the id of each character.

        Raises:
            ValueError: The text has a character that the tokenizer was not trained on.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"character {character!r} at position {text.index(character)} is not among the {self.vocab_size} that "
                "this tokenizer knows; leave it out, or train a BPETokenizer, which takes any text"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of ids.

        Raises:
            ValueError: An id is outside 0 … vocab_size - 1.
        """
        return "".join(self.tokens(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Give each id's own text, for labels."""
        return [self.characters[i] for i in check_ids(ids, range(self.vocab_size), self.vocab_size)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `tokenizer.json` that the `tokenizers` package and transformers load; return where it is.

        Args:
            path: a file that ends in .json, or a folder, where the file is called `tokenizer.json`.
        """
        return write_json(path, character_file(self.characters))
