"""Templates become short programs: tuples of operations that a teller and a reader both walk through."""

from __future__ import annotations

import re
from typing import NamedTuple

from gptlib.tales.slots import Slot


class Text(NamedTuple):
    """Say these words."""

    text: str


class Say(NamedTuple):
    """Say a form of a slot's value; draw the value first if it has none yet. `mark` is what the words show, or ""."""

    slot: str
    form: str
    mark: str


class Expand(NamedTuple):
    """Go on with an alternative of a rule; with a `slot`, of the rule `rule:FORM OF ITS VALUE`."""

    rule: str
    slot: str = ""
    form: str = ""


class Settle(NamedTuple):
    """Give a slot a value without a word: a key of its value set, another slot's value, or their sum or difference."""

    slot: str
    first: str
    sign: str = ""
    second: str = ""


class Refer(NamedTuple):
    """What was said for `slot` meant the value of `target`."""

    slot: str
    target: str


Operation = Text | Say | Expand | Settle | Refer
Program = tuple[Operation, ...]

MARKS = {"recall", "cause", "reference", "sum", "speaker", "ending"}

# The forms of people that show something wherever they are spoken: a pronoun, agreement, a fact of the world.
FACTS = {"home": "home", "food": "food", "pet": "pet", "animal": "pet", "trade": "trade", "work": "trade"}
_OF_PEOPLE = {
    **dict.fromkeys(("he", "him", "his", "i", "me", "my"), "pronoun"),
    **dict.fromkeys(("was", "is", "am", "lives"), "agreement"),
    **dict.fromkeys(FACTS, "fact"),
}
_BRACKETS = re.compile(r"\{([^{}]*)\}|\[([^\[\]]*)\]")
_SETTLE = re.compile(r"(\w+)=(\w+)(?:([+-])(\w+))?")


def compile_template(template: str, slots: dict[str, Slot]) -> Program:
    """The operations of one template.

    Raises:
        ValueError: a slot or a kind of mark that does not exist.
    """
    program: list[Operation] = []
    end = 0
    for bracket in _BRACKETS.finditer(template):
        if bracket.start() > end:
            program.append(Text(template[end : bracket.start()]))
        end = bracket.end()
        said, rule = bracket.groups()
        program.append(_compile_rule(rule, slots) if said is None else _compile_said(said, slots))
    if end < len(template):
        program.append(Text(template[end:]))
    return tuple(program)


def _compile_rule(rule: str, slots: dict[str, Slot]) -> Operation:
    rule, _, said = rule.partition(":")
    return Expand(rule, *_slot_and_form(said, slots)) if said else Expand(rule)


def _compile_said(said: str, slots: dict[str, Slot]) -> Operation:
    if settle := _SETTLE.fullmatch(said):
        slot, first, sign, second = settle.groups()
        _known(slot, slots)
        return Settle(slot, first, sign or "", second or "")
    mark, _, said = said.rpartition(" ")
    if mark.startswith("refer "):
        return Refer(_known(mark.removeprefix("refer "), slots), _known(said, slots))
    if mark and mark not in MARKS:
        raise ValueError(f"{mark!r} in a template is no kind of mark; the kinds are {', '.join(sorted(MARKS))}")
    slot, form = _slot_and_form(said, slots)
    return Say(slot, form, mark or _own_mark(slots[slot], form.lower()))


def _own_mark(slot: Slot, form: str) -> str:
    if form == "one":
        return "agreement"
    return _OF_PEOPLE.get(form, "") if slot.values == "people" else ""


def _slot_and_form(said: str, slots: dict[str, Slot]) -> tuple[str, str]:
    slot, _, form = said.partition(".")
    name = slot[0].lower() + slot[1:]
    return _known(name, slots), "^" if name != slot else form


def _known(slot: str, slots: dict[str, Slot]) -> str:
    if slot not in slots:
        raise ValueError(f"{slot!r} in a template is no slot; the slots are {', '.join(sorted(slots))}")
    return slot
