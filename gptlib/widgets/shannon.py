"""Shannon's game: guess the next word with probabilities, and be scored like a language model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import traitlets
from torch import nn

from gptlib import tales
from gptlib.plots import Picture, plot_guesses
from gptlib.tales.scoring import token_log_probs
from gptlib.tokenizers import BPETokenizer, CharTokenizer
from gptlib.widgets.base import View, view_module, view_style

MOST = 3  # words that can be named for a gap
ENGLISH_WORDS = 10_000  # the words that share what a guesser leaves over, when the text is English
ENGLISH = (
    "The lift stopped between two floors, and for a while nobody said a word. Then the old man in the corner took a "
    "sandwich out of his coat, broke it into five equal parts, and handed them round as if this happened every day.",
    "If you leave a bicycle in the rain all winter, the chain will rust. If you oil it once a month, it will outlive "
    "you. Nearly everything that breaks has been asking for a little oil for a very long time.",
    "She opened the letter twice before she read it. The first time she only looked at the stamp, the second time at "
    "the name, and when she finally read the words they were exactly the ones she had been afraid of.",
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


@dataclass(frozen=True)
class Passage:
    """A text to be guessed.

    Attributes:
        pieces: the text, cut so that each word that is asked for is a piece of its own.
        asked: which pieces those are, ascending.
        nats: for each rival, what it paid for each of these words: −ln of the probability that it gave to it.
    """

    pieces: tuple[str, ...]
    asked: tuple[int, ...]
    nats: dict[str, list[float]]


class ShannonGame(View):
    """Guess words of a text, name how sure you are, and see your mean loss beside that of others.

    For each gap up to three words can be named with a probability each; what is left over is shared equally by all
    other words. The loss is −ln of what the right word got. `on_tales` and `on_english` make one.

    Args:
        passages: the texts, with what the rivals paid.
        vocabulary: the words that share what is left over, or how many there are.

    Raises:
        ValueError: without passages, or if a vocabulary has fewer words than can be named.

    Source: Claude E. Shannon, "Prediction and Entropy of Printed English" (1951), with probabilities in place of his
    guesses one after the other, so that the loss is a model's.
    """

    _esm = view_module("shannon_game")
    _css = view_style("shannon_game")
    passages = traitlets.List(traitlets.Dict()).tag(sync=True)
    words = traitlets.List(traitlets.Unicode()).tag(sync=True)  # suggestions for the fields; may be empty
    n_words = traitlets.Int().tag(sync=True)
    answers = traitlets.List(traitlets.Dict()).tag(sync=True)  # {"passage", "question", "guesses": [[word, p], …]}

    def __init__(self, passages: Sequence[Passage], vocabulary: Sequence[str] | int) -> None:
        if not passages:
            raise ValueError("no passages were given; ShannonGame.on_tales makes some from the course's stories")
        n_words = vocabulary if isinstance(vocabulary, int) else len(vocabulary)
        if n_words <= MOST:
            raise ValueError(f"a vocabulary of {n_words} words leaves none to guess wrong; give more than {MOST}")
        self._passages = tuple(passages)
        super().__init__(
            passages=[{"pieces": list(p.pieces), "asked": list(p.asked), "nats": p.nats} for p in passages],
            words=[] if isinstance(vocabulary, int) else sorted(vocabulary),
            n_words=n_words,
        )

    @classmethod
    def on_tales(
        cls,
        rivals: Mapping[str, nn.Module],
        tokenizer: BPETokenizer | CharTokenizer,
        *,
        passages: int = 3,
        questions: int = 10,
        seed: int = 11,
        world: tales.World | None = None,
    ) -> ShannonGame:
        """A game on test stories of tales, whose world plays too: as "the world", which cannot be beaten on average.

        Args:
            rivals: by name, models that are called as `logits, _ = model(ids)`.
            tokenizer: theirs.
            passages: number of stories.
            questions: words asked in each: those where the world chose, and those that the story or the world decides.
            seed: which stories.
            world: the default one if None.
        """
        world = world or tales.world()
        truth = world.truth(tokenizer)
        made = []
        for story in world.split("test", passages, seed):
            ids = tokenizer.encode(story.text)
            spans = _token_spans(tokenizer, ids)
            words = [match.span() for match in _WORD.finditer(story.text)]
            places = {word: _tokens_of(word, spans) for word in words}
            wanted = sorted({place for tokens in places.values() for place in tokens})
            along = dict(zip(wanted, truth.along(ids, wanted), strict=True))
            open_ = {word: sum(_entropy(along[place]) for place in tokens) for word, tokens in places.items()}
            decided = [(mark.start, mark.end) for mark in story.marks if mark.alternatives and mark.antecedent]
            asked = _spread(
                [word for word in words if open_[word] > 0.5],
                [word for word in words if open_[word] <= 0.5 and any(a <= word[0] < b for a, b in decided)],
                questions,
            )
            nats = _nats(rivals, tokenizer, ids, [places[word] for word in asked])
            nats["the world"] = [
                abs(-sum(math.log(along[place][ids[place]]) for place in places[word])) for word in asked
            ]
            made.append(_passage(story.text, asked, nats))
        vocabulary = {word for story in world.sample(0, 2000) for word in _WORD.findall(story.text)}
        return cls(made, sorted(vocabulary))

    @classmethod
    def on_english(
        cls, rivals: Mapping[str, nn.Module], tokenizer: BPETokenizer | CharTokenizer, *, questions: int = 10
    ) -> ShannonGame:
        """A game on three passages of English, where nobody knows the truth; 10,000 words share what is left over."""
        made = []
        for text in ENGLISH:
            ids = tokenizer.encode(text)
            spans = _token_spans(tokenizer, ids)
            words = [match.span() for match in _WORD.finditer(text)][4:]  # the first words could be any
            asked = words[:: max(1, len(words) // questions)][:questions]
            made.append(_passage(text, asked, _nats(rivals, tokenizer, ids, [_tokens_of(w, spans) for w in asked])))
        return cls(made, ENGLISH_WORDS)

    @property
    def nats(self) -> dict[str, float]:
        """The mean loss in nats over the words that were answered, by name, "you" first; empty before the first one."""
        if not self.answers:
            return {}
        places = [(answer["passage"], answer["question"]) for answer in self.answers]
        rivals = self._passages[0].nats
        yours = [-math.log(self._p(answer)) for answer in self.answers]
        return {"you": _mean(yours)} | {
            name: _mean([self._passages[p].nats[name][q] for p, q in places]) for name in rivals
        }

    @property
    def said(self) -> list[tuple[float, bool]]:
        """For every word that was named: the probability that it was given, and whether it was right."""
        return [
            (p, _same(word, self._word(answer["passage"], answer["question"])))
            for answer in self.answers
            for word, p in answer["guesses"]
        ]

    def plot(self) -> Picture:
        """Everybody's mean loss, and how often words came true to which this or that probability was given."""
        if self.answers:
            return plot_guesses(self.nats, self.said, n=len(self.answers))
        everything = {name: _mean([x for p in self._passages for x in p.nats[name]]) for name in self._passages[0].nats}
        return plot_guesses(everything, [], n=sum(len(p.asked) for p in self._passages))

    def _answer(self, request: dict[str, Any]) -> None:
        if request.get("reset"):
            self.answers = []
            return
        answer = request.get("answer")
        if not isinstance(answer, dict):
            raise ValueError("the view sent no answer; run this cell again")
        passage, question = int(answer["passage"]), int(answer["question"])
        if not (0 <= passage < len(self._passages) and 0 <= question < len(self._passages[passage].asked)):
            raise ValueError(f"there is no word {question} in passage {passage}; run this cell again")
        guesses = [[str(word), float(p)] for word, p in answer["guesses"]]
        check_guesses(guesses)
        others = [a for a in self.answers if (a["passage"], a["question"]) != (passage, question)]
        self.answers = [*others, {"passage": passage, "question": question, "guesses": guesses}]

    def _word(self, passage: int, question: int) -> str:
        where = self._passages[passage]
        return where.pieces[where.asked[question]]

    def _p(self, answer: dict[str, Any]) -> float:
        """What the right word got."""
        right, guesses = self._word(answer["passage"], answer["question"]), answer["guesses"]
        for word, p in guesses:
            if _same(word, right):
                return float(p)
        return (1 - math.fsum(p for _, p in guesses)) / (self.n_words - len(guesses))

    def _picture(self) -> Picture:
        return self.plot()

    def _sentence(self) -> str:
        asked = sum(len(p.asked) for p in self._passages)
        head = f"ShannonGame: {len(self.answers)} of {asked} words answered"
        said = ", ".join(f"{name} {nats:.2f}" for name, nats in self.nats.items())
        return f"{head}; mean loss in nats: {said}" if said else head


