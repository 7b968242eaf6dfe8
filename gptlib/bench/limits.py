"""What a machine can do at best: multiply matrices, and read memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Limits:
    """What the machine can do at best.

    Args:
        fp32_flops_per_second: floating-point operations in products of fp32 matrices.
        flops_per_second: the same in the precision of training.
        bytes_per_second: read from memory.
    """

    fp32_flops_per_second: float
    flops_per_second: float
    bytes_per_second: float


def measure_limits(device: str, precision: str, seconds: float) -> Limits:
    """Measure the best rates of matrix products, in fp32 and in `precision`, and of reading memory.

    Args:
        device: such as "cpu" or "cuda".
        precision: "fp32" or "bf16".
        seconds: how long.
    """
    n = 8192 if torch.device(device).type == "cuda" else 2048

    def multiply(dtype: torch.dtype) -> float:
        a = torch.rand(n, n, device=device).to(dtype)
        return _best_rate(lambda: a @ a, 2 * n**3, seconds / 3, device)

    fp32 = multiply(torch.float32)
    used = multiply(torch.bfloat16) if precision == "bf16" else fp32
    numbers = torch.rand(8192, 8192, device=device)  # 268 MB, more than a cache holds
    row = torch.rand(1, 8192, device=device)
    largest = _best_rate(numbers.amax, numbers.nbytes, seconds / 6, device)
    product = _best_rate(lambda: F.linear(row, numbers), numbers.nbytes, seconds / 6, device)
    return Limits(fp32, used, max(largest, product))


def _best_rate(work: Callable[[], object], amount: float, seconds: float, device: str) -> float:
    """How much of `amount` is done a second, in the fastest of many tries."""
    work()
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        wait_for(device)
        began = time.perf_counter()
        work()
        wait_for(device)
        best = max(best, amount / (time.perf_counter() - began))
    return best


def wait_for(device: str) -> None:
    """Wait until the device has done what it was told: a GPU takes orders and works on them later."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


def memory_of(device: str) -> int | None:
    """Bytes of memory that the device has; None where the system does not say."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
