"""Who is faster, where other work comes and goes: take turns, and compare within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

TURN = 0.2  # seconds that a turn lasts at least
ROUNDS = 3  # rounds that there are at least


def take_turns(
    runners: Sequence[Callable[[], int]],
    seconds: float,
    progress: Callable[[float], object] = lambda part: None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Let each runner work in turn, round after round, until the time is over.

    Who begins changes from round to round.

    Args:
        runners: each does a piece of work, waits until it is done, and returns how many tokens it was.
        seconds: how long, a first try of each that does not count included. Three rounds that count are made anyhow.
        progress: called after each round with the part that is done, 0 to 1.
        clock: tells seconds.

    Returns:
        For each runner its tokens a second in each round.
    """
    end = clock() + seconds
    for run in runners:
        run()
    rates: list[list[float]] = [[] for _ in runners]
    order = list(range(len(runners)))
    while len(rates[0]) < ROUNDS or clock() < end:
        for i in order:
            began, tokens = clock(), runners[i]()
            while (spent := clock() - began) < TURN:
                tokens += runners[i]()
            rates[i].append(tokens / spent)
        order.reverse()
        by_rounds, by_time = len(rates[0]) / ROUNDS, 1 - (end - clock()) / seconds
        progress(max(0.0, min(1.0, by_rounds, by_time)))
    return rates
