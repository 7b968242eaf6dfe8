"""The logit lens: what the model would say if it stopped after each block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptlib.interpret.sites import check_positions
from gptlib.model import GPT
from gptlib.recording import listening
from gptlib.tales.scoring import evaluating


@dataclass(frozen=True)
class Lens:
    """Next-token logits read off the residual stream at every depth.

    Attributes:
        names: of the activations that were read: "embedding", then each block's "blocks.0.residual".
        logits: (depths, B, T, V), depths being the number of layers plus 1; the last depth is the model's own output.
        meaning: one sentence about what these numbers are for this model.
    """

    names: tuple[str, ...]
    logits: Tensor
    meaning: str

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits over the vocabulary, in fp32 or wider: (depths, B, T, V)."""
        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32)).softmax(-1)


def logit_lens(model: GPT, ids: Tensor, *, positions: list[int] | None = None) -> Lens:
    """Read the residual stream after the embedding and after every block as if the model ended there.

    The stream goes through the model's last norm, if it has one, and its output map. With `norm_order="post"` there is
    no last norm and each block ends in a norm of its own, so a depth is read by a map that was trained for the last
    block's norm alone; `Lens.meaning` says so.

    Args:
        model: computes without dropout, and stays in the mode it is in.
        ids: (B, T).
        positions: of T, to save memory: depths × B × T × V numbers are kept; all if None.

    Returns:
        A `Lens`, without gradients.

    Raises:
        ValueError: for a position that the text does not have.

    Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).

    Example:
        >>> from gptlib import GPTConfig
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> lens = logit_lens(model, torch.tensor([[1, 2, 3]]))
        >>> lens.names, tuple(lens.logits.shape)
        (('embedding', 'blocks.0.residual', 'blocks.1.residual'), (3, 1, 3, 11))
    """
    at = None if positions is None else check_positions(positions, ids.size(1))
    names = ("embedding", *(f"blocks.{layer}.residual" for layer in range(model.config.n_layer)))
    stream: dict[str, Tensor] = {}

    def keep(name: str, activation: Tensor) -> Tensor:
        if name in names:
            stream[name] = activation if at is None else activation[:, at]  # (B, T, C)
        return activation

    with evaluating(model):
        with listening(model, keep):
            model(ids.to(model.token_embedding.weight.device))
        logits = torch.stack([model.lm_head(model.norm(stream[name])) for name in names])  # (depths, B, T, V)
    return Lens(names, logits, _PRE if model.config.norm_order == "pre" else _POST)


_PRE = "Each block adds to one stream, so every depth can be read by the last norm and the output map."
_POST = (
    "Each block ends in a norm of its own, so a depth is not a partial sum of the last one: the output map reads "
    "vectors that it was never trained to read, and only the last depth is the model's own answer."
)
