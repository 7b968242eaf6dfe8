"""Several processes as one run: each computes its rows of every batch, and their gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees it; `Team()` is a run of one process.

    Every process reads the same batches and computes its own rows; averaged over equally many rows each, loss and
    gradient are those of one process. So all take the same step, and only the first evaluates, prints and writes.
    Gradients are averaged after the backward pass. PyTorch's DistributedDataParallel does it during the pass, which is
    faster and harder to read.

    Args:
        rank: of this process, 0 for the first.
        size: how many processes there are.
        local_rank: which of the processes on this machine it is, and so which of its GPUs it has.

    Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020).
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Team:
        """What `torchrun` says in RANK, WORLD_SIZE and LOCAL_RANK; a run of one without it."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if missing := [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} and no {missing[0]}; start with torchrun, which sets both"
            )
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process: with several GPUs, each has its own."""
        if self.size > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.local_rank}"
        return name

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that cannot be shared out evenly.

        Raises:
            ValueError: if `batch_size` is not a multiple of the number of processes.
        """
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            near = " or ".join(str(n) for n in (below, below + self.size) if n)
            raise ValueError(f"batch_size={batch_size} cannot be shared evenly by {self.size} processes; try {near}")

    @contextmanager
    def together(self, device: str) -> Iterator[None]:
        """Inside, the processes can talk to each other.

        Raises:
            ConnectionError: if another process has ended in the middle of the run.
        """
        if self.size == 1:
            yield
            return
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if on_gpu else "gloo", rank=self.rank, world_size=self.size)
        try:
            yield
        except RuntimeError as error:
            if not _says_that_another_is_gone(error):
                raise
            raise ConnectionError(
                f"process {self.rank} of {self.size}: another process of this run has ended, so this one stops; the "
                "last checkpoint is whole, and the same command with --resume (resume=True) goes on from it"
            ) from None
        finally:
            dist.destroy_process_group()

    def share(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch: (B, …) -> (B / size, …)."""
        return rows[self.rank :: self.size]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its average over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        together = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))  # (n_parameters,)
        parts = torch.split(together, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        """The average of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, here: bool, device: str) -> bool:
        """Whether it is so in one of the processes; all get the same answer."""
        if self.size == 1:
            return here
        there = torch.tensor(float(here), device=device)
        dist.all_reduce(there)
        return there.item() > 0

    def weights_of_first(self, model: nn.Module) -> None:
        """Give every process's model the weights of the first one's."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)

    def number_of_first(self, number: float | None, device: str) -> float | None:
        """The first process's number, or None."""
        if self.size == 1:
            return number
        told = torch.tensor(torch.nan if number is None else number, dtype=torch.float64, device=device)
        dist.broadcast(told, 0)
        return None if told.isnan() else told.item()


ALONE = Team()


def _says_that_another_is_gone(error: RuntimeError) -> bool:
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "remote process exited")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
