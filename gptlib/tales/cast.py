"""Casting a world: who its people are, which of their facts are told, and which combinations are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from gptlib.tales import people as folk
from gptlib.tales.grammar import Value
from gptlib.tales.templates import FACTS
from gptlib.tales.things import NUMBERS

T = TypeVar("T")

FACT_KINDS = ("home", "food", "pet", "trade")


@dataclass(frozen=True)
class Person:
    """Somebody (or a pair) of the world.

    Attributes:
        name: as stories say it.
        pronoun: "she", "he" or "they" (a pair).
        facts: "home", "food", "pet" and "trade", told or not.
        never_told: the facts among them that no story ever tells.
    """

    name: str
    pronoun: str
    facts: dict[str, str]
    never_told: frozenset[str]


def draw_people(rng: Random | None) -> list[Person]:
    """The people of a world: those of the default world without a `rng`, else new names, facts and untold facts."""
    rows = [(name, pronoun, dict(zip(FACT_KINDS, facts, strict=True))) for name, pronoun, *facts in folk.PEOPLE]
    hidden = folk.NEVER_TOLD
    if rng:
        names = {pronoun: shuffled(pool, rng) for pronoun, pool in folk.NAMES.items()}
        columns = {kind: shuffled([facts[kind] for _, _, facts in rows], rng) for kind in FACT_KINDS}
        rows = [
            (names[pronoun].pop(), pronoun, {kind: columns[kind][i] for kind in FACT_KINDS})
            for i, (_, pronoun, _) in enumerate(rows)
        ]
        silent = shuffled(rows, rng)[: len(hidden)]
        hidden = {(name, FACT_KINDS[int(len(FACT_KINDS) * rng.random())]) for name, _, _ in silent}
        for name, _, facts in rows:
            for kind in FACT_KINDS:
                if (name, kind) in hidden:
                    told = [others[kind] for other, _, others in rows if (other, kind) not in hidden]
                    facts[kind] = told[int(len(told) * rng.random())]
    return [
        Person(name, pronoun, facts, frozenset(kind for kind in FACT_KINDS if (name, kind) in hidden))
        for name, pronoun, facts in rows
    ]


Pairs = frozenset[tuple[str, str]]


def draw_held_out(people: Sequence[Person], places: Sequence[str], low: int, high: int, rng: Random) -> list[Pairs]:
    """What the world leaves out: one place for each person, and one number to add to each number, in either order.

    Args:
        people: of the world.
        places: of the world.
        low: the smallest number that is added to another.
        high: the largest one; from low to high there must be an even number of numbers.
        rng: to draw with.
    """
    person_place = frozenset((person.name, places[int(len(places) * rng.random())]) for person in people)
    while True:
        numbers = shuffled(list(range(low, high + 1)), rng)
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        totals = {a + b for a, b in pairs}
        # One pair alone makes the second smallest total, and one the second largest: they stay, so that all occur.
        if not totals & {2 * low + 1, 2 * high - 1}:
            break
    words = [(NUMBERS[a], NUMBERS[b]) for a, b in pairs]
    return [person_place, frozenset(words + [(b, a) for a, b in words])]


def spoken(person: Person, people: Sequence[Person], everything: bool, weight: int) -> Value:
    """A person as a value of a slot: with `everything`, all facts can be spoken of; else only those that are told."""
    forms = fact_forms(person.facts, person.pronoun == "they")
    told = {form: text for form, text in forms.items() if everything or FACTS[form] not in person.never_told}
    value = Value(person.name, {**folk.FORMS[person.pronoun], **told}, weight)
    for form in told:
        texts = [fact_forms(other.facts, person.pronoun == "they")[form] for other in people]
        wrong = tuple(dict.fromkeys(text for text in texts if text != forms[form]))
        value.others[form] = wrong
        value.others[form.capitalize()] = tuple(text[:1].upper() + text[1:] for text in wrong)
    return value


def fact_forms(facts: dict[str, str], plural: bool) -> dict[str, str]:
    """How each fact is worded, by the forms in which templates ask for it."""
    pet, trade = facts["pet"], facts["trade"]
    return {
        "home": facts["home"],
        "food": facts["food"],
        "pet": folk.PETS[pet],
        "animal": pet,
        "trade": trade + "s" if plural else f"a {trade}",
        "work": folk.TRADES[trade],
    }


def shuffled(items: list[T], rng: Random) -> list[T]:
    """A shuffled copy, by `rng.random()` alone: of `Random`, only that is promised to stay the same in every Python."""
    items = list(items)
    for last in range(len(items) - 1, 0, -1):
        other = int((last + 1) * rng.random())
        items[last], items[other] = items[other], items[last]
    return items
