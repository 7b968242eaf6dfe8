"""Texts to train on: built-in ones, the reader's own files, and data sets from the Hugging Face hub.

`text` has what a corpus is; `files`, `downloads` and `hub` are where texts come from; `tokens` holds those that are too
large for memory.
"""

from __future__ import annotations

import difflib
import os
import sysconfig
from functools import cache
from pathlib import Path

from gptlib.corpora.downloads import cache_folder, tinyshakespeare
from gptlib.corpora.files import file_source, folder_source, python_source
from gptlib.corpora.hub import hub_source
from gptlib.corpora.text import HELD_BACK, Corpus, Part, Source
from gptlib.corpora.tokens import PartFile, TokenFiles, are_tokens, load_tokens, write_tokens

__all__ = [
    "CORPORA",
    "Corpus",
    "PartFile",
    "Source",
    "TokenFiles",
    "are_tokens",
    "cache_folder",
    "load_corpus",
    "load_tokens",
    "open_source",
    "write_tokens",
]

CORPORA = {
    "tales": "small stories from a world whose entropy is known exactly",
    "tinyshakespeare": "1.1 MB of plays; downloaded once, then read from the cache",
    "python": "the standard library of this Python, as source code",
}


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
    if are_tokens(name):
        raise ValueError(f"{name} holds a corpus as token ids and not as text; load_tokens reads it, and gptlib train")
    name = str(name)
    return _tales(name) if _is_tales(name) else open_source(name).collect()


def open_source(name: str | os.PathLike[str], *, held_back: float = HELD_BACK, streaming: bool = False) -> Source:
    """A text by name or path, as `load_corpus` takes them, that is read piece by piece.

    Args:
        name: see `load_corpus`.
        held_back: the part that is kept for validation where the source does not say; above 0, below 1.
        streaming: read a data set on the hub as it comes, without keeping it on disk.

    Raises:
        ValueError, ConnectionError, ImportError: as `load_corpus`.
    """
    name = str(name)
    if not 0 < held_back < 1:
        raise ValueError(f"held_back={held_back} must lie between 0 and 1; 0.1 keeps a tenth for validation")
    if _is_tales(name):
        return _from_memory(_tales(name))
    if name == "tinyshakespeare":
        return file_source(name, tinyshakespeare(), held_back)
    if name == "python":
        return python_source(name, Path(sysconfig.get_path("stdlib")), held_back)
    if name.startswith("hub:"):
        return hub_source(name, held_back, streaming=streaming)
    path = Path(name)
    if name and path.is_dir():
        return folder_source(name, path, held_back)
    if path.is_file():
        return file_source(name, path, held_back)
    nearest = difflib.get_close_matches(name.lower(), CORPORA, n=1)
    raise ValueError(
        f"corpus {name!r} is neither a file or folder nor one of {', '.join(CORPORA)}"
        + (f"; did you mean {nearest[0]!r}?" if nearest else "; check the name or the path")
    )


def _is_tales(name: str) -> bool:
    return name == "tales" or name.startswith("tales:")


@cache
def _tales(name: str) -> Corpus:
    from gptlib import tales

    amount = name.partition(":")[2] or "40000"
    if not amount.isdecimal() or int(amount) < 1:
        raise ValueError(f"{name!r}: {amount!r} is no number of stories; write tales, or tales:5000 for 5,000 of them")
    train = int(amount)
    wanted: dict[Part, int] = {"train": train, "validation": max(train // 20, 100), "test": max(train // 20, 100)}
    parts: dict[Part, list[str]] = {part: [] for part in wanted}
    for story in tales.stories(seed=0):
        part = tales.split_of(story.text)
        if len(parts[part]) < wanted[part]:
            parts[part].append(story.text)
        elif all(len(parts[part]) == wanted[part] for part in parts):
            break
    return _of_documents(name, parts).collect()


def _of_documents(name: str, parts: dict[Part, list[str]]) -> Source:
    characters = sum(len(text) for texts in parts.values() for text in texts)
    return Source(name, lambda: ((p, text) for p, texts in parts.items() for text in texts), characters=characters)


def _from_memory(corpus: Corpus) -> Source:
    assert corpus.separator is not None
    texts: dict[Part, str] = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    parts = {part: text.split(corpus.separator)[:-1] for part, text in texts.items()}
    return _of_documents(corpus.name, parts)
