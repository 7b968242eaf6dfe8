"""Several processes as one run: each computes its rows of every batch, and PyTorch averages their gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# A process waits so long for another one, which may be writing a text, saving or sitting out a pause. One that has
# ended is noticed at once, unless its whole machine is gone.
PATIENCE = timedelta(hours=1)

# What Gloo and NCCL say of it.
GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "No route to host",
    "imed out",
    "remote process exited",
)


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees it; `Team()` is a run of one process.

    Every process draws the same batches and computes its own rows; averaged over equally many rows each, loss and
    gradient are those of one process, so all take the same step. Either each holds the whole model
    (`DistributedDataParallel`: the averages are formed while the backward pass still goes on), or each holds a part of
    every weight, of its gradient and of the optimizer's state, and all lend each other the weights of the block at hand
    (`fully_shard`, known as FSDP2).

    Args:
        rank: of this process, 0 for the first.
        size: how many processes there are.
        local_rank: which of the processes on this machine it is, and so which of its GPUs it has.

    Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020); Zhao et al.,
    "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023).
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
        """Whether this process prints and writes."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """Which rows of a batch are this process's: every `size`-th."""
        return slice(self.rank, None, self.size)

    def device(self, name: str) -> str:
        """The device of this process: with several GPUs, each has its own.

        Raises:
            ValueError: if all of several processes are to have one GPU.
        """
        if self.size == 1:
            return name
        if name.startswith("cuda:"):
            raise ValueError(
                f"device={name!r} would be that of all {self.size} processes; say cuda, and each has its own"
            )
        if name == "auto":  # an Apple GPU cannot take part
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return f"cuda:{self.local_rank}" if name == "cuda" else name

    def check(self, batch_size: int, shard: bool) -> None:
        """Refuse what cannot be shared out.

        Raises:
            ValueError: if `batch_size` is not a multiple of the number of processes, or one process is to `shard`.
        """
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            near = " or ".join(str(n) for n in (below, below + self.size) if n)
            raise ValueError(f"batch_size={batch_size} cannot be shared evenly by {self.size} processes; try {near}")
        if shard and self.size == 1:
            raise ValueError(
                "one process has nobody to share its weights with; start several with torchrun, or leave out --shard "
                "(shard=True)"
            )

    @contextmanager
    def together(self, device: str) -> Iterator[None]:
        """Inside, the processes can talk to each other.

        Raises:
            ConnectionError: if another process has ended in the middle of the run.
        """
        if self.size == 1:
            yield
            return
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(device)
        # No backend is named: tensors on a GPU go by NCCL, and those on the CPU by Gloo.
        dist.init_process_group(rank=self.rank, world_size=self.size, timeout=PATIENCE)
        try:
            yield
            dist.barrier()  # a launcher takes the first end for the end of all, and the first process may be saving
        except RuntimeError as error:
            if not any(words in str(error) for words in GONE):
                raise
            raise ConnectionError(
                f"process {self.rank} of {self.size}: another process of this run has ended, so this one stops; what "
                "was saved last is whole, and the same command with --resume (resume=True) goes on from there "
                f"({str(error).splitlines()[0]})"
            ) from error
        dist.destroy_process_group()  # not after an error: it would wait for the others

    def place(self, model: nn.Module, device: str, shard: bool) -> None:
        """Move the model to the device of this process; with `shard`, this process's part of every weight.

        A block is moved and cut before the next one is, so that the device never holds the whole model.
        """
        if not shard:
            model.to(device)
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
        mesh = init_device_mesh(torch.device(device).type, (self.size,))
        for block in model.blocks:  # type: ignore[union-attr]
            fully_shard(block, mesh=mesh)  # its weights are whole while it computes, and only then
        fully_shard(model, mesh=mesh)

    def averaging(self, model: nn.Module, shard: bool) -> nn.Module:
        """The model in the form whose backward pass leaves every process with the average gradient.

        Every process begins with the weights of the first.
        """
        if self.size == 1 or shard:
            return model  # what is cut into parts averages by itself
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def mean(self, value: Tensor) -> Tensor:
        """The average of a tensor over all processes."""
        return self.sum(value) / self.size

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, *here: bool) -> list[bool]:
        """For each of several things, whether it is so in one of the processes; all get the same answers."""
        return [count > 0 for count in self.sum(torch.tensor(here, dtype=torch.int64)).tolist()]

    def equal(self, number: int) -> bool:
        """Whether all processes have the same number."""
        return self.sum(torch.tensor([number, number**2])).tolist() == [self.size * number, self.size * number**2]


ALONE = Team()


def gradients_add_up(forward: Any, more: bool) -> AbstractContextManager[Any]:
    """For a pass of several whose gradients add up: while `more` are to come, averaging over processes can wait."""
    return forward.no_sync() if more and hasattr(forward, "no_sync") else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which each process holds a part; all processes must ask. Another one stays as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def held(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its part, or all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def cut_like(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, cut into the processes' parts if `other` is."""
    if not hasattr(other, "placements"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)  # type: ignore[attr-defined]
