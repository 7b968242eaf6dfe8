"""Token ids of a corpus, the batches drawn from them, and the loss on the part that was held back."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptlib.corpora import Corpus, PartFile, Source, TokenFiles
from gptlib.model import GPT
from gptlib.tokenizers import END_OF_TEXT, BPETokenizer, CharTokenizer, Tokenizer
from gptlib.training.distributed import ALONE, Team


@dataclass(frozen=True)
class TokenData:
    """One split of a corpus as token ids.

    Args:
        ids: (N,) int32; or int16, which are then read as unsigned. A corpus of documents is laid out as end-of-text,
            document, end-of-text, document, …, end-of-text.
        starts: (M,) int64, where a window may begin; anywhere if None. Documents that fit into a window are always read
            from their start, as they will be when the model is used.
    """

    ids: Tensor
    starts: Tensor | None = None

    @classmethod
    def on_disk(cls, part: PartFile, length: int) -> TokenData:
        """Ids that stay in their file; a window copies its own, and no more."""
        signed = part.ids.view(f"i{part.ids.dtype.itemsize}")  # PyTorch reads few of the unsigned kinds
        together = part.starts is not None and part.longest <= length
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
            return cls(torch.from_numpy(signed), torch.from_numpy(part.starts) if together else None)

    def read(self, places: Tensor | slice) -> Tensor:
        """The ids at some places, int64."""
        ids = self.ids[places].long()
        return ids & 0xFFFF if self.ids.dtype == torch.int16 else ids

    def batch(
        self, step: int, batch_size: int, length: int, seed: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Windows for one step: the same for the same `seed` and `step`, whatever was drawn before.

        Args:
            step: number of the batch.
            batch_size: windows, B.
            length: tokens a window.
            seed: of the run.
            rows: read only these of the B windows, the share of one of several processes.

        Returns:
            inputs and targets, both (B, length) int64; a target is the token that follows its input.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        last = len(self.ids) - length - 1  # a window holds its inputs and one target more
        if self.starts is None:
            begin = torch.randint(last + 1, (batch_size,), generator=generator)  # (B,)
        else:
            usable = int(torch.searchsorted(self.starts, last, right=True))
            begin = self.starts[torch.randint(usable, (batch_size,), generator=generator)]
        windows = self.read(begin[rows, None] + torch.arange(length + 1))  # (B, length + 1)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def windows(self, length: int) -> list[tuple[int, int]]:
        """Cut the split into windows so that each token is a target exactly once: (begin, number of targets)."""
        if self.starts is None:
            return [(begin, min(length, len(self.ids) - 1 - begin)) for begin in range(0, len(self.ids) - 1, length)]
        ends = [*self.starts[1:].tolist(), len(self.ids) - 1]
        return [(begin, end - begin) for begin, end in zip(self.starts.tolist(), ends, strict=True)]


def tokenizer_for(
    corpus: Corpus, kind: str = "auto", *, vocab_size: int = 1024, sample: int = 2_000_000
) -> BPETokenizer | CharTokenizer:
    """Train a tokenizer on a corpus.

    Args:
        corpus: its characters, all splits included, become the vocabulary of a character tokenizer.
        kind: "char", "bpe", or "auto": bpe for a corpus of documents, char for one long text.
        vocab_size: of a bpe tokenizer.
        sample: characters of the training split from which a bpe tokenizer learns its merges.

    Raises:
        ValueError: for an unknown kind.
    """
    if _takes_characters(kind, corpus.separator):
        return CharTokenizer.train(corpus.train + corpus.validation + corpus.test)
    return BPETokenizer.train(corpus.train[:sample], vocab_size, special_tokens=(corpus.separator or END_OF_TEXT,))


def tokenizer_from(
    source: Source, kind: str = "auto", *, vocab_size: int = 1024, sample: int = 2_000_000
) -> BPETokenizer | CharTokenizer:
    """As `tokenizer_for`, and with the same result, for a text that need not fit into memory.

    Raises:
        ValueError: for an unknown kind, or characters of a text that has no end.
    """
    if _takes_characters(kind, source.separator):
        if source.streams:
            raise ValueError(f"the characters of {source.name!r} are not known before all is read; use a bpe tokenizer")
        characters: set[str] = set()
        for _, piece in source.pieces():
            characters.update(piece)
        characters.update(source.separator or "")
        return CharTokenizer.train("".join(characters))
    end, learned_from, length = source.separator or "", [], 0
    for part, piece in source.pieces():
        if part == "train":
            learned_from += [piece, end]
            length += len(piece) + len(end)
        if length >= sample:
            break
    text = "".join(learned_from)[:sample]
    return BPETokenizer.train(text, vocab_size, special_tokens=(source.separator or END_OF_TEXT,))


def _takes_characters(kind: str, separator: str | None) -> bool:
    if kind not in ("auto", "char", "bpe"):
        raise ValueError(f"tokenizer={kind!r} is unknown; choose auto, char or bpe")
    return kind == "char" or (kind == "auto" and separator is None)


def tokenize_corpus(corpus: Corpus | TokenFiles, tokenizer: Tokenizer, length: int) -> tuple[TokenData, TokenData]:
    """The training and the validation split as ids, fit for windows of `length` tokens.

    Raises:
        ValueError: if a split has fewer than `length` + 1 tokens, or its ids were made by another tokenizer.
    """
    if isinstance(corpus, TokenFiles):
        if tokenizer.vocab_size != corpus.tokenizer.vocab_size:
            raise ValueError(
                f"the ids in {corpus.folder} are of a tokenizer with {corpus.tokenizer.vocab_size} tokens and not "
                f"{tokenizer.vocab_size}; use its own, which is the corpus's .tokenizer"
            )
        train, validation = TokenData.on_disk(corpus.train, length), TokenData.on_disk(corpus.validation, length)
    else:
        train, validation = _split(corpus, "train", tokenizer, length), _split(corpus, "validation", tokenizer, length)
    for name, data in (("train", train), ("validation", validation)):
        if len(data.ids) < length + 1:
            raise ValueError(
                f"the {name} split of {corpus.name!r} has {len(data.ids)} tokens, and a window needs {length + 1} "
                "(n_positions + 1); use a longer text or a smaller n_positions"
            )
    return train, validation


def _split(corpus: Corpus, name: str, tokenizer: Tokenizer, length: int) -> TokenData:
    text: str = getattr(corpus, name)
    end_id = tokenizer.end_id if corpus.separator else None  # None: one running text
    if end_id is not None and not text.startswith(corpus.separator or ""):
        text = f"{corpus.separator}{text}"
    if end_id is not None and not text.endswith(corpus.separator or ""):
        text = f"{text}{corpus.separator}"
    ids = torch.tensor(tokenizer.encode(text), dtype=torch.int32)  # (N,)
    if end_id is None:
        return TokenData(ids)
    starts = torch.eq(ids, end_id).nonzero()[:, 0]  # (M + 1,): the last one ends the last document
    longest = int(starts.diff().max()) if len(starts) > 1 else len(ids)
    return TokenData(ids, starts[:-1] if longest <= length else None)


@torch.no_grad()
def evaluate(
    model: GPT,
    data: TokenData,
    *,
    max_windows: int | None = None,
    batch_tokens: int = 8192,
    context: AbstractContextManager[Any] | None = None,
    team: Team = ALONE,
) -> float:
    """Mean loss in nats per token, each token predicted once.

    Args:
        model: put into evaluation mode meanwhile.
        data: the split to measure on.
        max_windows: measure on this many windows, spread evenly over the split, and not on all.
        batch_tokens: tokens computed at a time.
        context: precision, for example `autocast("cuda")`; fp32 if None.
        team: processes that share the work out; all of them must ask.
    """
    length = model.config.n_positions
    windows = data.windows(length)
    if max_windows is not None and len(windows) > max_windows:
        windows = [windows[i * len(windows) // max_windows] for i in range(max_windows)]
    batches = _batches(windows, batch_tokens)
    mine = batches[team.rows]
    # A model that is cut into parts computes only if all processes do: equally often, then, and the rest for nothing.
    idle = [batches[0]] * (-(-len(batches) // team.size) - len(mine))
    device = model.token_embedding.weight.device
    training = model.training
    model.eval()
    total = torch.zeros(2, dtype=torch.float64)  # summed losses, and how many
    with context or nullcontext():
        for rows, counts in [*((rows, True) for rows in mine), *((rows, False) for rows in idle)]:
            longest = max(n for _, n in rows)
            inputs = torch.zeros(len(rows), longest, dtype=torch.int64)
            targets = torch.full((len(rows), longest), -1)
            for row, (begin, n) in enumerate(rows):
                inputs[row, :n] = data.read(slice(begin, begin + n))
                targets[row, :n] = data.read(slice(begin + 1, begin + n + 1))
            _, loss = model(inputs.to(device), targets.to(device))
            assert loss is not None
            if counts:
                n_targets = sum(n for _, n in rows)
                total += torch.tensor([loss.item() * n_targets, n_targets], dtype=torch.float64)
    model.train(training)
    loss_sum, n_targets = team.sum(total).tolist()
    return float(loss_sum / n_targets)


def _batches(windows: list[tuple[int, int]], batch_tokens: int) -> list[list[tuple[int, int]]]:
    """Windows of like length together, so that little of a batch is padding."""
    windows = sorted(windows, key=lambda window: window[1])
    batches, at = [], 0
    while at < len(windows):
        batches.append(windows[at : at + max(1, batch_tokens // windows[min(at + 64, len(windows) - 1)][1])])
        at += len(batches[-1])
    return batches
