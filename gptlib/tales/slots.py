"""The slots of the stories: what may fill each, and what it must fit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A place in a story that holds one value from its first mention to the end.

    Attributes:
        values: the set that it is drawn from ("people", "places", …).
        kind: what kind of choice drawing it is, for the account of where the entropy lies.
        differs: slots whose value it may not repeat.
        fits: a slot; the value's "of" must be that slot's value, or "any".
        low, high: for numbers, the range that it is drawn from.
        among: for a slot that names another slot's value, which ones: the alternatives are these.
    """

    values: str
    kind: str
    differs: tuple[str, ...] = ()
    fits: str | None = None
    low: int | None = None
    high: int | None = None
    among: tuple[str, ...] = ()


_CAST = ("hero", "pal", "friend")

SLOTS: dict[str, Slot] = {
    "hero": Slot("people", "people", among=_CAST),
    "pal": Slot("people", "people", differs=("hero",), among=_CAST),
    "friend": Slot("people", "people", differs=("hero", "pal"), among=_CAST),
    "culprit": Slot("people", "people", among=_CAST),
    "winner": Slot("people", "people", among=_CAST),
    "other": Slot("people", "people", among=_CAST),
    "stranger": Slot("strangers", "people"),
    "place": Slot("places", "places"),
    "water": Slot("waters", "places"),
    "barrier": Slot("barriers", "places"),
    "hide": Slot("hiding places", "places"),
    "look": Slot("hiding places", "places", differs=("hide",)),
    "thing": Slot("things", "things"),
    "colour": Slot("colours", "things"),
    "gift": Slot("gifts", "things"),
    "crop": Slot("crops", "things"),
    "fruit": Slot("crops", "things", differs=("crop",)),
    "find": Slot("finds", "things"),
    "animal": Slot("animals", "animals"),
    "baby": Slot("babies", "animals"),
    "petname": Slot("pet names", "names"),
    "trick": Slot("tricks", "plot"),
    "weather": Slot("weather", "plot"),
    "why": Slot("reasons", "reasons", fits="barrier"),
    "subject": Slot("animals", "reasons", among=("animal", "barrier")),
    "it": Slot("it", "wording"),
    "day": Slot("days", "times"),
    "season": Slot("seasons", "times"),
    "count": Slot("counts", "numbers"),
    "days": Slot("numbers", "numbers", low=2, high=5),
    "first": Slot("numbers", "numbers", low=3, high=8),
    "second": Slot("numbers", "numbers", low=3, high=8),
    "total": Slot("numbers", "numbers"),
    "given": Slot("numbers", "numbers", low=2, high=4),
    "left": Slot("numbers", "numbers"),
    "had": Slot("numbers", "numbers", low=7, high=12),
    "price": Slot("numbers", "numbers", low=2, high=5),
    "mood": Slot("moods", "outcome"),
}

# Pairs of slots for which the world leaves some combinations out, to test later whether an ability generalises.
HELD_OUT = (("hero", "place"), ("first", "second"))
