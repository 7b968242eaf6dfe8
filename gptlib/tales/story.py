"""A story with what is known about it: its exact log-probability, and marks at the words that show something."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from gptlib.tales.grammar import Env, Grammar, Note, Telling

Span = tuple[int, int]


class Mark(NamedTuple):
    """Words that the text so far, or the world, decides.

    Attributes:
        kind: "pronoun", "agreement", "fact" (of the world), "recall" (from the story), "cause", "reference" (decided by
            an adjective), "sum", "speaker" or "ending".
        start, end: the words are `story.text[start:end]`.
        antecedent: the span in which it was said or on which it depends, or None.
        text: the words themselves.
        alternatives: what would be wrong here; empty where only the antecedent is of interest.
        status: "seen"; in probes also "held out" (a combination that the world leaves out) or "untold" (a fact that no
            story tells).
    """

    kind: str
    start: int
    end: int
    antecedent: Span | None
    text: str
    alternatives: tuple[str, ...]
    status: str = "seen"


@dataclass(frozen=True)
class Story:
    """One story.

    Attributes:
        text: the story, one paragraph.
        log_prob: the exact log-probability of the text in nats; −inf for a probe that the world itself never tells.
        marks: in order of their start.
        choices: for every choice, what kind it was and its log-probability; they add up to `log_prob`.
    """

    text: str
    log_prob: float
    marks: tuple[Mark, ...] = field(repr=False)
    choices: tuple[tuple[str, float], ...] = field(repr=False)


def story_of(grammar: Grammar, telling: Telling, statuses: list[str] | None = None) -> Story:
    """The story that was told, its parts joined and its notes turned into marks; with a status for each, a probe."""
    ends = list(accumulate(map(len, telling.parts), initial=0))
    marks = []
    for i, note in enumerate(telling.notes):
        part, span = note.part, note.antecedent
        antecedent = (ends[span[0]], ends[span[1] + 1]) if span is not None else None
        wrong = _alternatives(grammar, note, telling.env)
        status = statuses[i] if statuses else "seen"
        marks.append(Mark(note.kind, ends[part], ends[part + 1], antecedent, telling.parts[part], wrong, status))
    marks.sort(key=_start)
    text = "".join(telling.parts)
    if statuses:
        return Story(text, -math.inf, tuple(marks), ())
    # One after the other, as the reader adds them, so that both come to the same number to the last bit.
    log_prob = 0.0
    for _, step in telling.steps:
        log_prob += step
    return Story(text, log_prob, tuple(marks), tuple(telling.steps))


def _start(mark: Mark) -> int:
    return mark.start


def _alternatives(grammar: Grammar, note: Note, env: Env) -> tuple[str, ...]:
    slot, form, value = grammar.slots[note.slot], note.form, note.value
    if note.kind == "pronoun" and not form:
        return ()
    if form in value.others:
        return value.others[form]
    if slot.among and form in ("", "^"):
        return tuple(env[name][form] for name in slot.among if name in env and env[name] is not value)
    key = (note.kind, note.slot, form, value, env[slot.fits] if slot.fits else None)
    wrong = grammar.wrong.get(key)
    if wrong is None:
        wrong = grammar.wrong[key] = _wrong(grammar, note, env)
    return wrong


def _wrong(grammar: Grammar, note: Note, env: Env) -> tuple[str, ...]:
    slot, form, value = grammar.slots[note.slot], note.form, note.value
    if note.kind == "agreement" and form.lower() == "one":
        article, _, rest = value[form].partition(" ")
        return (f"{article[:-1] if article.lower() == 'an' else article + 'n'} {rest}",)
    values = grammar.fitting(note.slot, {name: env[name] for name in env if name == slot.fits})
    if note.kind == "reference":
        values = [other for other in values if other["side"] != value["side"]]
    texts = dict.fromkeys(other[form] for other in values if form in other)
    return tuple(text for text in texts if text != value[form])
