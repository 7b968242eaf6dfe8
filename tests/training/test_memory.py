from __future__ import annotations

import sys

import pytest
import torch

from gptlib.training import memory
from gptlib.training.memory import freed_memory_kept

resource = pytest.importorskip("resource")
N, STEPS = 12_000_000, 10  # a tensor of 48 MB, which is 11,719 pages of 4 KiB


def pages_asked_for() -> int:
    """Pages that the system had to hand out while tensors came and went."""
    torch.ones(N)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(STEPS):
        torch.ones(N)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_a_tensor_is_made_in_the_memory_of_the_last_one_and_only_inside() -> None:
    if memory._glibc() is None:
        pytest.skip("another C library than glibc")
    before = pages_asked_for()
    with freed_memory_kept():
        inside = pages_asked_for()
    after = pages_asked_for()
    assert inside < 0.2 * min(before, after)


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "win32")
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3
