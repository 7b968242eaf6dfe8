"""What both tokenizers ask of the ids and the text that they are given."""

import operator
from collections.abc import Container, Iterable


def check_ids(ids: Iterable[int], known: Container[int], vocab_size: int) -> list[int]:
    """Give one row of ids as a list, from a list, a tensor or an array.

    Raises:
        ValueError: It is no row of whole numbers, or an id is not among those `known`.
    """
    if hasattr(ids, "tolist"):  # a tensor or an array
        ids = ids.tolist()
    try:
        checked = [operator.index(i) for i in ids]
    except TypeError:
        raise ValueError(
            "decode takes one row of whole numbers; of a batch (B, T) pass one row, such as ids[0]"
        ) from None
    for i in checked:
        if i not in known:
            raise ValueError(
                f"id {i} is none of this tokenizer's ids, which are 0 … {vocab_size - 1} (vocab_size={vocab_size}); "
                "decode with the tokenizer that made the ids"
            )
    return checked


def check_unicode(text: str) -> None:
    """Refuse text that no file can hold.

    Raises:
        ValueError: The text holds half of a surrogate pair, which is not a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"position {error.start} of the text holds {text[error.start]!r}, half of a surrogate pair and no "
            "character; read the file as UTF-8, or leave it out"
        ) from None
