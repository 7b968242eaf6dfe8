"""Texts to train on: built-in ones, the reader's own files, and data sets from the Hugging Face hub."""

import difflib
import hashlib
import os
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gptlib.tokenizers import END_OF_TEXT

CORPORA = {
    "tales": "small stories from a world whose entropy is known exactly",
    "tinyshakespeare": "1.1 MB of plays; downloaded once, then read from the cache",
    "python": "the standard library of this Python, as source code",
}
HELD_BACK = 0.1  # the part of a text that is kept for validation
SHORTEST_TEXT = 100  # characters

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

# Other people's packages, tests (more than all the rest), and tables that a program wrote.
NOT_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}


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


def load_corpus(name: str | os.PathLike[str]) -> Corpus:
    """Load a text by name or from a path.

    Args:
        name: one of

            - "tales", "tinyshakespeare" or "python", as described in `CORPORA`; "tales" has 40,000 stories to learn
              from, "tales:5000" has 5,000, and each has a twentieth of that for validation and again for testing;
            - a UTF-8 text file: its first nine tenths are for training; if it holds `<|endoftext|>`, that ends
              documents, and none is cut in two;
            - a folder: each text file in it, and in folders below it, is a document, and counts once if there are
              copies of it; hidden files are left out, and files that are not UTF-8 text too, with a warning;
            - "hub:owner/name", a data set on the Hugging Face hub, with ":column" behind it for a text column that is
              not called "text", and "/configuration" behind the name for one of several.

            A file or folder with the name of a built-in corpus is meant when written as a path (`./tales`).

    Raises:
        ValueError: The name is unknown, or the text is empty, too short, or not UTF-8.
        ConnectionError: A download is needed and fails.
        ImportError: A hub data set is asked for and the `datasets` package is not installed.
    """
    if name == "tales" or str(name).startswith("tales:"):
        return _tales(str(name))
    if name == "tinyshakespeare":
        return _split_text(name, _tinyshakespeare(cache_folder() / name / "input.txt"))
    if name == "python":
        return _split_documents(name, _standard_library(Path(sysconfig.get_path("stdlib"))))
    if str(name).startswith("hub:"):
        return _hub(str(name))
    path = Path(name)
    if str(name) and path.is_dir():
        return _split_documents(str(name), _folder(path))
    if path.is_file():
        return _split_text(str(name), _file(path))
    nearest = difflib.get_close_matches(str(name).lower(), CORPORA, n=1)
    raise ValueError(
        f"corpus {str(name)!r} is neither a file or folder nor one of {', '.join(CORPORA)}"
        + (f"; did you mean {nearest[0]!r}?" if nearest else "; check the name or the path")
    )


