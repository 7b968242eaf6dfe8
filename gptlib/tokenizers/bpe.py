"""Byte-level byte pair encoding: a tokenizer that is learned from text and that no text is beyond.

Source: on bytes, Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlib.tokenizers.alphabet import byte_characters, to_characters
from gptlib.tokenizers.cutting import chunks, pretokenize
from gptlib.tokenizers.fast_training import learn_merges_fast
from gptlib.tokenizers.given import check_ids, check_unicode
from gptlib.tokenizers.merging import Pair, apply_merges
from gptlib.tokenizers.saving import bpe_file, write_json

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"


class BPETokenizer:
    """Byte-level byte pair encoding, as in GPT-2.

    Args:
        vocab: the id of each token.
        merges: for each learned pair of ids the id it becomes, in the order of learning.
        special_tokens: texts with a token of their own, which no merge makes, and their ids.
    """

    # Longer texts are encoded by the `tokenizers` package: the same ids, from all processor cores.
    LONG_TEXT = 2_000

    def __init__(self, vocab: dict[bytes, int], merges: dict[Pair, int], special_tokens: dict[str, int]) -> None:
        self.vocab = vocab
        self.merges = merges
        self.special_tokens = special_tokens
        self.end_id: int | None = special_tokens.get(END_OF_TEXT)
        self._text_of = {i: token for token, i in vocab.items()} | {i: t.encode() for t, i in special_tokens.items()}
        self.vocab_size = max(self._text_of) + 1
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._encoded: dict[str, list[int]] = {}  # pieces recur: what each became is kept

    def __repr__(self) -> str:
        return f"BPETokenizer(vocab_size={self.vocab_size})"

    @classmethod
    def train(cls, text: str, vocab_size: int, *, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> "BPETokenizer":
        """Learn a vocabulary from a text.

        Ids: the 256 bytes in GPT-2's order, then the learned tokens in the order of learning, then the special tokens.

        Args:
            text: what to learn from; special tokens in it separate documents and teach nothing.
            vocab_size: how many tokens to have, 256 bytes and special tokens included. A short text may not hold so
                many pairs: then `vocab_size` of the result says how many there are.
            special_tokens: texts that get a token of their own.

        Raises:
            ValueError: The text is empty, `vocab_size` leaves no room for the bytes and the special tokens, or a
                special token is empty or written like an ordinary one.

        Example:
            >>> tokenizer = BPETokenizer.train("low lower lowest", 260)
            >>> tokenizer.tokens(tokenizer.encode("low lower lowest"))
            ['low', ' low', 'e', 'r', ' low', 'e', 's', 't']
        """
        special_tokens = list(dict.fromkeys(special_tokens))
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: 256 bytes and {len(special_tokens)} special tokens need "
                f"at least {smallest}"
            )
        if not text:
            raise ValueError("the text is empty, and a tokenizer is learned from text; pass at least a few words")
        if "" in special_tokens:
            raise ValueError("special_tokens holds an empty text, which would occur everywhere; leave it out")
        check_unicode(text)
        vocab = {bytes([byte]): i for i, byte in enumerate(byte_characters())}
        documents = re.split("|".join(map(re.escape, special_tokens)), text) if special_tokens else [text]
        pieces = (piece for document in documents for piece in pretokenize(document))
        merges = learn_merges_fast(pieces, vocab, vocab_size - len(special_tokens))
        if taken := set(map(to_characters, vocab)).intersection(special_tokens):
            raise ValueError(
                f"special token {min(taken)!r} is how a file would write an ordinary token; choose another, such as "
                "<|name|>"
            )
        return cls(vocab, merges, {token: len(vocab) + i for i, token in enumerate(special_tokens)})

    def encode(self, text: str) -> list[int]:
        """Give the ids of any text; a special token's text inside it becomes that token.

        Raises:
            ValueError: The text holds half of a surrogate pair, which is not a character.
        """
        check_unicode(text)
        parts = self._special_pattern.split(text) if self.special_tokens else [text]
        if len(text) > self.LONG_TEXT:
            return self._encode_long(parts)
        ids: list[int] = []
        for part in parts:
            if part in self.special_tokens:
                ids.append(self.special_tokens[part])
            else:
                for piece in pretokenize(part):
                    ids.extend(self._encode_piece(piece))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of ids; bytes that are no whole character become the replacement character U+FFFD.

        Raises:
            ValueError: An id is outside 0 … vocab_size - 1.
        """
        return b"".join(self._token_bytes(ids)).decode("utf-8", errors="replace")

    def tokens(self, ids: Iterable[int]) -> list[str]:
        r"""Give each id's own text, for labels; a byte that is no whole character shows as \xe2, for example."""
        return [token.decode("utf-8", errors="backslashreplace") for token in self._token_bytes(ids)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `tokenizer.json` that the `tokenizers` package and transformers load; return where it is.

        Args:
            path: a file that ends in .json, or a folder, where the file is called `tokenizer.json`.
        """
        return write_json(path, self._file_content())

    def _encode_piece(self, piece: str) -> list[int]:
        ids = self._encoded.get(piece)
        if ids is None:
            ids = apply_merges([self.vocab[bytes([byte])] for byte in piece.encode()], self.merges, self._ranks)
            if len(self._encoded) < 100_000:
                self._encoded[piece] = ids
        return ids

    def _encode_long(self, parts: list[str]) -> list[int]:
        short = [chunk for part in parts for chunk in chunks(part)]
        ids: list[int] = []
        for start in range(0, len(short), 1000):  # a batch at a time, because an encoding takes much memory
            for encoding in self._fast.encode_batch_fast(short[start : start + 1000], add_special_tokens=False):
                ids.extend(encoding.ids)
        return ids

    def _token_bytes(self, ids: Iterable[int]) -> list[bytes]:
        return [self._text_of[i] for i in check_ids(ids, self._text_of, self.vocab_size)]

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    @cached_property
    def _fast(self) -> "tokenizers.Tokenizer":
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(self._file_content()))

    def _file_content(self) -> dict[str, Any]:
        return bpe_file(self.vocab, self.merges, self.special_tokens)
