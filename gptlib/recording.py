"""One name for every activation, and nothing to pay while nobody looks.

A module that has something to show passes it through `note`:

    weights = self.note("weights", weights)

Outside `record` that line hands back its argument at once. Inside, the tensor is kept under the module's path, such as
`blocks.0.attention.weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Edit = Callable[[str, Tensor], Tensor]


class Noted(nn.Module):
    """A module whose activations can be recorded and edited while it runs."""

    _listener: Edit | None = None
    _path: str = ""

    @property
    def noted(self) -> bool:
        """True while somebody records, which is when the plain form of a computation is taken."""
        return self._listener is not None

    def note(self, name: str, activation: Tensor) -> Tensor:
        """Show `activation` under `name` to whoever records; return it, or what they put in its place."""
        if self._listener is None:
            return activation
        return self._listener(f"{self._path}.{name}" if self._path else name, activation)


class Recording(dict[str, Tensor]):
    """Activations by name, in the order in which the model computed them; a later call overwrites an earlier one."""

    def __missing__(self, name: str) -> Tensor:
        known = ", ".join(list(self)[:6]) or "none, since the model was not called inside `with record(model) as run:`"
        raise KeyError(f"{name!r} was not recorded; the first names are {known}")


@contextmanager
def listening(model: nn.Module, edit: Edit) -> Iterator[None]:
    """Pass every activation of `model` through `edit(name, activation)` while the context is open.

    Contexts nest: the inner one sees an activation first, the outer one what the inner one made of it.
    """
    parts = [(path, part) for path, part in model.named_modules() if isinstance(part, Noted)]
    before = [(part, part._listener, part._path) for _, part in parts]
    for (path, part), (_, outer, _) in zip(parts, before, strict=True):
        part._listener = edit if outer is None else _chained(edit, outer)
        part._path = path
    try:
        yield
    finally:
        for part, listener, path in before:
            part._listener, part._path = listener, path


def _chained(first: Edit, then: Edit) -> Edit:
    return lambda name, activation: then(name, first(name, activation))


@contextmanager
def record(model: nn.Module, *, gradients: bool = False) -> Iterator[Recording]:
    """Keep every activation that `model` computes inside the context.

    Args:
        model: a `GPT`, or any module made of gptlib's parts.
        gradients: keep the graph, so that `run[name].grad` is filled by a backward pass; otherwise values are detached
            copies that no later computation can change.

    Yields:
        A dictionary from name to tensor, for example `run["blocks.0.attention.weights"]` of shape (B, H, T, S).

    Example:
        >>> import torch
        >>> from gptlib import GPT, GPTConfig, record
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> with record(model) as run:
        ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
        >>> run["blocks.1.attention.weights"].shape
        torch.Size([1, 3, 4, 4])
    """
    run = Recording()

    def keep(name: str, activation: Tensor) -> Tensor:
        if gradients:
            if activation.requires_grad:
                activation.retain_grad()
            run[name] = activation
        else:
            run[name] = activation.detach().clone(memory_format=torch.contiguous_format)
        return activation

    with listening(model, keep):
        yield run
