"""Windows drawn from a long text, and the targets that belong to them."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property
from gptlib.checks.probing import Answer, Arrays, Given, Odd, afterwards, copies, parts, tensor

ROWS = 800  # windows in a batch: enough to tell how they are drawn


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(N: int, length: int, note: str = "") -> Case:
        ids = torch.from_numpy(rng.permutation(np.arange(10, 10 + N)))  # no token twice, so a window tells its start
        return Case({"ids": ids, "batch_size": ROWS, "length": length, "seed": int(rng.integers(10_000))}, note)

    T = int(rng.integers(3, 6))
    return [
        case(5, 4, "a text with room for one window only"),
        case(6, 4, "a text with room for two windows"),
        case(7, 2),
        case(T + int(rng.integers(3, 5)), T),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)

    def call(seed: int) -> Arrays:
        generator = torch.Generator().manual_seed(seed)
        value = answer(own["ids"], own["batch_size"], own["length"], generator)
        return parts(value, tensor, "x", "y")

    first, again, other = call(own["seed"]), call(own["seed"]), call(own["seed"] + 1)
    x, y = (
        Odd(f"a tensor of shape {tuple(each.shape)}")
        if isinstance(each, torch.Tensor) and each.shape[:1] != (own["batch_size"],)
        else each
        for each in first.values()
    )
    odd = x if isinstance(x, Odd) else Odd("nothing, since x and y do not go together")
    found: Arrays = {
        "draws.x": x,
        "draws.y": y,
        "draws.1000 x + y": odd,
        "draws.1000 first + last of x": odd,
        "draws.x minus that of another seed": odd,
    }
    if isinstance(x, torch.Tensor) and x.dim() == 2:
        found["draws.1000 first + last of x"] = 1000 * x[:, 0] + x[:, -1]
        if isinstance(y, torch.Tensor) and y.numel() in (len(x), x.numel()):
            found["draws.1000 x + y"] = 1000 * x + y.reshape(len(x), -1)
        for name, value in (
            ("draws.x minus that of another seed", other["x"]),
            ("repeated.x minus that of the same seed", again["x"]),
        ):
            if isinstance(value, torch.Tensor) and value.shape == x.shape:
                found[name] = x - value
    return found | afterwards(own)


def _build(
    *,
    target: str = "next",
    starts: str = "all",
    drawn: str = "each row",
    source: str = "generator",
    order: str = "x, y",
    window: str = "whole",
) -> Answer:
    def batches(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
        B, T = batch_size, length
        last = {"not the last": len(ids) - T - 2, "one too many": len(ids) - T}.get(starts, len(ids) - T - 1)
        T = T - 1 if window == "one short" else T
        shape = {"each row": (B, 1), "once": (1, 1), "each token": (B, T)}[drawn]
        begin = torch.randint(max(last, 0) + 1, shape, generator=generator if source == "generator" else None)
        if starts == "on a grid":
            begin = begin // T * T
        if source == "in order":
            begin = torch.arange(B)[:, None] % (last + 1)  # (B, 1)
        places = begin + torch.arange(T)  # (B, T)
        x = ids[places].expand(B, T)
        y = {
            "next": lambda: ids[places + 1],
            "the same": lambda: ids[places],
            "two on": lambda: ids[(places + 2).clamp(max=len(ids) - 1)],
            "before": lambda: ids[places - 1],
            "rolled": lambda: x.roll(-1, 1),
            "drawn anew": lambda: ids[torch.randint(last + 1, (B, 1), generator=generator) + torch.arange(1, T + 1)],
            "one each": lambda: ids[places[:, -1:] + 1],
        }[target]()
        y = y if target == "one each" else y.expand(B, T)
        return (x, y) if order == "x, y" else (y, x)

    return batches


def _one_target(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    starts = torch.randint(len(ids) - length, (batch_size,), generator=generator)
    return ids[starts[:, None] + torch.arange(length)], ids[starts + length]


def _cut_from_length(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    starts = torch.randint(len(ids) - length + 1, (batch_size,), generator=generator)
    windows = ids[starts[:, None] + torch.arange(length)]  # (B, T)
    return windows[:, :-1], windows[:, 1:]


def _a_piece(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    pieces = (len(ids) - 1) // length
    starts = torch.randint(pieces, (batch_size,), generator=generator) * length
    places = starts[:, None] + torch.arange(length)
    return ids[places], ids[places + 1]


def _by_loop(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    starts = torch.randint(len(ids) - length, (batch_size,), generator=generator).tolist()
    x = torch.stack([ids[s : s + length] for s in starts])
    y = torch.stack([ids[s + 1 : s + 1 + length] for s in starts])
    return x, y


def _by_unfold(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    windows = ids.unfold(0, length + 1, 1)  # (N - T, T + 1): all that there are
    chosen = windows[torch.randint(len(windows), (batch_size,), generator=generator)]  # (B, T + 1)
    return chosen[:, :-1], chosen[:, 1:]


def _by_multinomial(ids: torch.Tensor, batch_size: int, length: int, generator: torch.Generator) -> Any:
    even = torch.ones(len(ids) - length)
    starts = torch.multinomial(even, batch_size, replacement=True, generator=generator)
    return tuple(
        torch.gather(ids.expand(batch_size, -1), 1, starts[:, None] + torch.arange(i, i + length)) for i in (0, 1)
    )


def _one_later(case: Case, got: dict[str, Any]) -> bool:
    ids = case.given["ids"]
    assert isinstance(ids, torch.Tensor)
    place = {token: t for t, token in enumerate(ids.tolist())}
    pairs = zip(got["draws.x"].flatten().tolist(), got["draws.y"].flatten().tolist(), strict=True)
    return all(x in place and y in place and place[y] == place[x] + 1 for x, y in set(pairs))


def _all_windows(case: Case, got: dict[str, Any]) -> bool:
    ids, length = case.given["ids"], case.given["length"]
    assert isinstance(ids, torch.Tensor)
    assert isinstance(length, int)
    wanted = {tuple(ids[s : s + length].tolist()) for s in range(len(ids) - length)}
    return {tuple(row) for row in got["draws.x"].tolist()} == wanted


def _by_generator(case: Case, got: dict[str, Any]) -> bool:
    ids, length = case.given["ids"], case.given["length"]
    assert isinstance(ids, torch.Tensor)
    assert isinstance(length, int)
    return not got["repeated.x minus that of the same seed"].any() and (
        bool(got["draws.x minus that of another seed"].any()) or len(ids) == length + 1
    )


EXERCISE = Exercise(
    id="training.batches",
    title="Windows and their targets",
    minutes=8,
    points=3,
    signature="batches(ids, batch_size, length, generator)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loop, _by_unfold, _by_multinomial),
    misconceptions=(
        Misconception(
            "the target is the input",
            "Your y is x itself. A model that sees the token it must name learns to copy it, and the loss falls to 0: "
            "the target at each place is the token one later.",
            changes={"target": "the same"},
        ),
        Misconception(
            "shifted by two",
            "Your y is two tokens later than x, so the model would learn to skip a word. The target is the very next "
            "token: shift once.",
            changes={"target": "two on"},
        ),
        Misconception(
            "shifted backwards",
            "Your y is one token earlier than x: that predicts the past, which the model has seen. ids[s + 1 : ...] "
            "are the targets of ids[s : ...].",
            changes={"target": "before"},
        ),
        Misconception(
            "rolled inside the window",
            "You roll the window, so that the last target of a row is its own first token. The last target is the "
            "token after the window: take length + 1 tokens, then cut off one at either end.",
            changes={"target": "rolled"},
        ),
        Misconception(
            "one target a row",
            "You give each row one target, the token after the window. Every position has a target of its own: y is "
            "as long as x.",
            changes={"target": "one each"},
            also=(_one_target,),
        ),
        Misconception(
            "windows one short",
            "Your rows are one token short: you draw length tokens, and cut one off either end for x and y. Draw "
            "length + 1 tokens, so that length targets come of them.",
            changes={"window": "one short"},
            also=(_cut_from_length,),
        ),
        Misconception(
            "targets from other windows",
            "You draw the starts of y anew. Draw once, and take x and y from the same starts.",
            changes={"target": "drawn anew"},
        ),
        Misconception(
            "the last window is never drawn",
            "Your largest start is one too small. The last window begins at N - length - 1: randint's upper end is not "
            "drawn itself, so it is N - length.",
            changes={"starts": "not the last"},
        ),
        Misconception(
            "beyond the end",
            "Your largest start is one too large: a window that begins at N - length has no target left for its last "
            "token. The largest start is N - length - 1, and randint leaves its upper end out.",
            changes={"starts": "one too many"},
        ),
        Misconception(
            "only at multiples of the length",
            "Your windows begin at multiples of length only, as if the text were cut into pieces first. A window may "
            "begin at any token: N - length different ones can be drawn.",
            changes={"starts": "on a grid"},
            also=(_a_piece,),
        ),
        Misconception(
            "the same window in every row",
            "All your rows are the same window. Draw a start for each of the batch_size rows.",
            changes={"drawn": "once"},
        ),
        Misconception(
            "each token drawn by itself",
            "You draw every token by itself. A row is a stretch of the text: draw where it starts, and count on from "
            "there.",
            changes={"drawn": "each token"},
        ),
        Misconception(
            "not from the generator",
            "Your windows do not come from the generator that you are given: the same seed gives other windows each "
            "time. Hand it on: torch.randint(..., generator=generator).",
            changes={"source": "global"},
        ),
        Misconception(
            "in order",
            "Your windows are the first ones, in order, whatever the generator says. Draw the starts at random.",
            changes={"source": "in order"},
        ),
        Misconception(
            "y before x",
            "You return (y, x); the order is (x, y), inputs first.",
            changes={"order": "y, x"},
        ),
    ),
    properties=(
        Property(
            "each target is the next token",
            _one_later,
            "The target at every place must be the token that follows in ids the one that stands in x.",
            0.25,
            ("draws.x", "draws.y"),
        ),
        Property(
            "all windows occur, and nothing else",
            _all_windows,
            "Each row of x must be a stretch of ids, and each of the N - length stretches that leave room for the last "
            "target must come up.",
            0.25,
            ("draws.x",),
        ),
        Property(
            "the generator decides",
            _by_generator,
            "Two generators with the same seed must give the same batch, and another seed another one: all that is "
            "random must come from the generator.",
            0.1,
            ("repeated.x minus that of the same seed", "draws.x minus that of another seed"),
        ),
    ),
    hints=(
        "A window and its targets together are length + 1 tokens in a row. Where may such a stretch begin?",
        "From 0 to N - length - 1, both included. Draw batch_size of these starts with the generator, and index ids "
        "with starts[:, None] + torch.arange(length).",
        "starts = torch.randint(len(ids) - length, (batch_size,), generator=generator); places = starts[:, None] + "
        "torch.arange(length); return ids[places], ids[places + 1].",
    ),
)
