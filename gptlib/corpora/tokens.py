"""A corpus as token ids on disk: read where a window needs it, so that it may be larger than memory.

A folder holds `tokens.json`, which says what is there; `tokenizer.json`; and for training and validation `<part>.bin`,
the ids one after the other as little-endian uint16 (uint32 for more than 65,536 tokens), and for a corpus of documents
`<part>.starts.bin`, the place of each document's first id as int64. Documents are laid out as end-of-text, document,
end-of-text, document, …, end-of-text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gptlib.corpora.text import Source, check_length
from gptlib.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, load_tokenizer
from gptlib.tokenizers.cutting import last_gap

HEADER, TOKENIZER = "tokens.json", "tokenizer.json"
PARTS = ("train", "validation")
STRETCH = 2**20  # characters encoded at a time


@dataclass(frozen=True)
class PartFile:
    """One part of a corpus on disk.

    Args:
        ids: (N,) uint16 or uint32, mapped from the file.
        starts: (M,) int64, the place of each document's end-of-text in front; None for one running text.
        longest: tokens from one document's start to the next one's, at most.
    """

    ids: NDArray[Any]
    starts: NDArray[np.int64] | None
    longest: int


@dataclass(frozen=True)
class TokenFiles:
    """A corpus as token ids, in a folder that `write_tokens` made.

    Args:
        name: what the text was called.
        folder: where the files are.
        tokenizer: with which it was encoded.
        train: to learn from.
        validation: held back.
        sha256: a digest of tokenizer and ids.
        separator: the text that ends each document; None for one running text.
    """

    name: str
    folder: Path
    tokenizer: BPETokenizer | CharTokenizer
    train: PartFile
    validation: PartFile
    sha256: str
    separator: str | None

    def __repr__(self) -> str:
        sizes = f"train={len(self.train.ids):,}, validation={len(self.validation.ids):,} tokens"
        return f"TokenFiles({self.name!r}: {sizes})"


def are_tokens(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that `write_tokens` made."""
    return bool(str(path)) and (Path(path) / HEADER).is_file()


def load_tokens(folder: str | os.PathLike[str]) -> TokenFiles:
    """Open a corpus of token ids; nothing of it is read yet.

    Raises:
        ValueError: The folder holds none, or files are missing, cut off or of another tokenizer.
    """
    folder = Path(folder)
    if not are_tokens(folder):
        raise ValueError(f"{folder} holds no {HEADER}; gptlib tokenize makes such a folder")
    again = "run gptlib tokenize again"
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        if header["format"] != 1:
            raise ValueError(f"{folder / HEADER} has format {header['format']}, and this version reads 1; {again}")
        parts = {part: _open(folder, part, header, again) for part in PARTS}
        tokenizer = load_tokenizer(folder / TOKENIZER)
        if _file_digest(folder / TOKENIZER) != header["tokenizer_sha256"]:
            raise ValueError(f"{folder / TOKENIZER} is not the one with which the ids were made; {again}")
        names = header["name"], header["sha256"], header["separator"]
    except (LookupError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / HEADER} is damaged ({error!r}); {again}") from None
    return TokenFiles(names[0], folder, tokenizer, parts["train"], parts["validation"], names[1], names[2])


def _open(folder: Path, part: str, header: dict[str, Any], again: str) -> PartFile:
    told = header["parts"][part]
    columns: list[tuple[str, Any, int]] = [(f"{part}.bin", np.dtype(header["dtype"]).newbyteorder("<"), told["tokens"])]
    if header["separator"] is not None:
        columns.append((f"{part}.starts.bin", np.dtype("<i8"), told["documents"]))
    found = []
    for name, dtype, count in columns:
        size = (folder / name).stat().st_size if (folder / name).exists() else 0
        if size != count * dtype.itemsize:
            raise ValueError(f"{folder / name} has {size:,} bytes and not {count * dtype.itemsize:,}; {again}")
        found.append(np.memmap(folder / name, dtype, "r") if count else np.empty(0, dtype))
    return PartFile(found[0], found[1] if len(found) > 1 else None, told["longest"])


