"""Data sets on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gptlib.corpora.text import HELD_BACK, Part, Source, tenth

VALIDATION = ("validation", "valid", "dev")


def hub_source(name: str, held_back: float = HELD_BACK, *, streaming: bool = False) -> Source:
    """The data set that "hub:owner/name", "hub:owner/name/configuration" or either with ":column" behind it names.

    Args:
        name: see above.
        held_back: the part that is held back where the set has no validation split: of the loaded rows the last ones;
            of streamed ones, whose number nobody knows, those of which a hash says so.
        streaming: read rows as they come, and keep nothing on disk.

    Raises:
        ValueError: There is no such set, split or column.
        ConnectionError: The hub cannot be reached.
        ImportError: The `datasets` package is not installed.
    """
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
        splits = load_dataset("/".join(parts[:2]), *parts[2:], **({"streaming": True} if streaming else {}))
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
    validation = next((split for split in VALIDATION if split in splits), None)
    if streaming:
        return Source(name, _streamed(name, splits, validation, column, held_back), streams=True)
    texts = {
        split: list(_texts(name, splits[split], column)) for split in ("train", validation, "test") if split in splits
    }
    train, held = texts["train"], texts[validation] if validation else []
    if not held:
        last = tenth(len(train), held_back)
        train, held = train[:last], train[last:]

    def pieces() -> Iterator[tuple[Part, str]]:
        yield from (("train", text) for text in train)
        yield from (("validation", text) for text in held)
        yield from (("test", text) for text in texts.get("test", []))

    return Source(name, pieces)


def _streamed(
    name: str, splits: Mapping[str, Any], validation: str | None, column: str, held_back: float
) -> Callable[[], Iterator[tuple[Part, str]]]:
    def pieces() -> Iterator[tuple[Part, str]]:
        if validation is not None:
            yield from (("validation", text) for text in _texts(name, splits[validation], column))
        for text in _texts(name, splits["train"], column):
            # Copies of a text have one hash, and so come into the same part.
            draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
            yield "validation" if validation is None and draw < held_back else "train", text

    return pieces


def _texts(name: str, rows: Any, column: str) -> Iterator[str]:
    chosen = None
    for row in rows:
        if chosen is None:
            texts = [key for key, value in row.items() if isinstance(value, str)]
            chosen = column or ("text" if "text" in row else next(iter(texts), ""))
            if chosen not in texts and row.get(chosen, 0) is not None:  # a text may be missing in the first row
                have = f"its text columns are {', '.join(texts)}" if texts else "it has no text column"
                raise ValueError(f"{name!r}: column {column!r} is not one of text; {have}")
        if row[chosen] and row[chosen].strip():
            yield row[chosen]
