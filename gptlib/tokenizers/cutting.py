"""Cut text into pieces that no token crosses."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

# GPT-2's rule for cutting text: contractions, then words, numbers and punctuation, each with at most one space in
# front, then the white space that is left. No token ever crosses one of these cuts.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def pretokenize(text: str) -> list[str]:
    """Cut text into the pieces within which pairs may be merged, by GPT-2's pattern.

    Joined again, the pieces are the text.

    Example:
        >>> pretokenize("It's 12 o'clock.")
        ['It', "'s", ' 12', ' o', "'", 'clock', '.']
    """
    return [piece for chunk in chunks(text) for piece, _ in _splitter().pre_tokenize_str(chunk)]


@cache
def _splitter() -> Any:
    # The `tokenizers` package's own regular expressions, because Python's `re` has no \p{L}, and because packages
    # differ in the Unicode version they know: the same engine cuts the newest scripts in the same places.
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(GPT2_PATTERN), "isolated")


_CHUNK = 10_000
_GAP = re.compile(r"\S(?=[ \n])")


def last_gap(text: str) -> int:
    """The last place at which `text` may be cut in two, so that its parts have the ids of the whole; 0 without one."""
    for start in range(len(text) - _CHUNK, -_CHUNK, -_CHUNK):
        gaps = [gap.end() for gap in _GAP.finditer(text, max(0, start), start + _CHUNK + 1)]
        if gaps:
            return gaps[-1]
    return 0


def chunks(text: str) -> Iterator[str]:
    """Cut a long text between a word and the space after it, where the pattern cuts too: long strings are slow."""
    start = 0
    while start < len(text):
        gap = _GAP.search(text, start + _CHUNK)
        end = gap.end() if gap else len(text)
        yield text[start:end]
        start = end
