"""What a model can do, from the marks: does it give the right words more probability than the wrong ones?"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.tales.exact import Encoder, Tokenizer, Truth
from gptlib.tales.scoring import batches, check_length, row_of
from gptlib.tales.story import Mark, Story

KINDS = ("pronoun", "agreement", "speaker", "recall", "cause", "fact", "reference", "sum", "ending")
MOST_WRONG = 7  # of more alternatives than these, so many are compared


@dataclass(frozen=True)
class Ability:
    """How well a model does at one kind of mark.

    Attributes:
        kind: as in `Mark`.
        status: "seen", "held out" or "untold".
        accuracy: how often the right words get more probability than each wrong alternative.
        log_prob: mean log-probability in nats that the model gives to the right words, as they stand in the story.
        chance: the accuracy of guessing.
        count: how many marks were scored.
    """

    kind: str
    status: str
    accuracy: float
    log_prob: float
    chance: float
    count: int


@dataclass(frozen=True)
class Abilities:
    """The abilities of a model.

    Attributes:
        rows: one for each kind and status of mark that occurred.
        kl: mean KL divergence in nats from the true next-token distribution to the model's, at tokens of marked words.
        kl_count: over how many tokens.
    """

    rows: tuple[Ability, ...]
    kl: float
    kl_count: int

    def __getitem__(self, key: str | tuple[str, str]) -> Ability:
        kind, status = (key, "seen") if isinstance(key, str) else key
        for row in self.rows:
            if (row.kind, row.status) == (kind, status):
                return row
        known = ", ".join(f"({row.kind!r}, {row.status!r})" for row in self.rows)
        raise KeyError(f"({kind!r}, {status!r}) was not scored; there are {known}")

    def __str__(self) -> str:
        lines = [f"{'ability':<12}{'status':<10}{'accuracy':>9}{'log-prob':>10}{'chance':>8}{'count':>7}"]
        lines += [
            f"{row.kind:<12}{row.status:<10}{row.accuracy:>9.1%}{row.log_prob:>10.3f}{row.chance:>8.1%}{row.count:>7}"
            for row in self.rows
        ]
        return "\n".join([*lines, f"KL from the truth at marked tokens: {self.kl:.4f} nats ({self.kl_count} tokens)"])


def abilities(
    model: nn.Module, tokenizer: Tokenizer, stories: Sequence[Story], truth: Truth, *, per_kind: int, kl_stories: int
) -> Abilities:
    """Score a model at the marks of `stories`; `World.abilities` says what is compared."""
    encoder = Encoder(tokenizer)
    word_starts = _word_starts(encoder)
    rows = [row_of(encoder, encoder.encode(story.text)) for story in stories]
    check_length(model, max(map(len, rows)) - 1)
    chosen = _choose(stories, per_kind)
    told = [index for index, story in enumerate(stories) if story.log_prob > -math.inf][:kl_stories]

    scored: list[_Scored] = []
    divergences: list[float] = []
    needed = sorted({*chosen, *told})
    for batch, logits in batches(model, [rows[index][:-1] for index in needed]):
        for index, logits_of_story in zip((needed[i] for i in batch), logits, strict=True):
            log_probs = F.log_softmax(logits_of_story.double(), dim=-1).cpu()  # (T, V)
            for mark, options in chosen.get(index, ()):
                scored.append(_score(encoder, log_probs, stories[index].text, mark, options, word_starts))
            if index in told:
                divergences += _divergences(encoder, log_probs, stories[index], rows[index], truth)

    _settle(model, scored, word_starts)
    results: dict[tuple[str, str], list[_Scored]] = defaultdict(list)
    for one in scored:
        results[one.mark.kind, one.mark.status].append(one)
    table = [
        Ability(
            kind,
            status,
            accuracy=sum(not one.doubtful for one in found) / len(found),
            log_prob=math.fsum(one.right for one in found) / len(found),
            chance=math.fsum(1 / one.options for one in found) / len(found),
            count=len(found),
        )
        for status in ("seen", "held out", "untold")
        for kind in KINDS
        if (found := results.get((kind, status)))
    ]
    kl = math.fsum(divergences) / len(divergences) if divergences else math.nan
    return Abilities(tuple(table), kl, len(divergences))


@dataclass
class _Scored:
    """A mark with the right words' log-probability, and the wrong ones that may yet turn out more probable."""

    mark: Mark
    options: int
    right: float
    doubtful: list[tuple[list[int], int]]  # rows of ids, and the index from which each is scored


