"""Text to token ids and back.

A GPT reads integers. `CharTokenizer` gives every character a number. `BPETokenizer` starts from the 256 bytes, so that
no text is beyond it, and learns longer tokens from text by joining, again and again, the pair of neighbours that occurs
most often (byte pair encoding: Sennrich, Haddow, Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", algorithm 1; on bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2).

The order below is the order of the idea: cut, count, merge, train, encode, then the two tokenizers, then their files.
"""

import heapq
import json
import operator
import os
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tokenizers

Pair = tuple[int, int]


class Tokenizer(Protocol):
    """What the course asks of a tokenizer, its own or another's."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids lie below it."""

    @property
    def end_id(self) -> int | None:
        """Id of the end-of-text token, or None if there is none."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids."""

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each id's own text, for labels."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a tokenizer.json."""


END_OF_TEXT = "<|endoftext|>"

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
    return [piece for chunk in _chunks(text) for piece, _ in _splitter().pre_tokenize_str(chunk)]


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
    the same tokens (and the same as the `tokenizers` package's trainer).

    Args:
        pieces: what `pretokenize` returns.
        vocab: the id of each token; must hold the 256 bytes; new tokens are added to it.
        vocab_size: number of tokens to reach.

    Returns:
        For each merged pair the id it became, in the order in which they were learned.
    """
    occurrences = Counter(pieces)  # text repeats itself: the work is done once for each distinct piece
    times = list(occurrences.values())
    words = [[vocab[bytes([byte])] for byte in piece.encode()] for piece in occurrences]
    text_of = {token_id: token for token, token_id in vocab.items()}

    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair may be found
    for index, word in enumerate(words):
        for pair, n in pair_counts(word).items():
            counts[pair] += n * times[index]
            where[pair].add(index)
    queue = [(-n, pair) for pair, n in counts.items()]  # the smallest entry: the highest count, then the smaller ids
    heapq.heapify(queue)

    merges: dict[Pair, int] = {}
    while queue and len(vocab) < vocab_size:
        n, pair = heapq.heappop(queue)
        if -n != counts[pair]:  # merges of other pairs took some of this one's occurrences: back into the queue
            if counts[pair] > 0:
                heapq.heappush(queue, (-counts[pair], pair))
            continue
        token = text_of[pair[0]] + text_of[pair[1]]
        new_id = merges[pair] = vocab.setdefault(token, len(vocab))
        text_of[new_id] = token

        # Only the words with this pair change, so only their pairs are counted anew.
        grown: set[Pair] = set()
        for index in where.pop(pair):
            for old, n in pair_counts(words[index]).items():
                counts[old] -= n * times[index]
            words[index] = merge(words[index], pair, new_id)
            for new, n in pair_counts(words[index]).items():
                counts[new] += n * times[index]
                if new_id in new:
                    where[new].add(index)
                    grown.add(new)
        for new in grown:
            heapq.heappush(queue, (-counts[new], new))
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


class CharTokenizer:
    """One token per character.

    Args:
        characters: the characters, each once; the place of a character is its id.
    """

    end_id: None = None

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = list(characters)
        self.vocab_size = len(self.characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}

    def __repr__(self) -> str:
        return f"CharTokenizer(vocab_size={self.vocab_size})"

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Number the characters of a text in their Unicode order.

        Raises:
            ValueError: The text is empty.

        Example:
            >>> CharTokenizer.train("hello").characters
            ['e', 'h', 'l', 'o']
        """
        if not text:
            raise ValueError("the text is empty, and a tokenizer is learned from text; pass at least one character")
        return cls(sorted(set(text)))

    def encode(self, text: str) -> list[int]:
        """Give the id of each character.

        Raises:
            ValueError: The text has a character that the tokenizer was not trained on.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"character {character!r} at position {text.index(character)} is not among the {self.vocab_size} that "
                "this tokenizer knows; leave it out, or train a BPETokenizer, which takes any text"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of ids.

        Raises:
            ValueError: An id is outside 0 … vocab_size - 1.
        """
        return "".join(self.tokens(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Give each id's own text, for labels."""
        return [self.characters[i] for i in _check_ids(ids, range(self.vocab_size), self.vocab_size)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `tokenizer.json` that the `tokenizers` package and transformers load; return where it is.

        Args:
            path: a file that ends in .json, or a folder, where the file is called `tokenizer.json`.
        """
        return _write_json(path, self._file_content())

    def _file_content(self) -> dict[str, Any]:
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            # The format wants the name of an unknown token; as none has it, unknown characters are an error there too.
            "model": {"type": "WordLevel", "vocab": self._ids, "unk_token": "<unk>"},
        }


class BPETokenizer:
    """Byte-level byte pair encoding, as in GPT-2.

    Args:
        vocab: the id of each token.
        merges: for each learned pair of ids the id it becomes, in the order of learning.
        special_tokens: texts with a token of their own, which no merge makes, and their ids.
    """

    # Longer texts are encoded by the `tokenizers` package: the same ids, from all processor cores.
    LONG_TEXT = 2_000

    def __init__(self, vocab: dict[bytes, int], merges: dict[Pair, int], special_tokens: dict[str, int]) -> None:
        self.vocab = vocab
        self.merges = merges
        self.special_tokens = special_tokens
        self.end_id: int | None = special_tokens.get(END_OF_TEXT)
        self._text_of = {i: token for token, i in vocab.items()} | {i: t.encode() for t, i in special_tokens.items()}
        self.vocab_size = max(self._text_of) + 1
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._encoded: dict[str, list[int]] = {}  # pieces recur: what each became is kept

    def __repr__(self) -> str:
        return f"BPETokenizer(vocab_size={self.vocab_size})"

    @classmethod
    def train(cls, text: str, vocab_size: int, *, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> "BPETokenizer":
        """Learn a vocabulary from a text.

        Ids: the 256 bytes in GPT-2's order, then the learned tokens in the order of learning, then the special tokens.

        Args:
            text: what to learn from; special tokens in it separate documents and teach nothing.
            vocab_size: how many tokens to have, 256 bytes and special tokens included. A short text may not hold so
                many pairs: then `vocab_size` of the result says how many there are.
            special_tokens: texts that get a token of their own.

        Raises:
            ValueError: The text is empty, `vocab_size` leaves no room for the bytes and the special tokens, or a
                special token is empty or written like an ordinary one.

        Example:
            >>> tokenizer = BPETokenizer.train("low lower lowest", 260)
            >>> tokenizer.tokens(tokenizer.encode("low lower lowest"))
            ['low', ' low', 'e', 'r', ' low', 'e', 's', 't']
        """
        special_tokens = list(dict.fromkeys(special_tokens))
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: 256 bytes and {len(special_tokens)} special tokens need "
                f"at least {smallest}"
            )
        if not text:
            raise ValueError("the text is empty, and a tokenizer is learned from text; pass at least a few words")
        if "" in special_tokens:
            raise ValueError("special_tokens holds an empty text, which would occur everywhere; leave it out")
        _check_unicode(text)
        vocab = {bytes([byte]): i for i, byte in enumerate(_byte_characters())}
        documents = re.split("|".join(map(re.escape, special_tokens)), text) if special_tokens else [text]
        pieces = (piece for document in documents for piece in pretokenize(document))
        merges = learn_merges(pieces, vocab, vocab_size - len(special_tokens))
        if taken := set(map(_to_characters, vocab)).intersection(special_tokens):
            raise ValueError(
                f"special token {min(taken)!r} is how a file would write an ordinary token; choose another, such as "
                "<|name|>"
            )
        return cls(vocab, merges, {token: len(vocab) + i for i, token in enumerate(special_tokens)})

    def encode(self, text: str) -> list[int]:
        """Give the ids of any text; a special token's text inside it becomes that token.

        Raises:
            ValueError: The text holds half of a surrogate pair, which is not a character.
        """
        _check_unicode(text)
        parts = self._special_pattern.split(text) if self.special_tokens else [text]
        if len(text) > self.LONG_TEXT:
            return self._encode_long(parts)
        ids: list[int] = []
        for part in parts:
            if part in self.special_tokens:
                ids.append(self.special_tokens[part])
            else:
                for piece in pretokenize(part):
                    ids.extend(self._encode_piece(piece))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of ids; bytes that are no whole character become the replacement character U+FFFD.

        Raises:
            ValueError: An id is outside 0 … vocab_size - 1.
        """
        return b"".join(self._token_bytes(ids)).decode("utf-8", errors="replace")

    def tokens(self, ids: Iterable[int]) -> list[str]:
        r"""Give each id's own text, for labels; a byte that is no whole character shows as \xe2, for example."""
        return [token.decode("utf-8", errors="backslashreplace") for token in self._token_bytes(ids)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `tokenizer.json` that the `tokenizers` package and transformers load; return where it is.

        Args:
            path: a file that ends in .json, or a folder, where the file is called `tokenizer.json`.
        """
        return _write_json(path, self._file_content())

    def _encode_piece(self, piece: str) -> list[int]:
        ids = self._encoded.get(piece)
        if ids is None:
            ids = apply_merges([self.vocab[bytes([byte])] for byte in piece.encode()], self.merges, self._ranks)
            if len(self._encoded) < 100_000:
                self._encoded[piece] = ids
        return ids

    def _encode_long(self, parts: list[str]) -> list[int]:
        chunks = [chunk for part in parts for chunk in _chunks(part)]
        ids: list[int] = []
        for start in range(0, len(chunks), 1000):  # a batch at a time, because an encoding takes much memory
            for encoding in self._fast.encode_batch_fast(chunks[start : start + 1000], add_special_tokens=False):
                ids.extend(encoding.ids)
        return ids

    def _token_bytes(self, ids: Iterable[int]) -> list[bytes]:
        return [self._text_of[i] for i in _check_ids(ids, self._text_of, self.vocab_size)]

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    @cached_property
    def _fast(self) -> "tokenizers.Tokenizer":
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(self._file_content()))

    def _file_content(self) -> dict[str, Any]:
        vocab = {_to_characters(token): i for token, i in self.vocab.items()} | self.special_tokens
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": token} | plain for token, i in self.special_tokens.items()],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": [
                    [_to_characters(self._text_of[left]), _to_characters(self._text_of[right])]
                    for left, right in self.merges
                ],
            },
        }


def load_tokenizer(path: str | os.PathLike[str]) -> CharTokenizer | BPETokenizer:
    """Read a tokenizer from its files.

    Args:
        path: a `tokenizer.json` as written by `save` or by the `tokenizers` package for a GPT-2-like model; or GPT-2's
            own pair of files (`encoder.json` and `vocab.bpe`, or `vocab.json` and `merges.txt`), named by either; or a
            folder with any of these.

    Raises:
        FileNotFoundError: There is no such file, or the folder holds none.
        ValueError: The file is damaged, or of a kind that these two classes do not cover.
    """
    path = Path(path)
    if path.is_dir():
        present = [name for name in ("tokenizer.json", *_PAIRS) if (path / name).is_file()]
        if not present:
            raise FileNotFoundError(
                f"{path} holds no tokenizer: neither tokenizer.json, nor encoder.json and vocab.bpe, nor vocab.json "
                "and merges.txt; name the folder that does"
            )
        path = path / present[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a tokenizer file or a folder with one")
    try:
        if path.name in _PAIRS:
            partner = path.with_name(_PAIRS[path.name])
            vocab_file, merges_file = (path, partner) if path.suffix == ".json" else (partner, path)
            lines = merges_file.read_text(encoding="utf-8").splitlines()
            pairs = [line.split(" ") for line in lines[lines[0].startswith("#version") :] if line]
            return _bpe_from_strings(json.loads(vocab_file.read_text(encoding="utf-8")), pairs)
        return _from_file_content(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} does not exist, and {path.name} needs it; put it beside it"
        ) from None
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole tokenizer file ({error!r}); fetch or save it again") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


# Either file of a pair leads to the other one.
_PAIRS = {
    "encoder.json": "vocab.bpe",
    "vocab.json": "merges.txt",
    "vocab.bpe": "encoder.json",
    "merges.txt": "vocab.json",
}
_ELSEWHERE = "transformers.AutoTokenizer.from_pretrained reads other kinds"


def _from_file_content(content: dict[str, Any]) -> CharTokenizer | BPETokenizer:
    model, cut = content["model"], content["pre_tokenizer"]
    added = content.get("added_tokens") or []
    if model["type"] == "WordLevel" and cut and cut["type"] == "Split" and not added:
        characters = sorted(model["vocab"], key=model["vocab"].__getitem__)
        if all(len(c) == 1 for c in characters) and sorted(model["vocab"].values()) == list(range(len(characters))):
            return CharTokenizer(characters)
    if model["type"] != "BPE":
        raise ValueError(
            f"is of the kind {model['type']!r}, and only byte-level BPE and characters are read; {_ELSEWHERE}"
        )
    expected = {"normalizer": None, "cut": ("ByteLevel", False, True), "ignore_merges": False, "spaces": False}
    found = {
        "normalizer": content.get("normalizer"),
        "cut": cut and (cut["type"], cut.get("add_prefix_space"), cut.get("use_regex", True)),
        "ignore_merges": model.get("ignore_merges", False),
        "spaces": any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added),
    }
    if found != expected:
        differs = next(key for key in expected if found[key] != expected[key])
        raise ValueError(f"prepares text in another way than GPT-2 does ({differs}: {found[differs]}); {_ELSEWHERE}")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return _bpe_from_strings(model["vocab"], pairs, {token["content"]: token["id"] for token in added})


def _bpe_from_strings(
    ids: dict[str, int], pairs: Sequence[Sequence[str]], special_tokens: dict[str, int] | None = None
) -> BPETokenizer:
    """Build a tokenizer from tokens in GPT-2's alphabet; without `special_tokens` these are what no merge makes."""
    merges = {(ids[pair[0]], ids[pair[1]]): ids["".join(pair)] for pair in pairs}
    characters = set(_byte_characters().values())
    if missing := characters - ids.keys():
        raise ValueError(f"lacks {len(missing)} of the 256 bytes, so some texts would have no ids; {_ELSEWHERE}")
    if special_tokens is None:
        made = characters | {"".join(pair) for pair in pairs}
        special_tokens = {token: i for token, i in ids.items() if token not in made}
    vocab = {_to_bytes(token): i for token, i in ids.items() if token not in special_tokens}
    return BPETokenizer(vocab, merges, special_tokens)


@cache
def _splitter() -> Any:
    # The `tokenizers` package's own regular expressions, because Python's `re` has no \p{L}, and because packages
    # differ in the Unicode version they know: the same engine cuts the newest scripts in the same places.
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(GPT2_PATTERN), "isolated")


_CHUNK = 10_000
_GAP = re.compile(r"\S(?=[ \n])")


def _chunks(text: str) -> Iterator[str]:
    """Cut a long text between a word and the space after it, where the pattern cuts too: long strings are slow."""
    start = 0
    while start < len(text):
        gap = _GAP.search(text, start + _CHUNK)
        end = gap.end() if gap else len(text)
        yield text[start:end]
        start = end


@cache
def _byte_characters() -> dict[int, str]:
    """Give each byte the printable character by which GPT-2's files write it, in the order of GPT-2's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@cache
def _character_bytes() -> dict[str, int]:
    return {character: byte for byte, character in _byte_characters().items()}


def _to_characters(token: bytes) -> str:
    return "".join(_byte_characters()[byte] for byte in token)


def _to_bytes(token: str) -> bytes:
    try:
        return bytes(_character_bytes()[character] for character in token)
    except KeyError:  # not written in the alphabet
        return token.encode()


def _check_ids(ids: Iterable[int], known: Container[int], vocab_size: int) -> list[int]:
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


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"position {error.start} of the text holds {text[error.start]!r}, half of a surrogate pair and no "
            "character; read the file as UTF-8, or leave it out"
        ) from None


def _write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> Path:
    path = Path(path)
    file = path if path.suffix == ".json" else path / "tokenizer.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    os.replace(unfinished, file)
    return file