def cache_folder() -> Path:
    """Where downloads are kept: what `GPTLIB_CACHE` says, else the user's cache folder."""
    if chosen := os.environ.get("GPTLIB_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gptlib"
    return Path.home() / ".cache" / "gptlib"


def _split_text(name: str, text: str) -> Corpus:
    documents = [document for document in text.split(END_OF_TEXT) if document.strip()]
    if len(documents) > 1:
        last = min(round(len(documents) * (1 - HELD_BACK)), len(documents) - 1)
        return _join(name, documents[:last], documents[last:])
    text = "".join(documents)
    _check_length(name, len(text))
    cut = int(len(text) * (1 - HELD_BACK))
    return Corpus(name, text[:cut], text[cut:])


def _split_documents(name: str, documents: Mapping[str, str]) -> Corpus:
    """Hold back whole documents, chosen by a hash of their names: the same on every machine, whatever the order."""
    names: dict[str, str] = {}
    for document, text in documents.items():
        if text.strip():
            names.setdefault(text, document)  # a copy in the other part would flatter the model
    documents = {document: text for text, document in names.items()}
    if len(documents) < 2:
        return _split_text(name, "".join(documents.values()))
    room = HELD_BACK * sum(map(len, documents.values()))
    by_hash = sorted(documents, key=lambda document: hashlib.sha256(document.encode()).hexdigest())
    held_back: set[str] = set()
    for document in by_hash:
        if len(documents[document]) <= room:
            held_back.add(document)
            room -= len(documents[document])
    held_back = held_back or {min(by_hash, key=lambda document: len(documents[document]))}
    train = [text for document, text in documents.items() if document not in held_back]
    return _join(name, train, [documents[document] for document in documents if document in held_back])


def _join(name: str, train: Sequence[str], validation: Sequence[str], test: Sequence[str] = ()) -> Corpus:
    _check_length(name, sum(map(len, (*train, *validation))))
    ended = ["".join(document + END_OF_TEXT for document in part) for part in (train, validation, test)]
    return Corpus(name, ended[0], ended[1], ended[2], END_OF_TEXT)


def _check_length(name: str, length: int) -> None:
    if length < SHORTEST_TEXT:
        amount = f"has only {length} characters" if length else "is empty"
        raise ValueError(
            f"corpus {name!r} {amount}, and training and validation together need at least {SHORTEST_TEXT}; "
            "choose a longer text"
        )


@cache
def _tales(name: str) -> Corpus:
    from gptlib import tales

    amount = name.partition(":")[2] or "40000"
    if not amount.isdecimal() or int(amount) < 1:
        raise ValueError(f"{name!r}: {amount!r} is no number of stories; write tales, or tales:5000 for 5,000 of them")
    train = int(amount)
    wanted = {"train": train, "validation": max(train // 20, 100), "test": max(train // 20, 100)}
    parts: dict[str, list[str]] = {part: [] for part in wanted}
    for story in tales.stories(seed=0):
        part = tales.split_of(story.text)
        if len(parts[part]) < wanted[part]:
            parts[part].append(story.text)
        elif all(len(parts[part]) == wanted[part] for part in parts):
            break
    return _join(name, parts["train"], parts["validation"], parts["test"])


def _tinyshakespeare(file: Path) -> str:
    if not file.exists():
        _download(SHAKESPEARE_URL, file, SHAKESPEARE_SHA256)
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHAKESPEARE_SHA256:
        raise ValueError(
            f"{file} is not the text expected (SHA-256 {found[:12]}…, expected {SHAKESPEARE_SHA256[:12]}…); move it "
            "away, and the next call downloads it again"
        )
    return content.decode()


def _download(url: str, file: Path, sha256: str) -> None:
    """Download to a temporary file beside `file`, and give it that name only when it is whole."""
    import urllib.request
    from http.client import HTTPException

    from tqdm.auto import tqdm

    unfinished = file.with_name(f"{file.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    except OSError as error:
        raise PermissionError(
            f"{file.parent} cannot be written ({error.strerror}); set GPTLIB_CACHE to a folder that can"
        ) from None
    try:
        with unfinished.open("wb") as out, urllib.request.urlopen(url, timeout=30) as response:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=file.parent.name) as progress:
                while block := response.read(64 * 1024):
                    out.write(block)
                    digest.update(block)
                    progress.update(len(block))
                if progress.n < size:
                    raise ConnectionError(f"the connection ended after {progress.n:,} of {size:,} bytes")
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} sent another file than expected (SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…); "
                f"try again in another network, or put the right file at {file}"
            )
        os.replace(unfinished, file)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{url} could not be downloaded ({reason}); put the file at {file} by hand, or use the corpus tales or "
            "python, which need no network"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _standard_library(root: Path) -> dict[str, str]:
    documents = {}
    for name, file in _files(root, "*.py"):
        if NOT_SOURCE.intersection(name.split("/")) or file.name.startswith("_sysconfigdata"):
            continue
        try:
            with tokenize.open(file) as source:  # heeds a coding declaration
                documents[name] = source.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
    if not documents:
        raise ValueError(f"this Python keeps no source files in {root}; use the corpus tales, or name a folder of code")
    return documents


def _file(path: Path) -> str:
    content = path.read_bytes()
    try:
        return _decode(content)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {content[error.start]:#04x} at offset {error.start}); save it as UTF-8, "
            "or choose another file"
        ) from None


def _folder(path: Path) -> dict[str, str]:
    documents: dict[str, str] = {}
    left_out: list[str] = []
    for name, file in _files(path, "*"):
        if any(part.startswith(".") for part in name.split("/")):
            continue
        try:
            documents[name] = _decode(file.read_bytes())
        except UnicodeDecodeError:
            left_out.append(name)
    if left_out:
        named = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        warnings.warn(f"{path}: left out {len(left_out)} files that are not UTF-8 text ({named})", stacklevel=3)
    if not any(text.strip() for text in documents.values()):
        raise ValueError(
            f"{path} holds no text: no UTF-8 file that is neither empty nor hidden; name a folder that does"
        )
    return documents


def _files(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """Give the files below a folder with their names relative to it, in the same order on every system."""
    return sorted((file.relative_to(root).as_posix(), file) for file in root.rglob(pattern) if file.is_file())


def _decode(content: bytes) -> str:
    if b"\0" in content:  # valid in UTF-8, but a sign of data rather than text
        at = content.index(b"\0")
        raise UnicodeDecodeError("utf-8", content, at, at + 1, "a zero byte")
    return content.decode().removeprefix("\ufeff").replace("\r\n", "\n")


def _hub(name: str) -> Corpus:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ImportError(
            f"{name!r} needs the datasets package; pip install datasets, or use a file, a folder, or the corpus tales"
        ) from None
    path, _, column = name.removeprefix("hub:").partition(":")
    parts = path.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{name!r} does not name a data set; write hub:owner/name or hub:owner/name:column")
    try:
        splits = load_dataset("/".join(parts[:2]), *parts[2:])
    except Exception as error:  # the package passes on errors of a dozen kinds from several network libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        sentence = (
            f"{name!r} could not be loaded ({reason}); check the name on huggingface.co/datasets and the network, or "
            "use the corpus tales or python, which need none"
        )
        no_network = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        raise (ConnectionError if no_network else ValueError)(sentence) from error
    if "train" not in splits:
        raise ValueError(f"{name!r} has no split called train but {', '.join(splits)}; choose another data set")
    texts = {split: _column(name, rows, column) for split, rows in splits.items()}
    train, test = texts["train"], texts.get("test", [])
    validation = next((texts[split] for split in ("validation", "valid", "dev") if split in texts), [])
    if not validation:
        last = min(round(len(train) * (1 - HELD_BACK)), len(train) - 1)
        train, validation = train[:last], train[last:]
    return _join(name, train, validation, test)


def _column(name: str, rows: Any, column: str) -> list[str]:
    texts = [key for key, value in rows[0].items() if isinstance(value, str)] if len(rows) else []
    chosen = column or ("text" if "text" in texts else next(iter(texts), ""))
    if len(rows) and chosen not in texts:
        have = f"its text columns are {', '.join(texts)}" if texts else "it has no text column"
        raise ValueError(f"{name!r}: column {column!r} is not one of text; {have}")
    return [text for text in rows[chosen] if text and text.strip()] if len(rows) else []
