"""Read a story, or the beginning of one: follow the grammar along the words and keep every derivation that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gptlib.tales.grammar import Env, Frame, Grammar, Path, State
from gptlib.tales.templates import Expand, Say, Settle, Text


class Unfolded(NamedTuple):
    """Words that may come next: the words, the log-probability of the story up to their end, whether the story ends."""

    words: str
    log_prob: float
    ended: bool
    path: Path


def advance(grammar: Grammar, states: Iterable[State], text: str) -> list[State]:
    """The states after `text`, for the states before it; an empty list when no derivation says `text`."""
    found: list[State] = []
    todo: list[tuple[int, Frame, Env, float, Path]] = []
    size = len(text)
    for pending, *rest in states:
        if len(pending) >= size:
            if pending.startswith(text):
                found.append(State(pending[size:], *rest))
        elif text.startswith(pending):
            todo.append((len(pending), *rest))
    while todo:
        at, frame, env, log_prob, path = todo.pop()
        while True:
            if at == size:
                found.append(State("", frame, env, log_prob, path))
                break
            op, frame = _next(frame)
            if op is None:
                break
            kind = type(op)
            if kind is Say and op.slot not in env:
                for value, step, taken in _draws(grammar, op, env, path):
                    words = value[op.form]
                    if text.startswith(words, at):
                        todo.append((at + len(words), frame, {**env, op.slot: value}, log_prob + step, taken))
                    elif words.startswith(text[at:]):
                        pending = words[size - at :]
                        found.append(State(pending, frame, {**env, op.slot: value}, log_prob + step, taken))
                break
            if kind is Expand:
                for program, step, taken in _alternatives(grammar, op, env, path):
                    todo.append((at, (program, 0, frame), env, log_prob + step, taken))
                break
            if kind is Settle:
                env = {**env, op.slot: grammar.settled(op, env)}
            elif kind is Text or kind is Say:
                words = op.text if kind is Text else env[op.slot][op.form]
                if text.startswith(words, at):
                    at += len(words)
                elif words.startswith(text[at:]):
                    found.append(State(words[size - at :], frame, env, log_prob, path))
                    break
                else:
                    break
    return found


def unfold(grammar: Grammar, state: State, enough: Callable[[str], bool]) -> Iterator[Unfolded]:
    """Every way in which a story may go on after `state`, each up to where `enough(words)` holds or the story ends."""
    todo = [state]
    while todo:
        words, frame, env, log_prob, path = todo.pop()
        while True:
            if enough(words):
                yield Unfolded(words, log_prob, False, path)
                break
            op, frame = _next(frame)
            if op is None:
                yield Unfolded(words, log_prob, True, path)
                break
            kind = type(op)
            if kind is Say and op.slot not in env:
                for value, step, taken in _draws(grammar, op, env, path):
                    todo.append(State(words + value[op.form], frame, {**env, op.slot: value}, log_prob + step, taken))
                break
            if kind is Expand:
                for program, step, taken in _alternatives(grammar, op, env, path):
                    todo.append(State(words, (program, 0, frame), env, log_prob + step, taken))
                break
            if kind is Settle:
                env = {**env, op.slot: grammar.settled(op, env)}
            elif kind is Text:
                words += op.text
            elif kind is Say:
                words += env[op.slot][op.form]


def derivations(grammar: Grammar, text: str) -> list[tuple[float, list[int]]]:
    """The derivations of a whole story, as log-probability and choices in order; there should be no more than one."""
    found = []
    for state in advance(grammar, [grammar.start()], text):
        for words, log_prob, ended, path in unfold(grammar, state, bool):
            if ended and not words:
                choices = []
                while path is not None:
                    index, path = path
                    choices.append(index)
                found.append((log_prob, choices[::-1]))
    return found


def longest_beginning(grammar: Grammar, text: str) -> int:
    """The length of the longest beginning of `text` that is also the beginning of a story."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if advance(grammar, [grammar.start()], text[:middle]) else (low, middle - 1)
    return low


def _next(frame: Frame) -> tuple[Any, Frame]:
    while frame is not None:
        program, position, rest = frame
        if position < len(program):
            return program[position], (program, position + 1, rest)
        frame = rest
    return None, None


def _draws(grammar: Grammar, op: Say, env: Env, path: Path) -> Iterator[tuple[Any, float, Path]]:
    table = grammar.draws(op.slot, env)
    if len(table.items) == 1:
        yield table.items[0], 0.0, path
        return
    for index, (value, (_, step)) in enumerate(zip(table.items, table.steps, strict=True)):
        yield value, step, (index, path)


def _alternatives(grammar: Grammar, op: Expand, env: Env, path: Path) -> Iterator[tuple[Any, float, Path]]:
    table = grammar.alternatives(op, env)
    if len(table.items) == 1:
        yield table.items[0], 0.0, path
        return
    for index, (program, (_, step)) in enumerate(zip(table.items, table.steps, strict=True)):
        yield program, step, (index, path)
