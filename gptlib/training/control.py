"""A hand on a run from another thread: pause it, let it go on, have it saved, or stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

Event = Literal["saved", "paused", "running"]


class Control:
    """Asks a run to pause, go on, save or stop; the run does it between two steps, so that none is left half done.

    Args:
        tell: called in the run's thread, with what has just happened and the step at which.

    Example:
        >>> control = Control()
        >>> control.pause(); control.paused
        True
        >>> control.stop(); control.paused, control.stopping
        (False, True)
    """

    def __init__(self, tell: Callable[[Event, int], None] | None = None) -> None:
        self._tell = tell if tell is not None else lambda event, step: None
        self._changed = threading.Condition()
        self._paused = self._save = self._stop = False

    def pause(self) -> None:
        """Wait after the step at hand, with the state saved."""
        self._set(paused=True, save=True)

    def go_on(self) -> None:
        """End a pause."""
        self._set(paused=False)

    def save(self) -> None:
        """Save after the step at hand, and go on."""
        self._set(save=True)

    def stop(self) -> None:
        """End the run after the step at hand, with its state saved; a pause ends too."""
        self._set(paused=False, stop=True)

    @property
    def paused(self) -> bool:
        """Whether the run was asked to pause."""
        return self._paused and not self._stop

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop

    def _set(self, *, paused: bool | None = None, save: bool = False, stop: bool = False) -> None:
        with self._changed:
            self._paused = self._paused if paused is None else paused
            self._save |= save
            self._stop |= stop
            self._changed.notify_all()

    # What the run calls ---------------------------------------------------------------------------------------------

    def wants_saving(self) -> bool:
        """Whether to save now; asking again gives no."""
        with self._changed:
            wanted, self._save = self._save, False
        return wanted

    def saved(self, step: int) -> None:
        """Tell that the state of `step` is safe."""
        self._tell("saved", step)

    def wait(self, step: int, interrupted: threading.Event) -> float:
        """Sit out a pause, which `interrupted` ends as well; returns the seconds that it took."""
        began = time.perf_counter()
        self._tell("paused", step)
        with self._changed:
            while self.paused and not interrupted.is_set():
                self._changed.wait(0.2)  # a signal sets `interrupted` without notifying
        if not (self._stop or interrupted.is_set()):
            self._tell("running", step)
        return time.perf_counter() - began
