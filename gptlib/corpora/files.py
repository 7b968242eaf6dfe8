"""Texts from files and folders."""

from __future__ import annotations

import codecs
import hashlib
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gptlib.corpora.text import HELD_BACK, Part, Source, check_length, tenth
from gptlib.tokenizers import END_OF_TEXT

# Other people's packages, tests (more than all the rest), and tables that a program wrote.
NOT_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}
BLOCK = 2**20  # bytes read at a time


def file_source(name: str, path: Path, held_back: float = HELD_BACK) -> Source:
    """One file: documents where `<|endoftext|>` ends more than one, else one running text.

    Raises:
        ValueError: The file is too short, or not UTF-8 text.
    """
    lengths = list(_lengths(path))
    full = [number for number, length in enumerate(lengths) if length]
    check_length(name, sum(lengths))
    if len(full) > 1:
        last = full[tenth(len(full), held_back)]  # the first that is held back
        return Source(name, lambda: _documents(path, last), characters=sum(lengths))
    cut = int(sum(lengths) * (1 - held_back))
    return Source(name, lambda: _running(path, full[0], cut), separator=None, characters=sum(lengths))


def folder_source(name: str, path: Path, held_back: float = HELD_BACK) -> Source:
    """A folder: each text file in it or below is a document.

    Raises:
        ValueError: There is no text in it.
    """
    files = {
        file: path for file, path in _files(path, "*") if not any(part.startswith(".") for part in file.split("/"))
    }
    left_out: list[str] = []

    def read(file: str) -> str:
        try:
            return decode(files[file].read_bytes())
        except UnicodeDecodeError:
            left_out.append(file)
            return ""

    source = documents_source(name, list(files), read, held_back)
    if left_out:
        named = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        warnings.warn(f"{path}: left out {len(left_out)} files that are not UTF-8 text ({named})", stacklevel=4)
    if source is None:
        raise ValueError(
            f"{path} holds no text: no UTF-8 file that is neither empty nor hidden; name a folder that does"
        )
    return source


def python_source(name: str, root: Path, held_back: float = HELD_BACK) -> Source:
    """The standard library below `root`, each module a document.

    Raises:
        ValueError: There is no source in it.
    """
    files = {
        file: path
        for file, path in _files(root, "*.py")
        if not NOT_SOURCE.intersection(file.split("/")) and not path.name.startswith("_sysconfigdata")
    }

    def read(file: str) -> str:
        try:
            with tokenize.open(files[file]) as opened:  # heeds a coding declaration
                return opened.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            return ""

    source = documents_source(name, list(files), read, held_back)
    if source is None:
        raise ValueError(f"this Python keeps no source files in {root}; use the corpus tales, or name a folder of code")
    return source


def documents_source(name: str, names: Sequence[str], read: Callable[[str], str], held_back: float) -> Source | None:
    """Documents by name, a blank one and a copy left out; None if none is left.

    Whole documents are held back, chosen by a hash of their names: the same on every machine, whatever the order.
    """
    sizes: dict[str, int] = {}
    seen: set[bytes] = set()
    for document in names:
        text = read(document)
        digest = hashlib.sha256(text.encode()).digest()
        if text.strip() and digest not in seen:  # a copy in the other part would flatter the model
            sizes[document] = len(text)
            seen.add(digest)
    if not sizes:
        return None
    if len(sizes) == 1:
        (only,) = sizes
        check_length(name, sizes[only])
        cut = int(sizes[only] * (1 - held_back))
        return Source(name, lambda: _cut(iter([read(only)]), cut), separator=None, characters=sizes[only])
    check_length(name, sum(sizes.values()))
    room = held_back * sum(sizes.values())
    by_hash = sorted(sizes, key=lambda document: hashlib.sha256(document.encode()).hexdigest())
    chosen: set[str] = set()
    for document in by_hash:
        if sizes[document] <= room:
            chosen.add(document)
            room -= sizes[document]
    chosen = chosen or {min(by_hash, key=lambda document: sizes[document])}

    def pieces() -> Iterator[tuple[Part, str]]:
        for document in sizes:
            yield "validation" if document in chosen else "train", read(document)

    return Source(name, pieces, characters=sum(sizes.values()))


def decode(content: bytes) -> str:
    """UTF-8 text with line ends as Python writes them.

    Raises:
        UnicodeDecodeError: It is something else.
    """
    if b"\0" in content:  # valid in UTF-8, but a sign of data rather than text
        at = content.index(b"\0")
        raise UnicodeDecodeError("utf-8", content, at, at + 1, "a zero byte")
    return content.decode().removeprefix("\ufeff").replace("\r\n", "\n")


def _files(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """Give the files below a folder with their names relative to it, in the same order on every system."""
    return sorted((file.relative_to(root).as_posix(), file) for file in root.rglob(pattern) if file.is_file())


def _blocks(path: Path) -> Iterator[str]:
    """The file's text, a block at a time, as `decode` would give it.

    Raises:
        ValueError: It is not UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, held = 0, ""  # bytes before this block; a carriage return whose line feed may be in the next one
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            before = offset - len(decoder.getstate()[0])
            try:
                if b"\0" in block:
                    at = offset - before + block.index(b"\0")
                    raise UnicodeDecodeError("utf-8", block, at, at + 1, "a zero byte")
                text = held + decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = before + error.start
                file.seek(at)
                (byte,) = file.read(1)
                raise ValueError(
                    f"{path} is not UTF-8 text (byte {byte:#04x} at offset {at}); save it as UTF-8, or choose another "
                    "file"
                ) from None
            held = "\r" if text.endswith("\r") and block else ""
            text = text.removesuffix(held) if held else text
            yield (text if offset else text.removeprefix("\ufeff")).replace("\r\n", "\n")
            offset += len(block)
            if not block:
                return


def _stretches(path: Path) -> Iterator[tuple[str, bool]]:
    """The file's text in stretches, and whether a document ends with each."""
    rest = ""
    for block in _blocks(path):
        *ended, rest = (rest + block).split(END_OF_TEXT)
        yield from ((document, True) for document in ended)
        if len(rest) > BLOCK:
            safe = len(rest) - len(END_OF_TEXT) + 1  # what follows may be the beginning of a separator
            yield rest[:safe], False
            rest = rest[safe:]
    yield rest, True


def _lengths(path: Path) -> Iterator[int]:
    """The characters of each document, and 0 for a blank one."""
    length, blank = 0, True
    for text, ends in _stretches(path):
        length += len(text)
        blank = blank and not text.strip()
        if ends:
            yield 0 if blank else length
            length, blank = 0, True


def _documents(path: Path, held_back: int) -> Iterator[tuple[Part, str]]:
    """Documents, held back from this number on."""
    number, document = 0, ""
    for text, ends in _stretches(path):
        document += text
        if ends:
            if document.strip():
                yield "train" if number < held_back else "validation", document
            number, document = number + 1, ""


def _running(path: Path, number: int, cut: int) -> Iterator[tuple[Part, str]]:
    """The document of that number as one running text."""

    def texts() -> Iterator[str]:
        at = 0
        for text, ends in _stretches(path):
            if at == number:
                yield text
            at += ends

    return _cut(texts(), cut)


def _cut(texts: Iterator[str], cut: int) -> Iterator[tuple[Part, str]]:
    """The first `cut` characters are for training."""
    at = 0
    for text in texts:
        ahead = max(0, cut - at)
        if text[:ahead]:
            yield "train", text[:ahead]
        if text[ahead:]:
            yield "validation", text[ahead:]
        at += len(text)