def _choose(stories: Sequence[Story], per_kind: int) -> dict[int, list[tuple[Mark, list[str]]]]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    chosen: dict[int, list[tuple[Mark, list[str]]]] = defaultdict(list)
    for index, story in enumerate(stories):
        for number, mark in enumerate(story.marks):
            # In a probe only what is new about it counts.
            if not mark.alternatives or (mark.status == "seen" and story.log_prob == -math.inf):
                continue
            key = (mark.kind, mark.status)
            if counts[key] < per_kind:
                counts[key] += 1
                first = zlib.crc32(f"{number} {story.text}".encode()) % len(mark.alternatives)
                wrong = (mark.alternatives[first:] + mark.alternatives[:first])[:MOST_WRONG]
                chosen[index].append((mark, [mark.text, *wrong]))
    return chosen


def _score(
    encoder: Encoder, log_probs: Tensor, text: str, mark: Mark, options: Sequence[str], word_starts: Tensor
) -> _Scored:
    start = max(text.rfind(" ", 0, mark.start), 0)
    end = text.find(" ", mark.end)
    after = text[mark.end : end if end >= 0 else len(text)]
    head = [*encoder.end, *encoder.encode(text[:start])]
    right, *wrong = [encoder.encode(text[start : mark.start] + option + after) for option in options]
    here = log_probs[len(head) - 1 :]  # (T - len(head) + 1, V): here[t] predicts the token t of the mark's words
    said = [here[t, token].item() for t, token in enumerate(right)]
    score = sum(said) + here[len(right), word_starts].logsumexp(0).item()
    doubtful = []
    for tokens in wrong:
        # Up to where it leaves the right words, one reading of the story tells its probability; the rest lowers it.
        common = next((t for t, pair in enumerate(zip(tokens, right, strict=False)) if pair[0] != pair[1]), len(tokens))
        most = sum(said[:common]) + (here[common, tokens[common]].item() if common < len(tokens) else 0.0)
        if most >= score:
            doubtful.append(([*head, *tokens], len(head)))
    return _Scored(mark, len(options), score, doubtful)


def _settle(model: nn.Module, scored: Sequence[_Scored], word_starts: Tensor) -> None:
    """Read the doubtful wrong options to their ends; keep only those that are not less probable than the right one."""
    rows = [(one, row, start) for one in scored for row, start in one.doubtful]
    for one in scored:
        one.doubtful = []
    check_length(model, max((len(row) for _, row, _ in rows), default=0))
    for batch, logits in batches(model, [row for _, row, _ in rows]):
        for index, logits_of_row in zip(batch, logits, strict=True):
            one, row, start = rows[index]
            log_probs = F.log_softmax(logits_of_row[start - 1 : len(row)].double(), dim=-1).cpu()  # (T - start + 1, V)
            said = log_probs[:-1].gather(1, torch.tensor(row[start:])[:, None]).sum()
            if (said + log_probs[-1, word_starts].logsumexp(0)).item() >= one.right:
                one.doubtful.append((row, start))


def _word_starts(encoder: Encoder) -> Tensor:
    # Without them "he" would score what belongs to "hello".
    tokenizer = encoder.tokenizer
    ids = [token for token in range(tokenizer.vocab_size) if tokenizer.decode([token]).startswith(" ")]
    return torch.tensor(sorted({*ids, encoder.end[0]}))


def _divergences(encoder: Encoder, log_probs: Tensor, story: Story, row: list[int], truth: Truth) -> list[float]:
    ids = row[len(encoder.end) : -len(encoder.end)]
    places = _marked_tokens(encoder, story, ids)
    found = []
    for place, true in zip(places, truth.along(ids, places), strict=True):
        tokens, p = torch.tensor(list(true)), torch.tensor(list(true.values()), dtype=torch.float64)
        q = log_probs[len(encoder.end) - 1 + place, tokens]
        found.append((p * (p.log() - q)).sum().item())
    return found


def _marked_tokens(encoder: Encoder, story: Story, ids: list[int]) -> list[int]:
    spans = [(mark.start, mark.end) for mark in story.marks if mark.alternatives]
    places, at = [], 0
    for place, token in enumerate(ids):
        end = at + len(encoder.tokenizer.decode([token]))
        if any(at < stop and start < end for start, stop in spans):
            places.append(place)
        at = end
    return places
