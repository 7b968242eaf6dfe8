"""Token ids of a corpus, the batches drawn from them, and the loss on the part that was held back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptlib.corpora import Corpus
from gptlib.model import GPT
from gptlib.tokenizers import BPETokenizer, CharTokenizer, Tokenizer


@dataclass(frozen=True)
class TokenData:
    """One split of a corpus as token ids.

    Args:
        ids: (N,) int32. A corpus of documents is laid out as end-of-text, document, end-of-text, document, …,
            end-of-text.
        starts: (M,) int64, where a window may begin; anywhere if None. Documents that fit into a window are always read
            from their start, as they will be when the model is used.
    """

    ids: Tensor
    starts: Tensor | None = None

    def batch(self, step: int, batch_size: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Windows for one step: the same for the same `seed` and `step`, whatever was drawn before.

        Returns:
            inputs and targets, both (B, length) int64; a target is the token that follows its input.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        last = len(self.ids) - length - 1  # a window holds its inputs and one target more
        if self.starts is None:
            begin = torch.randint(last + 1, (batch_size,), generator=generator)  # (B,)
        else:
            usable = self.starts[self.starts <= last]
            begin = usable[torch.randint(len(usable), (batch_size,), generator=generator)]
        windows = self.ids[begin[:, None] + torch.arange(length + 1)].long()  # (B, length + 1)
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
    if kind not in ("auto", "char", "bpe"):
        raise ValueError(f"tokenizer={kind!r} is unknown; choose auto, char or bpe")
    if kind == "char" or (kind == "auto" and corpus.separator is None):
        return CharTokenizer.train(corpus.train + corpus.validation + corpus.test)
    special = (corpus.separator,) if corpus.separator else ()
    return BPETokenizer.train(corpus.train[:sample], vocab_size, special_tokens=special or ("<|endoftext|>",))


def tokenize_corpus(corpus: Corpus, tokenizer: Tokenizer, length: int) -> tuple[TokenData, TokenData]:
    """The training and the validation split as ids, fit for windows of `length` tokens.

    Raises:
        ValueError: if a split has fewer than `length` + 1 tokens.
    """
    return _split(corpus, "train", tokenizer, length), _split(corpus, "validation", tokenizer, length)


def _split(corpus: Corpus, name: str, tokenizer: Tokenizer, length: int) -> TokenData:
    text: str = getattr(corpus, name)
    end_id = tokenizer.end_id if corpus.separator else None  # None: one running text
    if end_id is not None and not text.startswith(corpus.separator or ""):
        text = f"{corpus.separator}{text}"
    if end_id is not None and not text.endswith(corpus.separator or ""):
        text = f"{text}{corpus.separator}"
    ids = torch.tensor(tokenizer.encode(text), dtype=torch.int32)  # (N,)
    if len(ids) < length + 1:
        raise ValueError(
            f"the {name} split of {corpus.name!r} has {len(ids)} tokens, and a window needs {length + 1} "
            "(n_positions + 1); use a longer text or a smaller n_positions"
        )
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
) -> float:
    """Mean loss in nats per token, each token predicted once.

    Args:
        model: put into evaluation mode meanwhile.
        data: the split to measure on.
        max_windows: measure on this many windows, spread evenly over the split, and not on all.
        batch_tokens: tokens computed at a time.
        context: precision, for example `autocast("cuda")`; fp32 if None.
    """
    length = model.config.n_positions
    windows = data.windows(length)
    if max_windows is not None and len(windows) > max_windows:
        windows = [windows[i * len(windows) // max_windows] for i in range(max_windows)]
    windows.sort(key=lambda window: window[1])  # windows of like length share a batch, so little of it is padding
    device = model.token_embedding.weight.device
    training = model.training
    model.eval()
    total, count = 0.0, 0
    with context or nullcontext():
        at = 0
        while at < len(windows):
            rows = windows[at : at + max(1, batch_tokens // windows[min(at + 64, len(windows) - 1)][1])]
            longest = max(n for _, n in rows)
            inputs = torch.zeros(len(rows), longest, dtype=torch.int64)
            targets = torch.full((len(rows), longest), -1)
            for row, (begin, n) in enumerate(rows):
                inputs[row, :n] = data.ids[begin : begin + n]
                targets[row, :n] = data.ids[begin + 1 : begin + n + 1]
            _, loss = model(inputs.to(device), targets.to(device))
            n_targets = sum(n for _, n in rows)
            assert loss is not None
            total, count, at = total + loss.item() * n_targets, count + n_targets, at + len(rows)
    model.train(training)
    return total / count
