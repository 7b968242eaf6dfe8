"""From the data to a grammar: the value sets, the rules and the weights of one world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from gptlib.tales import things
from gptlib.tales.cast import Pairs, Person, spoken
from gptlib.tales.grammar import Grammar, Value
from gptlib.tales.plots import PLOTS
from gptlib.tales.scenes import FRAME, KINDS
from gptlib.tales.slots import SLOTS, Slot

WEIGHTS = 3  # in a drawn world a choice's weight is multiplied by a whole number from 1 to this

_SETS: dict[str, dict[str, things.Forms]] = {
    "places": things.PLACES, "waters": things.WATERS, "barriers": things.BARRIERS, "things": things.THINGS,
    "hiding places": things.HIDING_PLACES, "colours": things.COLOURS, "gifts": things.GIFTS, "crops": things.CROPS,
    "finds": things.FINDS, "animals": things.ANIMALS, "babies": things.BABIES, "pet names": things.PET_NAMES,
    "tricks": things.TRICKS, "weather": things.WEATHER, "reasons": things.REASONS, "days": things.DAYS,
    "seasons": things.SEASONS, "counts": things.COUNTS, "moods": things.MOODS, "strangers": things.STRANGERS,
    "it": {"it": {}},
}  # fmt: skip


def build_grammar(
    people: Sequence[Person],
    held_out: Mapping[tuple[str, str], Pairs],
    *,
    seed: int,
    plots: Sequence[str] | None = None,
    limit: int | None = None,
    everything: bool = False,
) -> Grammar:
    """The grammar of a world.

    Args:
        people: who lives in it.
        held_out: by pair of slots, the keys of values that never occur together.
        seed: of the weights; with 0 they are those of the data.
        plots: tell only these; None for all.
        limit: how much to keep of each value set, rule and range of numbers; None for all.
        everything: speak of all facts and combinations, also of those that the world never tells.

    Raises:
        ValueError: an unknown plot.
    """
    rng = Random(seed)

    def weight() -> int:
        return 1 + int(WEIGHTS * rng.random()) if seed else 1

    rules = {
        name: [(own * weight(), template) for own, template in alternatives]
        for name, alternatives in _rules(plots, limit).items()
    }
    values = {name: [Value(key, forms, weight()) for key, forms in entries.items()] for name, entries in _SETS.items()}
    values = {name: _limited(name, entries, limit) for name, entries in values.items()}
    values["people"] = [spoken(person, people, everything, weight()) for person in people]
    values["numbers"] = [Value(word, {}) for word in things.NUMBERS]
    left_out = {}
    if not everything:
        for (a, b), pairs in held_out.items():
            first = {value.key: value for value in values[SLOTS[a].values]}
            second = {value.key: value for value in values[SLOTS[b].values]}
            left_out[a, b] = {(first[x], second[y]) for x, y in pairs}
    slots = {name: _narrowed(slot, limit) for name, slot in SLOTS.items()}
    return Grammar(rules, slots, values, left_out, KINDS)


def _rules(plots: Sequence[str] | None, limit: int | None) -> dict[str, list[tuple[int, str]]]:
    rules = {
        name: [one if isinstance(one, tuple) else (1, one) for one in alternatives]
        for name, alternatives in {**FRAME, **PLOTS}.items()
    }
    known = [template[1:-1] for _, template in rules["plot"]]
    for plot in plots or ():
        if plot not in known:
            raise ValueError(f"plot {plot!r} is not told in this world; its plots are {', '.join(known)}")
    told = [(weight, template) for weight, template in rules["plot"] if template[1:-1] in (plots or known)]
    return {**{name: alternatives[:limit] for name, alternatives in rules.items()}, "plot": told}


def _limited(name: str, values: list[Value], limit: int | None) -> list[Value]:
    if name in ("moods", "barriers"):  # templates and reasons name them one by one
        return values
    if name == "reasons":
        groups = dict.fromkeys(value["of"] for value in values)
        return [value for group in groups for value in [v for v in values if v["of"] == group][:limit]]
    return values[:limit]


def _narrowed(slot: Slot, limit: int | None) -> Slot:
    if slot.low is None or slot.high is None or limit is None:
        return slot
    return replace(slot, high=min(slot.high, slot.low + limit - 1))
