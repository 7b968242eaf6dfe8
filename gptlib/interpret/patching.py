"""Put activations of one run into another, and see whether the answer follows.

Two texts differ in a word, and the model ends them differently. Where an activation of the one, put into the run of the
other, moves the answer, there the difference is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.interpret.ablation import check_fits, recorded, replaced
from gptlib.interpret.sites import check_heads, check_sites
from gptlib.model import GPT
from gptlib.recording import listening
from gptlib.tales.scoring import evaluating

Metric = Callable[[Tensor], Tensor]
TOKENS_PER_BATCH = 4096  # rows of a sweep that are read at once: enough to be quick, small enough for any machine


@contextmanager
def patch(
    model: GPT,
    source: Mapping[str, Tensor],
    sites: str | Iterable[str],
    *,
    heads: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
) -> Iterator[None]:
    """Use activations of another run in place of the model's own.

    Contexts nest, within each other, within `record` (open that first) and with ablations. No weight is changed.

    Args:
        model: called by the caller inside the context.
        source: a recording of the other run, `with record(model) as source: model(other_ids)`, of texts as long as
            those that will be read; one text, or as many.
        sites: names of activations, such as "blocks.2.residual" or "blocks.2.attention.heads".
        heads: of every site named; all if None.
        positions: of the text that is read; all if None, -1 is the last.

    Raises:
        ValueError: for a name, head or position that is not there, or a source that does not fit.

    Source: Vig et al., "Investigating Gender Bias in Language Models Using Causal Mediation Analysis" (2020); Meng et
    al., "Locating and Editing Factual Associations in GPT" (2022), section 2.

    Example:
        >>> from gptlib import GPTConfig, record
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> with record(model) as clean:
        ...     _ = model(torch.tensor([[1, 2, 3]]))
        >>> with patch(model, clean, "embedding", positions=[1]):
        ...     logits, _ = model(torch.tensor([[1, 7, 3]]))
        >>> torch.equal(logits, clean["logits"])  # position 1 was all that differed
        True
    """
    wanted: dict[str, list[int] | None] = {}
    given = None if heads is None else list(heads)
    for name in check_sites(model, sites):
        wanted[name] = None if given is None else check_heads(model, name, given)
    values = {name: recorded(source, name) for name in wanted}
    at = None if positions is None else list(positions)

    def edit(name: str, activation: Tensor) -> Tensor:
        if name not in wanted:
            return activation
        value = values[name].to(activation)
        check_fits(name, value, activation)
        return replaced(activation, value, wanted[name], at)

    with listening(model, edit):
        yield


@dataclass(frozen=True)
class Sweep:
    """A metric after patching one place at a time.

    Attributes:
        values: (L, N), a row for each layer, a column for each position or head.
        clean: the metric of the clean text, whose activations are put in.
        corrupted: the metric of the corrupted text, into which they are put.
        over: "positions" or "heads", what the columns are.
        site: the activation of each block that was patched.
    """

    values: Tensor
    clean: float
    corrupted: float
    over: str
    site: str

    @property
    def restored(self) -> Tensor:
        """(L, N): 0 where patching changes nothing, 1 where it brings back the clean answer."""
        return (self.values - self.corrupted) / (self.clean - self.corrupted)

    def __str__(self) -> str:
        L, N = self.values.shape
        lines = [f"share of the clean answer restored by patching {self.site}, layers down, {self.over} across"]
        lines.append(f"{'':>6}" + "".join(f"{n:>7}" for n in range(N)))
        for layer in range(L):
            lines.append(f"{layer:>6}" + "".join(f"{float(value):>7.2f}" for value in self.restored[layer]))
        return "\n".join(lines)


def logit_difference(right: int, wrong: int, *, position: int = -1) -> Metric:
    """A metric: by how much the logit of one token exceeds that of another, at one position.

    Args:
        right: token id of the clean text's answer.
        wrong: token id of the corrupted text's answer.
        position: whose next token is asked for.

    Returns:
        A function from logits (B, T, V) to (B,), in nats of log-odds between the two tokens.
    """

    def metric(logits: Tensor) -> Tensor:
        return logits[:, position, right] - logits[:, position, wrong]

    return metric


def patch_sweep(
    model: GPT,
    clean: Tensor,
    corrupted: Tensor,
    metric: Metric,
    *,
    site: str | None = None,
    over: str = "positions",
) -> Sweep:
    """Patch the clean text's activations into the corrupted text's run, one layer and one position or head at a time.

    Args:
        model: computes without dropout, and stays in the mode it is in.
        clean: (1, T).
        corrupted: (1, T), of the same length, so that positions correspond.
        metric: from logits (B, T, V) to one number a text, (B,); for example `logit_difference(right, wrong)`.
        site: the name of an activation within a block: "residual" (the default over positions), "attention.heads"
            (the default over heads), "middle", "attention.output", "mlp.output", "attention.v", ...
        over: "positions" or "heads".

    Raises:
        ValueError: for texts that do not fit each other, a site or axis that is not there, a metric of another shape,
            or one that does not tell the two texts apart.
    """
    if over not in ("positions", "heads"):
        raise ValueError(f"over={over!r} is unknown; sweep over 'positions' or 'heads'")
    if clean.dim() != 2 or clean.size(0) != 1 or clean.shape != corrupted.shape:
        raise ValueError(f"clean ids {tuple(clean.shape)} and corrupted {tuple(corrupted.shape)}; both must be (1, T)")
    site = site or ("residual" if over == "positions" else "attention.heads")
    names = check_sites(model, [f"blocks.{layer}.{site}" for layer in range(model.config.n_layer)])
    axis = -2
    if over == "heads":
        check_heads(model, names[0], [0])  # says so where the activation has none
        axis = 1
    with evaluating(model):
        right, clean_run = _run(model, clean, names, metric)
        wrong, corrupted_run = _run(model, corrupted, names, metric)
        if right == wrong:
            raise ValueError(f"the metric is {right:.4g} on both texts; choose texts or a metric that differ")
        rows = []
        for name in names:
            value, own = clean_run[name].movedim(axis, 0), corrupted_run[name].movedim(axis, 0)  # (N, ...) both
            # Where both runs agree, as before the first token that differs, a patch changes nothing.
            indices = [i for i in range(len(own)) if not torch.equal(value[i], own[i])]
            row = torch.full((len(own),), wrong)  # (N,)
            row[indices] = _patched(model, name, clean_run[name], indices, corrupted, metric, axis)
            rows.append(row)
    return Sweep(torch.stack(rows), right, wrong, over, site)


def _run(model: GPT, ids: Tensor, names: list[str], metric: Metric) -> tuple[float, dict[str, Tensor]]:
    kept: dict[str, Tensor] = {}

    def keep(name: str, activation: Tensor) -> Tensor:
        if name in names:
            kept[name] = activation
        return activation

    with listening(model, keep):
        logits, _ = model(ids.to(model.token_embedding.weight.device))  # (1, T, V)
    return float(_measure(metric, logits)), kept


def _patched(
    model: GPT, name: str, value: Tensor, indices: list[int], corrupted: Tensor, metric: Metric, axis: int
) -> Tensor:
    """The metric after patching `name` at each of the indices of `axis`, each in a row of its own: (indices,)."""
    found = [torch.empty(0)]
    rows = max(1, TOKENS_PER_BATCH // corrupted.size(1))
    for begin in range(0, len(indices), rows):
        at = indices[begin : begin + rows]
        chosen = torch.zeros(len(at), value.size(axis), dtype=torch.bool, device=value.device)
        chosen[range(len(at)), at] = True
        shape = [1] * value.dim()
        shape[0], shape[axis] = chosen.shape
        chosen = chosen.view(shape)

        def edit(site: str, activation: Tensor, chosen: Tensor = chosen) -> Tensor:
            return torch.where(chosen, value, activation) if site == name else activation

        with listening(model, edit):
            logits, _ = model(corrupted.to(value.device).expand(len(at), -1))  # (B, T, V)
        found.append(_measure(metric, logits))
    return torch.cat(found)


def _measure(metric: Metric, logits: Tensor) -> Tensor:
    value = metric(logits)
    if value.shape != logits.shape[:1]:
        raise ValueError(
            f"the metric gave shape {tuple(value.shape)} for logits {tuple(logits.shape)}; "
            f"give one number a text, ({logits.size(0)},)"
        )
    return value.float().cpu()