def check_guesses(guesses: Sequence[Sequence[Any]]) -> None:
    """Raise ValueError, with a sentence, unless these are at most three different words with room for the others."""
    words = [word.casefold() for word, _ in guesses]
    if len(guesses) > MOST:
        raise ValueError(f"{len(guesses)} words were named; name at most {MOST}")
    if len(set(words)) < len(words):
        raise ValueError("the same word was named twice; add up what you give it")
    for word, p in guesses:
        if not word.strip() or not 0 < p < 1:
            raise ValueError(f"{word!r} was given {p:.0%}; give each word more than 0 % and less than 100 %")
    if (total := math.fsum(p for _, p in guesses)) > 0.99 + 1e-9:
        raise ValueError(f"your words take {total:.0%}; leave at least 1 % for all other words")


def _passage(text: str, asked: Sequence[tuple[int, int]], nats: dict[str, list[float]]) -> Passage:
    pieces: list[str] = []
    places, at = [], 0
    for start, end in asked:
        if start > at:
            pieces.append(text[at:start])
        places.append(len(pieces))
        pieces.append(text[start:end])
        at = end
    return Passage((*pieces, text[at:]) if at < len(text) else tuple(pieces), tuple(places), nats)


def _nats(
    rivals: Mapping[str, nn.Module],
    tokenizer: BPETokenizer | CharTokenizer,
    ids: list[int],
    places: Sequence[Sequence[int]],
) -> dict[str, list[float]]:
    """What each model pays for the tokens of each word, having read the text from the end mark before it."""
    start = [] if tokenizer.end_id is None else [tokenizer.end_id]
    paid = {}
    for name, model in rivals.items():
        (log_probs,) = token_log_probs(model, [[*start, *ids]], [max(1, len(start))])  # (T,), or without the first one
        padded = torch.cat([torch.zeros(len(ids) - len(log_probs)), log_probs])
        paid[name] = [-float(padded[list(tokens)].sum()) for tokens in places]
    return paid


def _token_spans(tokenizer: BPETokenizer | CharTokenizer, ids: list[int]) -> list[tuple[int, int]]:
    ends = [len(tokenizer.decode(ids[: t + 1])) for t in range(len(ids))]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _tokens_of(word: tuple[int, int], spans: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens that touch a word; with byte pairs the first of them holds the space before it."""
    return [t for t, (start, end) in enumerate(spans) if start < word[1] and end > word[0]]


def _entropy(p: Mapping[int, float]) -> float:
    return -math.fsum(x * math.log(x) for x in p.values() if x > 0)


def _spread(open_: Sequence[tuple[int, int]], decided: Sequence[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Half of the questions from words that were open, half from words that are decided, evenly over the text."""

    def evenly(words: Sequence[tuple[int, int]], k: int) -> list[tuple[int, int]]:
        k = min(k, len(words))
        return [words[(2 * i + 1) * len(words) // (2 * k)] for i in range(k)]

    settled = evenly(decided, n // 2)
    return sorted({*settled, *evenly(open_, n - len(settled))})


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.casefold()


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