def write_tokens(
    source: Source,
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    *,
    max_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenFiles:
    """Encode a text piece by piece into a folder that `load_tokens` opens.

    The ids are those that `train` makes of the same text in memory.

    Args:
        source: the text; its test part is left out.
        tokenizer: it is written beside the ids.
        folder: made if it is not there. The header is written last, so that no half-written folder is taken for a
            whole; what is interrupted leaves nothing.
        max_tokens: end the training part there, after the last whole document.
        progress: called with the characters read since the last call.

    Raises:
        ValueError: The text is too short or fits the tokenizer badly, or the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; name a new folder")
    ours = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        header = _encode(source, tokenizer, folder, max_tokens, progress or (lambda characters: None))
        unfinished = folder / f".{HEADER}.tmp"
        unfinished.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, folder / HEADER)
    except BaseException:
        for name in (TOKENIZER, *(f"{part}{kind}.bin" for part in PARTS for kind in ("", ".starts"))):
            (folder / name).unlink(missing_ok=True)
        if ours:
            folder.rmdir()
        raise
    return load_tokens(folder)


def _encode(
    source: Source, tokenizer: Tokenizer, folder: Path, max_tokens: int | None, progress: Callable[[int], None]
) -> dict[str, Any]:
    tokenizer.save(folder / TOKENIZER)
    tokenizer = load_tokenizer(folder / TOKENIZER)  # the one that will be there later
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    characters = 0
    with ExitStack() as stack:
        writers = {
            part: stack.enter_context(_Writer(folder, part, tokenizer, source.separator, dtype)) for part in PARTS
        }
        writers["train"].limit = max_tokens
        for part, piece in source.pieces():
            if source.streams and writers["train"].full:
                break
            if part in writers and not writers[part].full:
                writers[part].add(piece)
                characters += len(piece)
                progress(len(piece))
        parts = {part: writer.finish() for part, writer in writers.items()}
    check_length(source.name, characters)
    for part in PARTS:
        if parts[part]["tokens"] < 2:
            raise ValueError(
                f"{source.name!r} has no text for {part}; use a longer text, or hold another part of it back "
                "(held_back=, --held-back)"
            )
    made_with = _file_digest(folder / TOKENIZER)
    digests = [made_with, *(parts[part]["sha256"] for part in PARTS)]
    return {
        "format": 1,
        "name": source.name,
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "separator": source.separator if tokenizer.end_id is not None else None,
        "parts": parts,
        "tokenizer_sha256": made_with,
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


class _Writer:
    """One part's files, and the text that waits to be encoded."""

    def __init__(self, folder: Path, part: str, tokenizer: Tokenizer, separator: str | None, dtype: Any) -> None:
        self._tokenizer, self._end, self._dtype = tokenizer, separator or "", dtype
        self._ids: BinaryIO = (folder / f"{part}.bin").open("wb")
        self._starts: BinaryIO | None = None  # for a tokenizer without end-of-text, the end is a text like any other
        if separator is not None and tokenizer.end_id is not None:
            self._starts = (folder / f"{part}.starts.bin").open("wb")
        self._digest = hashlib.sha256()
        self._waiting, self._length = [self._end if self._starts is not None else ""], 0
        self._last_end = -1  # where the document began that is being written
        self.tokens = self.documents = self.longest = 0
        self.limit: int | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._ids.close()
        if self._starts is not None:
            self._starts.close()

    @property
    def full(self) -> bool:
        return self.limit is not None and self.tokens >= self.limit

    def add(self, piece: str) -> None:
        self._waiting += [piece, self._end]
        self._length += len(piece)
        if self._length >= STRETCH:
            text = "".join(self._waiting)
            cut = len(text) if self._starts is not None else last_gap(text)
            self._write(text[:cut])
            self._waiting, self._length = [text[cut:]], len(text) - cut

    def finish(self) -> dict[str, Any]:
        if self._length and not self.full:
            self._write("".join(self._waiting))
        told = {"tokens": self.tokens, "longest": self.longest, "sha256": self._digest.hexdigest()}
        return told if self._starts is None else {**told, "documents": self.documents}

    def _write(self, text: str) -> None:
        ids = np.array(self._tokenizer.encode(text), dtype=self._dtype)  # (n,)
        room = len(ids) if self.limit is None else self.limit - self.tokens
        if self._starts is not None:
            ends = np.flatnonzero(ids == self._tokenizer.end_id)  # (m,); the last one is the last id
            if room < len(ids):
                # Whole documents alone, and at least one: in the very first stretch an end stands in front of it too.
                ends = ends[: max(int(np.searchsorted(ends, room)), 0 if self.tokens else 2)]
                ids = ids[: ends[-1] + 1] if len(ends) else ids[:0]
                self.limit = self.tokens + len(ids)
            self._note_documents(self.tokens + ends)
        ids = ids[:room] if self._starts is None else ids
        content = ids.tobytes()
        self._ids.write(content)
        self._digest.update(content)
        self.tokens += len(ids)

    def _note_documents(self, ends: NDArray[np.int64]) -> None:
        """Each end-of-text but the very last one begins a document."""
        assert self._starts is not None
        if len(ends) == 0:
            return
        if self._last_end >= 0:
            ends = np.concatenate([[self._last_end], ends])
        self._starts.write(ends[:-1].astype("<i8").tobytes())
        self.documents += len(ends) - 1
        self.longest = max([self.longest, *np.diff(ends).tolist()])
        self._last_end = int(ends[-1])


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
