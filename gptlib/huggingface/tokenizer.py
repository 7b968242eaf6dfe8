"""A tokenizer of transformers behind the interface of ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class TransformersTokenizer:
    """A tokenizer of transformers behind the interface of ours, for models whose rules `BPETokenizer` does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.vocab_size: int = len(inner)
        self.end_id: int | None = inner.eos_token_id

    @classmethod
    def find(cls, source: str, **options: Any) -> TransformersTokenizer | None:
        """The tokenizer that goes with a model, or None when it has none."""
        import transformers

        folder = Path(source)
        if folder.is_dir() and not options and not any([*folder.glob("*token*.*"), *folder.glob("vocab.*")]):
            return None
        return cls(transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without marks of beginning or end."""
        return list(self.inner.encode(text, add_special_tokens=False))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`."""
        return str(self.inner.decode(list(ids), clean_up_tokenization_spaces=False))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each id's own text, for labels."""
        return [self.decode([i]) for i in ids]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write tokenizer.json."""
        self.inner.backend_tokenizer.save(str(path))
        return Path(path)
