"""A world: its people and facts, its grammar, and the stories it tells."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from gptlib.tales import things
from gptlib.tales.build import build_grammar
from gptlib.tales.cast import Pairs, draw_held_out, draw_people
from gptlib.tales.exact import Floor, Tokenizer, Truth, entropy
from gptlib.tales.grammar import Grammar, Table, Telling
from gptlib.tales.reader import derivations, longest_beginning
from gptlib.tales.slots import HELD_OUT, SLOTS
from gptlib.tales.story import Story, story_of
from gptlib.tales.templates import FACTS

# Torch takes seconds to import, and telling stories does not need it.
if TYPE_CHECKING:
    from torch import Tensor, nn

    from gptlib.tales.ability import Abilities
    from gptlib.tales.scoring import Evaluation

SPLITS = ("train", "validation", "test")
PROBES = ("place", "sum", "fact")  # the first ones in the order of HELD_OUT


class World:
    """A story world whose every story has a known probability.

    `World()` is the world of the course. Any other seed renames the people and draws their facts, what is never told,
    what is held out, and all probabilities anew: a language of one's own, with its own exact floor.

    Args:
        seed: which world; 0 is the default one.
        plots: tell only these (names as in `scenes.FRAME["plot"]`: "lost", "promise", …).
        limit: keep only the first so many values of each set and alternatives of each rule, for a world small enough to
            enumerate.

    Raises:
        ValueError: a negative seed, an unknown plot, or a limit below 2.
    """

    def __init__(self, seed: int = 0, *, plots: Sequence[str] | None = None, limit: int | None = None) -> None:
        if seed < 0:
            raise ValueError(f"seed={seed} is negative; use 0 for the default world or any larger whole number")
        if limit is not None and limit < 2:
            raise ValueError(f"limit={limit} leaves nothing to choose; use 2 or more, or None for the whole world")
        self.seed = seed
        rng = Random(seed)
        self.people = draw_people(rng if seed else None)[: None if limit is None else max(3, limit)]
        places, sums = list(things.PLACES)[:limit], SLOTS["first"]
        held_out = draw_held_out(self.people, places, sums.low or 0, sums.high or 0, rng)
        self.held_out = dict(zip(HELD_OUT, held_out, strict=True))
        self._build = partial(build_grammar, self.people, self.held_out, seed=seed, plots=plots, limit=limit)
        self.grammar = self._build(everything=False)

    def sample(self, seed: int, n: int) -> list[Story]:
        """The first `n` stories of the stream `seed`; `sample(0, 10)` begins `sample(0, 20)`."""
        if n < 0:
            raise ValueError(f"n={n} is negative; ask for 0 or more stories")
        return list(islice(self.stories(seed), n))

    def stories(self, seed: int, split: str | None = None) -> Iterator[Story]:
        """Stories without end, the same for the same seed on every platform; only those of `split` when one is named.

        Which split a story belongs to follows from its text (its CRC-32), so that train, validation and test never
        share a story: 90 %, 5 % and 5 % of all.

        Raises:
            ValueError: a negative seed or an unknown split.
        """
        if seed < 0:
            raise ValueError(f"seed={seed} is negative; use 0 or any larger whole number")
        if split is not None and split not in SPLITS:
            raise ValueError(f"split={split!r} is none of {', '.join(SPLITS)}")
        return self._stories(seed, split)

    def _stories(self, seed: int, split: str | None) -> Iterator[Story]:
        choose = _drawn(Random(seed))
        while True:
            telling = self.grammar.tell(choose)
            if split is None or split_of("".join(telling.parts)) == split:
                yield story_of(self.grammar, telling)

    def split(self, name: str, n: int, seed: int = 0) -> list[Story]:
        """The first `n` stories of the stream `seed` that belong to the split "train", "validation" or "test"."""
        return list(islice(self.stories(seed, name), n))

    def log_prob(self, text: str) -> float:
        """The log-probability of a whole story in nats, from its text alone; −inf for any other text."""
        found = derivations(self.grammar, text)
        return found[0][0] if found else -math.inf

    def parse(self, text: str) -> Story:
        """The story that `text` is, with its log-probability and marks.

        Raises:
            ValueError: the text is no story of this world; the message says up to where it could have been.
        """
        found = derivations(self.grammar, text)
        if not found:
            end = longest_beginning(self.grammar, text)
            raise ValueError(f"this is no story of the world: nothing goes on with {text[end : end + 20]!r} after "
                             f"{text[max(0, end - 30) : end]!r}; log_prob gives -inf for such a text")  # fmt: skip
        if len(found) > 1:
            raise RuntimeError(f"the grammar is ambiguous: {len(found)} derivations of {text!r}")
        choices = iter(found[0][1])
        return story_of(self.grammar, self.grammar.tell(lambda _: next(choices)))

    def probes(self, seed: int, n: int, about: str | None = None) -> list[Story]:
        """Stories that this world never tells, to see what a model makes of them.

        Their marks say which words are "held out" or "untold"; their log-probability is −inf.

        Args:
            seed: of the stream of probes.
            n: how many.
            about: what they hold that the world leaves out: a "place" where somebody never goes, a "sum" of two numbers
                that are never added, a "fact" that is never told; None for any of them.
        """
        if about not in (None, *PROBES):
            raise ValueError(f"about={about!r} is none of {', '.join(PROBES)}")
        return list(islice(self._probes(seed, about), n))

    def _probes(self, seed: int, about: str | None) -> Iterator[Story]:
        choose = _drawn(Random(seed))
        hidden = {(person.name, fact) for person in self.people for fact in person.never_told}
        while True:
            telling = self._open_grammar.tell(choose)
            statuses, news = _statuses(telling, self.held_out, hidden)
            if about in news if about else news:
                yield story_of(self._open_grammar, telling, statuses)

    def entropy(self, tokenizer: Tokenizer, *, n: int = 10_000, seed: int = 0) -> Floor:
        """The floor: the entropy of this world in nats per story, per token and per character, with standard errors.

        Args:
            tokenizer: what cuts stories into tokens.
            n: how many stories it is estimated from; at least 2.
            seed: of these stories.
        """
        if n < 2:
            raise ValueError(f"n={n} stories give no standard error; use 2 or more")
        return entropy(tokenizer, self.sample(seed, n))

    def truth(self, tokenizer: Tokenizer) -> Truth:
        """The true next-token distribution of this world, for many questions with the same tokenizer."""
        return Truth(self.grammar, tokenizer)

    def next_token_distribution(self, tokenizer: Tokenizer, ids: Sequence[int] | Tensor) -> Tensor:
        """The true distribution of the next token after the beginning of a story, exactly.

        Args:
            tokenizer: what cuts stories into tokens.
            ids: the beginning; after an end mark, or with no ids, the next token begins a story.

        Returns:
            Probabilities (V,), float64.

        Raises:
            ValueError: no story of this world begins like this.
        """
        import torch

        true = self.truth(tokenizer).after([int(token) for token in ids])
        probabilities = torch.zeros(tokenizer.vocab_size, dtype=torch.float64)
        probabilities[list(true)] = torch.tensor(list(true.values()), dtype=torch.float64)
        return probabilities

    def evaluate(self, model: nn.Module, tokenizer: Tokenizer, stories: Sequence[Story] | None = None) -> Evaluation:
        """A model's mean nats per token, beside the floor of the same stories; without `stories`, on 500 test stories.

        The model is called as `logits, _ = model(ids)`. It reads the end mark and then the story; every token of the
        story and the end mark after it are counted.
        """
        from gptlib.tales.scoring import evaluate

        return evaluate(model, tokenizer, self.split("test", 500) if stories is None else stories)

    def abilities(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        max_stories: int = 200,
        per_kind: int = 100,
        kl_stories: int = 50,
        seed: int = 1,
    ) -> Abilities:
        """What a model can do: how often it prefers the right words to wrong ones, for each kind of mark.

        At a mark the model is given the story so far, and the log-probabilities of the right words and of up to seven
        wrong alternatives are compared, each to the end of its last word. Test stories give the marks that are "seen",
        probes those that are "held out" or "untold"; no text says an untold fact, so chance is all that can be hoped.

        Args:
            model: called as `logits, _ = model(ids)`.
            tokenizer: the model's tokenizer.
            max_stories: how many test stories to read at most, and half as many probes of each kind.
            per_kind: how many marks to score of each kind and status.
            kl_stories: in how many test stories to measure the divergence from the true distribution.
            seed: of the stories.
        """
        from gptlib.tales.ability import abilities

        stories = self._ability_stories(seed, max_stories)
        return abilities(model, tokenizer, stories, self.truth(tokenizer), per_kind=per_kind, kl_stories=kl_stories)

    def tracker(
        self, tokenizer: Tokenizer, *, max_stories: int = 60, per_kind: int = 30, seed: int = 1
    ) -> Callable[[nn.Module], dict[str, float]]:
        """A function that scores a model's abilities, cheap enough to be called during training.

        `train(…, measure=world.tracker(tokenizer))` writes them to the run's log as they rise.

        Args:
            tokenizer: the model's tokenizer.
            max_stories: as for `abilities`, and so are the next two.
            per_kind: how many marks to score of each kind and status.
            seed: of the stories, which are told once and kept.

        Returns:
            From a model to the accuracy and mean log-probability in nats of each ability: "recall accuracy",
            "recall log_prob", "sum accuracy (held out)", …
        """
        from gptlib.tales.ability import abilities

        stories, truth = self._ability_stories(seed, max_stories), self.truth(tokenizer)

        def measure(model: nn.Module) -> dict[str, float]:
            scores: dict[str, float] = {}
            for row in abilities(model, tokenizer, stories, truth, per_kind=per_kind, kl_stories=0).rows:
                status = "" if row.status == "seen" else f" ({row.status})"
                scores[f"{row.kind} accuracy{status}"] = round(row.accuracy, 4)
                scores[f"{row.kind} log_prob{status}"] = round(row.log_prob, 4)
            return scores

        return measure

    def _ability_stories(self, seed: int, max_stories: int) -> list[Story]:
        probes = [story for about in PROBES for story in self.probes(seed, max_stories // 2, about)]
        return [*self.split("test", max_stories, seed), *probes]

    @cached_property
    def _open_grammar(self) -> Grammar:
        return self._build(everything=True)


def split_of(text: str) -> str:
    """The split that a story belongs to: "train", "validation" or "test"."""
    return {0: "validation", 1: "test"}.get(zlib.crc32(text.encode()) % 20, "train")


def _drawn(rng: Random) -> Callable[[Table], int]:
    # Of Random, only random() is promised to stay the same in every Python version.
    def choose(table: Table) -> int:
        return bisect_right(table[1], rng.random() * table[1][-1])

    return choose


def _statuses(
    telling: Telling, held_out: dict[tuple[str, str], Pairs], hidden: set[tuple[str, str]]
) -> tuple[list[str], set[str]]:
    """The status of each note, and what is new in the story: some of `PROBES`."""
    keys = {slot: value.key for slot, value in telling.env.items()}
    news = {
        name
        for name, pair in zip(PROBES, HELD_OUT, strict=False)
        if (keys.get(pair[0]), keys.get(pair[1])) in held_out[pair]
    }
    statuses = []
    for note in telling.notes:
        if note.kind == "fact":
            status = "untold" if (note.value.key, FACTS[note.form.lower()]) in hidden else "seen"
        elif note.kind == "sum":
            status = "held out" if note.slot == "total" and "sum" in news else "seen"
        else:
            status = "held out" if "place" in news and note.part > telling.said["place"][0] else "seen"
        statuses.append(status)
    return statuses, news | ({"fact"} if "untold" in statuses else set())
