"""One grammar, two walks: tell a story by drawing at each choice, read a story by following its words.

Every choice is a `Table` of weighted items. Which table applies depends only on what has been said so far, so a story's
probability is the product of its choices' probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

from gptlib.tales.slots import Slot
from gptlib.tales.templates import Expand, Program, Say, Settle, Text, compile_template


class Value(dict[str, str]):
    """Something that a slot can hold: its forms by name ("" as usual, "^" the same with a capital), a key, a weight."""

    def __init__(self, key: str, forms: dict[str, str], weight: int = 1) -> None:
        super().__init__()
        forms = {"": key, **forms}
        for name, text in forms.items():
            self[name] = text
            self[name[:1].upper() + name[1:] if name else "^"] = text[:1].upper() + text[1:]
        self.key = key
        self.weight = weight
        self.others: dict[
            str, tuple[str, ...]
        ] = {}  # by form: what else could be said there, where the set does not tell

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


Env = dict[str, Value]
Path = Any  # the choices taken so far, newest first: (index, (index, … None))
Frame = Any  # what is still to be said: (program, position, (program, position, … None))


class Table(NamedTuple):
    """The items of one choice: `cumulative` weights, and for each item its kind of choice and log-probability."""

    items: list[Any]
    cumulative: list[int]
    steps: list[tuple[str, float]]


class Note(NamedTuple):
    """A mark in the making, counted in parts instead of characters."""

    kind: str
    slot: str
    form: str
    value: Value
    part: int
    antecedent: tuple[int, int] | None


class Telling(NamedTuple):
    """A story as it was told: parts, choices, notes on the way, what the slots hold, in which parts that was said."""

    parts: list[str]
    steps: list[tuple[str, float]]
    notes: list[Note]
    env: Env
    said: dict[str, tuple[int, int]]


class State(NamedTuple):
    """A derivation that fits the words so far: words already bound to come, what is still to be said, what is known."""

    pending: str
    frame: Frame
    env: Env
    log_prob: float
    path: Path


class Grammar:
    """Rules and value sets, compiled.

    Args:
        rules: by name, the alternatives as (weight, template).
        slots: by name.
        values: the value sets by name.
        left_out: by pair of slots, the pairs of values that never occur together in a story.
        kinds: what kind of choice a rule is; "wording" where not named.
    """

    def __init__(
        self,
        rules: dict[str, list[tuple[int, str]]],
        slots: dict[str, Slot],
        values: dict[str, list[Value]],
        left_out: dict[tuple[str, str], set[tuple[Value, Value]]],
        kinds: dict[str, str],
    ) -> None:
        self.slots, self.values, self.left_out = slots, values, left_out
        self._kinds = kinds
        self._rules = {
            name: [(weight, compile_template(template, slots)) for weight, template in alternatives]
            for name, alternatives in rules.items()
        }
        self._partial = {name: _partial_forms(values.get(slot.values, [])) for name, slot in slots.items()}
        self._rule_context = {
            name: tuple(sorted({slot for _, program in alternatives for slot, _ in self._needs(program)}))
            for name, alternatives in self._rules.items()
        }
        self._slot_context = {name: self._context_of(name, slot) for name, slot in slots.items()}
        self._drawing: dict[tuple[Any, ...], Table] = {}
        self._choosing: dict[tuple[Any, ...], Table] = {}
        # What would be wrong in place of a marked word, once it has been found.
        self.wrong: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def start(self) -> State:
        """The state before the first word."""
        return State("", (((Expand("story")),), 0, None), {}, 0.0, None)

    def tell(self, choose: Callable[[Table], int]) -> Telling:
        """Tell one story, asking `choose` for the index at every choice between two or more items."""
        env: Env = {}
        said: dict[str, tuple[int, int]] = {}  # the parts in which a slot's value was said, or from which it follows
        named: dict[Value, int] = {}  # the part in which a value was last called by its name
        parts: list[str] = []
        steps: list[tuple[str, float]] = []
        notes: list[Note] = []
        todo: list[Any] = [Expand("story")]
        # A story takes a hundred rounds of this loop: fields by number and types by identity make it twice as fast.
        while todo:
            op = todo.pop()
            kind = type(op)
            if kind is Text:
                parts.append(op[0])
            elif kind is Say:
                slot, form, mark = op
                value = env.get(slot)
                fresh = value is None
                if value is None:
                    table = self.draws(slot, env)
                    index = 0
                    if len(table[0]) > 1:
                        index = choose(table)
                        steps.append(table[2][index])
                    env[slot] = value = table[0][index]
                    said[slot] = (len(parts), len(parts))
                if mark and (mark == "agreement" or not fresh):
                    of_person = mark in ("pronoun", "fact", "speaker", "agreement")
                    where = named.get(value) if of_person else None
                    span = said[slot] if not of_person else None if where is None else (where, where)
                    notes.append(Note(mark, slot, form, value, len(parts), span))
                if form == "" or form == "^":
                    named[value] = len(parts)
                parts.append(value[form])
            elif kind is Expand:
                table = self.alternatives(op, env)
                index = 0
                if len(table[0]) > 1:
                    index = choose(table)
                    steps.append(table[2][index])
                todo.extend(reversed(table[0][index]))
            elif kind is Settle:
                slot = op[0]
                env[slot] = self.settled(op, env)
                sources = [said[name] for name in (op[1], op[3]) if name in said]
                here = (len(parts), len(parts))
                said[slot] = (min(s[0] for s in sources), max(s[1] for s in sources)) if sources else here
            else:
                part = said[op[0]][0]
                notes.append(Note("pronoun", op[0], "", env[op[1]], part, said[op[1]]))
        return Telling(parts, steps, notes, env, said)

    def draws(self, slot: str, env: Env) -> Table:
        """The values that `slot` may take now."""
        key = (slot, *[env.get(name) for name in self._slot_context[slot]])
        table = self._drawing.get(key)
        if table is None:
            values = self.fitting(slot, env)
            table = self._drawing[key] = _table(values, [v.weight for v in values], self.slots[slot].kind, slot)
        return table

    def fitting(self, slot: str, env: Env) -> list[Value]:
        """The values that `slot` may take beside what the other slots hold."""
        rule = self.slots[slot]
        taken = [env[name] for name in rule.differs if name in env]
        values = [v for v in self.values[rule.values] if v not in taken]
        if rule.low is not None and rule.high is not None:
            values = self.values[rule.values][rule.low : rule.high + 1]
        if rule.fits:
            values = [v for v in values if v["of"] in ("any", env[rule.fits].key)]
        for (a, b), pairs in self.left_out.items():
            if slot == b and a in env:
                values = [v for v in values if (env[a], v) not in pairs]
            elif slot == a and b in env:
                values = [v for v in values if (v, env[b]) not in pairs]
        return values

    def alternatives(self, op: Expand, env: Env) -> Table:
        """The alternatives of a rule that are open now: those whose facts are told of the people they speak of."""
        rule = f"{op.rule}:{env[op.slot][op.form]}" if op.slot else op.rule
        key = (rule, *[env.get(name) for name in self._rule_context[rule]])
        table = self._choosing.get(key)
        if table is None:
            programs = [
                (weight, program)
                for weight, program in self._rules[rule]
                if all(slot in env and form in env[slot] for slot, form in self._needs(program))
            ]
            weights = [weight for weight, _ in programs]
            table = _table([program for _, program in programs], weights, self._kinds.get(rule, "wording"), rule)
            self._choosing[key] = table
        return table

    def settled(self, op: Settle, env: Env) -> Value:
        """The value that a slot gets without a word."""
        if op.sign:
            numbers = self.values["numbers"]
            first, second = numbers.index(env[op.first]), numbers.index(env[op.second])
            return numbers[first + second if op.sign == "+" else first - second]
        if op.first in env:
            return env[op.first]
        return next(v for v in self.values[self.slots[op.slot].values] if v.key == op.first)

    def _needs(self, program: Program) -> set[tuple[str, str]]:
        return {(op.slot, op.form) for op in program if isinstance(op, Say) and op.form in self._partial[op.slot]}

    def _context_of(self, name: str, slot: Slot) -> tuple[str, ...]:
        partners = {b if a == name else a for a, b in self.left_out if name in (a, b)}
        return tuple(sorted({*slot.differs, *partners, *([slot.fits] if slot.fits else [])}))


def _partial_forms(values: list[Value]) -> set[str]:
    every = {form for value in values for form in value}
    return {form for form in every if any(form not in value for value in values)}


def _table(items: list[Any], weights: list[int], kind: str, name: str) -> Table:
    if not items:
        raise ValueError(f"nothing is open at {name!r}; add an alternative that needs no fact")
    total = sum(weights)
    return Table(items, list(accumulate(weights)), [(kind, math.log(weight / total)) for weight in weights])
