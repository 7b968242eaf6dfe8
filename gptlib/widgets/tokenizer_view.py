"""One text, cut by several tokenizers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

import gptlib
from gptlib.plots import Picture, plot_tokenizations
from gptlib.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, load_tokenizer
from gptlib.widgets.base import View, view_module

MAX_TOKENIZERS = 6
MAX_CHARACTERS = 5_000
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))
TEXT = "The cat sat on the mat. Lowest, 12 + 30 = 42.\nהחתול שלי, naïve café 🙂"


class TokenizerView(View):
    """Type, and see the tokens of several tokenizers, their number and their ids.

    Characters and byte pair encoding run in the browser; another kind of tokenizer answers through the kernel.

    Args:
        text: to begin with, at most 5,000 characters.
        tokenizers: at most six by name, each with `encode` and `decode`; those of `usual_tokenizers` if
            None. To see your own beside them: `{**usual_tokenizers(), "mine": tokenizer}`.

    Raises:
        ValueError: for a text that is too long, no tokenizers or too many, or one that cannot encode.

    Example:
        >>> view = TokenizerView("low lower", {"mine": BPETokenizer.train("low lower lowest", 260)})
        >>> view._sentence()
        "TokenizerView: 'low lower' is 4 tokens for mine"
    """

    _esm = view_module("tokenizer_view")
    text = traitlets.Unicode().tag(sync=True)
    kinds = traitlets.List(traitlets.Dict()).tag(sync=True)  # what each tokenizer is, see `_kind`
    tables = traitlets.Bytes().tag(
        sync=True
    )  # int32: merges, ids and lengths of tokens; then their bytes; for each BPE
    answers = traitlets.Dict().tag(sync=True)  # text, rows: [id, label] of tokenizers that run in the kernel

    def __init__(self, text: str = TEXT, tokenizers: Mapping[str, Tokenizer] | None = None) -> None:
        self._tokenizers = dict(usual_tokenizers() if tokenizers is None else tokenizers)
        if not 1 <= len(self._tokenizers) <= MAX_TOKENIZERS:
            raise ValueError(f"{len(self._tokenizers)} tokenizers; give 1 to {MAX_TOKENIZERS}")
        for name, tokenizer in self._tokenizers.items():
            if not hasattr(tokenizer, "encode") or not hasattr(tokenizer, "decode"):
                raise ValueError(
                    f"tokenizers[{name!r}] is a {type(tokenizer).__name__}, which has no encode and decode"
                )
        described = [_kind(name, tokenizer) for name, tokenizer in self._tokenizers.items()]
        super().__init__(
            text=text,
            kinds=[kind for kind, _ in described],
            tables=b"".join(table for _, table in described),
            answers=self._answers(text),
        )

    def _answer(self, request: dict[str, Any]) -> None:
        text = str(request["text"])
        self.answers, self.text = self._answers(text), text

    def _answers(self, text: str) -> dict[str, Any]:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"the text has {len(text)} characters and at most {MAX_CHARACTERS} are shown; cut it")
        here = (BPETokenizer, CharTokenizer)  # the browser has them
        rows = [None if isinstance(each, here) else _row(each, text) for each in self._tokenizers.values()]
        return {"text": text, "rows": rows}

    def _labels(self) -> dict[str, list[str]]:
        found = {}
        for name, tokenizer in self._tokenizers.items():
            if isinstance(tokenizer, CharTokenizer):
                found[name] = list(self.text)
            else:
                found[name] = [label for _, label in _row(tokenizer, self.text)]
        return found

    def _picture(self) -> Picture:
        return plot_tokenizations(self._labels(), title="One text, cut in several ways")

    def _sentence(self) -> str:
        text = self.text if len(self.text) <= 30 else self.text[:29] + "…"
        counts = ", ".join(f"{len(labels)} tokens for {name}" for name, labels in self._labels().items())
        return f"TokenizerView: {text!r} is {counts}"


def usual_tokenizers() -> dict[str, Tokenizer]:
    """The tokenizers that the view shows by itself: printable ASCII characters, bytes, and the bundled model's BPE."""
    bundled = load_tokenizer(Path(gptlib.__file__).parent / "assets" / "tales")
    return {
        "characters": CharTokenizer(list(PRINTABLE)),
        "bytes": BPETokenizer({bytes([byte]): byte for byte in range(256)}, {}, {}),
        "BPE of tales": bundled,
    }


def _kind(name: str, tokenizer: Any) -> tuple[dict[str, Any], bytes]:
    """What the browser needs of a tokenizer: a description, and for BPE its table."""
    if isinstance(tokenizer, CharTokenizer):
        characters = {"name": name, "kind": "characters", "size": tokenizer.vocab_size}
        return {**characters, "characters": tokenizer.characters}, b""
    if not isinstance(tokenizer, BPETokenizer):
        size = getattr(tokenizer, "vocab_size", None) or len(tokenizer)
        return {"name": name, "kind": "kernel", "size": int(size)}, b""
    merges = [(*pair, new) for pair, new in tokenizer.merges.items()]
    tokens = list(tokenizer.vocab)
    numbers = [*merges, list(tokenizer.vocab.values()), [len(token) for token in tokens]]
    table = b"".join(np.asarray(row, dtype="<i4").tobytes() for row in numbers) + b"".join(tokens)
    kind = {
        "name": name,
        "kind": "bpe",
        "size": tokenizer.vocab_size,
        "merges": len(merges),
        "tokens": len(tokens),
        "special": dict(tokenizer.special_tokens),
    }
    return kind, table + b"\0" * (-len(table) % 4)  # the next table begins at a whole number


def _row(tokenizer: Any, text: str) -> list[tuple[int, str]]:
    ids = [int(i) for i in tokenizer.encode(text)]
    name = getattr(tokenizer, "tokens", None)
    labels = name(ids) if callable(name) else [tokenizer.decode([i]) for i in ids]
    return list(zip(ids, labels, strict=True))
