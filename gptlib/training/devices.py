"""Where a run computes, and in which precision; never chosen in silence."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from gptlib.config import GPTConfig
from gptlib.model import GPT


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why, in one sentence a person can read."""

    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def choose_device(name: str = "auto") -> Choice:
    """Resolve "auto" to the fastest device that computes correctly; check that a named one is there.

    Raises:
        ValueError: for a device that this machine does not have.
    """
    if name != "auto":
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            first_line = str(error).splitlines()[0]
            raise ValueError(f"device={name!r} cannot be used here ({first_line}); try 'auto' or 'cpu'") from None
        return Choice(name, "as asked")
    if torch.cuda.is_available():
        return Choice("cuda", torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return _mps_if_correct()
    return Choice("cpu", f"no GPU was found; {torch.get_num_threads()} threads")


def _mps_if_correct() -> Choice:
    """Compare loss and gradient of a small model with the CPU's: wrong results on MPS are a known trouble."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=31, n_positions=16, n_embd=24, n_layer=2, n_head=3))
        ids = torch.randint(31, (2, 16))
    values = []
    for device in ("cpu", "mps"):
        model.to(device).zero_grad()
        _, loss = model(ids.to(device), ids.roll(-1, 1).to(device))
        assert loss is not None
        loss.backward()
        values.append((loss.item(), model.token_embedding.weight.grad.cpu()))  # type: ignore[union-attr]
    (loss_cpu, grad_cpu), (loss_mps, grad_mps) = values
    if abs(loss_cpu - loss_mps) < 1e-3 and torch.allclose(grad_cpu, grad_mps, atol=1e-3):
        return Choice("mps", "Apple GPU, whose loss and gradient of a test model equal the CPU's")
    return Choice("cpu", "the Apple GPU gives other numbers than the CPU for a test model")


def choose_precision(device: str = "cpu", name: str = "auto") -> Choice:
    """Resolve "auto" to "bf16" where the hardware multiplies it natively, else to "fp32".

    Raises:
        ValueError: for another name, or bf16 on MPS.
    """
    kind = torch.device(device).type
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision={name!r} is unknown; choose auto, fp32 or bf16")
    if name == "bf16" and kind == "mps":
        raise ValueError("precision='bf16' is not supported on MPS; use fp32")
    if name != "auto":
        return Choice(name, "as asked")
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bf16", "this GPU multiplies bf16 natively")
        return Choice("fp32", "this GPU has no native bf16")
    if kind == "cpu":
        instructions = _native_bf16()
        if instructions:
            return Choice("bf16", f"this CPU multiplies bf16 natively: {instructions}")
        return Choice("fp32", "this CPU has no native bf16")
    return Choice("fp32", f"the safe choice on {kind}")


def _native_bf16() -> str:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    found = [label for key, label in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")) if capabilities.get(key)]
    return " and ".join(found)


def autocast(device: str = "cpu", precision: str = "auto") -> AbstractContextManager[Any]:
    """The context in which `train` computes: bf16 autocast, or none for fp32.

    Weights, losses and softmax stay fp32; matrix products are bf16.
    """
    if choose_precision(device, precision).value == "bf16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()
