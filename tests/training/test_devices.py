import pytest
import torch

from gptlib.training import autocast, choose_device, choose_precision
from gptlib.training import devices as room


def test_cpu_precision_follows_the_instructions_it_has(monkeypatch) -> None:
    for capabilities, value, reason in (
        ({}, "fp32", "no native bf16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16", "AVX512-BF16"),
        ({"amx_bf16": True}, "bf16", "AMX"),
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16", "AMX and AVX512-BF16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        choice = choose_precision("cpu")
        assert choice.value == value
        assert reason in choice.reason
        assert str(choice) == f"{choice.value} ({choice.reason})"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older torch says nothing
    assert choose_precision("cpu").value == "fp32"


def test_cuda_precision_follows_the_gpu(monkeypatch) -> None:
    for native, value in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, n=native: n)
        assert choose_precision("cuda").value == value
        assert choose_precision("cuda:1").value == value


def test_mps_and_named_precisions() -> None:
    assert choose_precision("mps").value == "fp32"
    assert choose_precision("cpu", "bf16").value == "bf16"
    assert choose_precision("cpu", "fp32") == room.Choice("fp32", "as asked")
    with pytest.raises(ValueError, match="precision='bf16' is not supported on MPS; use fp32"):
        choose_precision("mps", "bf16")
    with pytest.raises(ValueError, match="precision='fp16' is unknown; choose auto, fp32 or bf16"):
        choose_precision("cpu", "fp16")


def test_the_fastest_device_is_chosen(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device().value == "cpu"
    assert f"{torch.get_num_threads()} threads" in choose_device().reason
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(room, "_mps_if_correct", lambda: room.Choice("mps", "checked"))
    assert choose_device() == room.Choice("mps", "checked")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a fast one")
    assert choose_device() == room.Choice("cuda", "a fast one")


@pytest.mark.parametrize(("wrong", "value"), [(False, "mps"), (True, "cpu")])
def test_an_mps_with_wrong_numbers_is_not_used(monkeypatch, wrong, value) -> None:
    """A model that stays on the CPU stands in for the Apple GPU; the wrong one computes another loss there."""

    class Pretender(room.GPT):
        on = "cpu"

        def to(self, device):
            self.on = device
            return self

        def forward(self, ids, targets=None, **options):
            logits, loss = super().forward(ids, targets, **options)
            return logits, loss * 1.01 if wrong and self.on == "mps" else loss

    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *args, **kw: x if args == ("mps",) else to(x, *args, **kw))
    monkeypatch.setattr(room, "GPT", Pretender)
    state = torch.get_rng_state()
    assert room._mps_if_correct().value == value
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["cuda:99", "abacus", "cpu:x"])
def test_a_device_that_is_not_here_is_refused(name) -> None:
    with pytest.raises(ValueError, match=f"device='{name}' cannot be used here .*; try 'auto' or 'cpu'") as raised:
        choose_device(name)
    assert "\n" not in str(raised.value)


def test_autocast_is_what_it_says() -> None:
    x = torch.randn(3, 3)
    with autocast("cpu", "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("cpu", "fp32"):
        assert (x @ x).dtype == torch.float32
    with autocast():
        expected = torch.bfloat16 if choose_precision("cpu").value == "bf16" else torch.float32
        assert (x @ x).dtype == expected
