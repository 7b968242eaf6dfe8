"""Byte pair encoding itself: count pairs of neighbours, merge the most frequent one, and so on.

Source: Sennrich, Haddow & Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016), algorithm 1.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def pair_counts(ids: Sequence[int]) -> Counter[Pair]:
    """Count every pair of neighbours.

    Example:
        >>> pair_counts([1, 2, 1, 2, 3])
        Counter({(1, 2): 2, (2, 1): 1, (2, 3): 1})
    """
    return Counter(pairwise(ids))


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every occurrence of `pair` by `new_id`, from left to right; occurrences do not overlap.

    Example:
        >>> merge([1, 2, 1, 2, 3], (1, 2), 9)
        [9, 9, 3]
        >>> merge([1, 1, 1], (1, 1), 9)
        [9, 1]
    """
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn_merges(pieces: Iterable[str], vocab: dict[bytes, int], vocab_size: int) -> dict[Pair, int]:
    """Merge the most frequent pair until `vocab` has `vocab_size` tokens, or until no pair is left.

    Of pairs that occur equally often, the one with the smaller ids is merged first, so that the same text always gives
    the same tokens (and the same as the `tokenizers` package's trainer). This is the plain form, which counts anew
    before every merge; `learn_merges_fast` learns the same merges from a megabyte in seconds.

    Args:
        pieces: what `pretokenize` returns.
        vocab: the id of each token; must hold the 256 bytes; new tokens are added to it.
        vocab_size: number of tokens to reach.

    Returns:
        For each merged pair the id it became, in the order in which they were learned.

    Example:
        >>> vocab = {bytes([byte]): byte for byte in range(256)}
        >>> learn_merges(["low", " low", " lower"], vocab, 258)
        {(108, 111): 256, (256, 119): 257}
        >>> vocab[b"low"]
        257
    """
    words = [[vocab[bytes([byte])] for byte in piece.encode()] for piece in pieces]
    text_of = {token_id: token for token, token_id in vocab.items()}
    merges: dict[Pair, int] = {}
    while len(vocab) < vocab_size:
        counts: Counter[Pair] = Counter()
        for word in words:
            counts.update(pair_counts(word))
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))  # the most frequent, then the smaller ids
        token = text_of[pair[0]] + text_of[pair[1]]
        new_id = merges[pair] = vocab.setdefault(token, len(vocab))  # another pair may have made this token before
        text_of[new_id] = token
        words = [merge(word, pair, new_id) for word in words]
    return merges


def apply_merges(ids: Sequence[int], merges: dict[Pair, int], ranks: dict[Pair, int]) -> list[int]:
    """Merge the pairs in the order in which they were learned, until no learned pair is left.

    Args:
        ids: the bytes of one piece, as ids.
        merges: for each learned pair the id it becomes.
        ranks: for each learned pair its place in the order of learning.
    """
    ids = list(ids)
    while learned := [pair for pair in pairwise(ids) if pair in ranks]:
        pair = min(learned, key=ranks.__getitem__)
        ids = merge(ids, pair, merges[pair])
    return ids
