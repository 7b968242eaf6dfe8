"""What `gptlib bench` computes from times, and that both sides do the same work. No time is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gptlib import GPT, GPTConfig, generate
from gptlib.bench import Limits, Race, Report, bench, measure_limits, measuring, take_turns, turns
from gptlib.bench.measuring import bytes_per_token, find_peer, require_memory, suitable_batch
from gptlib.config import PRESETS
from gptlib.scaling import parameters, training_flops, training_memory

TINY = {"vocab_size": 23, "n_positions": 12, "n_embd": 24, "n_layer": 2, "n_head": 6}
LLAMA = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "n_kv_head": 2}
MACHINE = {"processor": "an abacus, 2 logical cores", "device": "cpu (no GPU)", "precision": "bf16 (as asked)"}
LIMITS = Limits(149e9, 695e9, 12.34e9)
TRAINING = Race([5000, 5271, 6000], [4500, 4766, 4000], limit=10_542)
DECODING = Race([300.0], [200.0], limit=309.0)


def report(**changes: Any) -> Report:
    values = {
        "machine": MACHINE,
        "preset": "tiny",
        "n_parameters": 10_745_088,
        "batch_size": 16,
        "n_tokens": 256,
        "n_written": 64,
        "limits": LIMITS,
        "training": TRAINING,
        "decoding": DECODING,
        "peer": "transformers 5.0",
    }
    return Report(**{**values, **changes})


class Clock:
    """A clock that goes on when work is done."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def runner(self, name: str, tokens: int, seconds: list[float]) -> Callable[[], int]:
        left = iter(seconds)

        def run() -> int:
            self.log.append(name)
            self.now += next(left, seconds[-1])
            return tokens

        return run


# Turns


def test_runners_take_turns_and_the_first_try_does_not_count() -> None:
    clock = Clock()
    ours, theirs = clock.runner("a", 10, [50.0, 2.0, 4.0, 5.0]), clock.runner("b", 10, [70.0, 1.0])
    assert take_turns([ours, theirs], 1.0, clock=clock) == [[5.0, 2.5, 2.0], [10.0, 10.0, 10.0]]
    assert clock.log == list("ab" "ab" "ba" "ab")  # fmt: skip


def test_rounds_go_on_until_the_time_is_over() -> None:
    clock = Clock()
    done: list[float] = []
    rates = take_turns([clock.runner("a", 3, [1.0])], 8.0, done.append, clock=clock)
    assert len(rates[0]) == 7  # the first of eight seconds went to the first try
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert 0 < done[0] < 0.5


def test_a_short_piece_of_work_is_repeated_within_its_turn() -> None:
    clock = Clock()
    rates = take_turns([clock.runner("a", 5, [turns.TURN / 3.5])], 1e-9, clock=clock)
    assert len(clock.log) == 1 + 4 * turns.ROUNDS
    assert rates[0] == pytest.approx([17.5 / turns.TURN] * turns.ROUNDS)


# The report


def test_shares_and_ratios_of_given_times() -> None:
    assert TRAINING.share == 0.5
    lower, median, upper = TRAINING.ratio or ()
    pairs = sorted(mine / other for mine, other in zip(TRAINING.ours, TRAINING.theirs or [], strict=True))
    assert median == pairs[1]
    assert (lower, upper) == pytest.approx(((pairs[0] + pairs[1]) / 2, (pairs[1] + pairs[2]) / 2))
    assert DECODING.ratio == (1.5, 1.5, 1.5)
    assert Race([1.0, 2.0], None, 4.0).ratio is None


def test_the_report_as_a_table() -> None:
    lines = str(report()).splitlines()
    assert lines[:3] == [f"  {name:<9}  {value}" for name, value in MACHINE.items()]
    assert lines[4:8] == [
        "Limits of this machine",
        "  products of fp32 matrices  149 GFLOP/s",
        "  products of bf16 matrices  695 GFLOP/s",
        "  reading memory               12.3 GB/s",
    ]
    assert lines[9:13] == [
        "tiny, 10,745,088 parameters",
        "  tokens/s  gptlib   limit  share  transformers    ratio (quartiles)",
        "  training   5,271  10,542   50 %         4,500  1.11 (1.11 to 1.31)",
        "  decoding     300     309   97 %           200  1.50 (1.50 to 1.50)",
    ]
    assert "16 x 256 tokens a step, in bf16." in lines[14]
    assert lines[-1] == "ratio:    gptlib by transformers 5.0, same weights, in turns."
    assert max(map(len, lines)) <= 80


def test_in_fp32_the_products_stand_there_once_and_without_a_peer_no_ratio_does() -> None:
    alone = Race([5000.0], None, limit=10_000)
    text = str(
        report(machine=MACHINE | {"precision": "fp32 (as asked)"}, training=alone, decoding=alone, peer="no such")
    )
    assert text.count("products of fp32 matrices") == 1
    assert "bf16" not in text
    assert "5,000  10,000   50 %             -                  -" in text
    assert text.endswith("\nno such")


def test_the_report_as_json() -> None:
    content = json.loads(json.dumps(report().to_dict()))
    assert content["limits"] == {
        "fp32_flops_per_second": 149e9,
        "flops_per_second": 695e9,
        "bytes_per_second": 12.34e9,
    }
    assert content["machine"] == MACHINE
    assert content["decoding"] == {
        "tokens_per_second": 300.0,
        "limit": 309.0,
        "share": 300 / 309,
        "ratio_quartiles": [1.5, 1.5, 1.5],
        "rounds": {"gptlib": [300.0], "transformers": [200.0]},
    }
    assert (content["n_parameters"], content["peer"]) == (10_745_088, "transformers 5.0")


# What the model needs of the machine


def test_bytes_read_to_write_a_token() -> None:
    gpt2 = GPTConfig.preset("gpt2")
    cache = 2 * 12 * 768 * 4  # a position
    assert bytes_per_token(gpt2, 1) == 4 * (124_439_808 - 1024 * 768) + cache
    assert bytes_per_token(gpt2, 100) - bytes_per_token(gpt2, 1) == 99 * cache
    # Untied, the table of embeddings is read a row at a time and the output map wholly: as much as before.
    assert bytes_per_token(GPTConfig.preset("gpt2", tie_weights=False), 7) == bytes_per_token(gpt2, 7)


def test_the_batch_suits_the_time_and_is_never_empty() -> None:
    config = GPTConfig.preset("shakespeare-gpu")
    row = training_flops(config, 256).total
    assert suitable_batch(config, 256, 80 * row, 5.0) == 5  # an eighth of a second at half speed
    assert suitable_batch(config, 256, 1.0, 60.0) == 1
    assert suitable_batch(config, 256, 1e18, 60.0) == 16
    assert suitable_batch(GPTConfig.preset("smollm2-135m"), 1024, 1e18, 60.0) == 4


def test_a_model_that_memory_does_not_hold_is_refused() -> None:
    needed = training_memory(GPTConfig(**TINY), 2)
    both = 2 * needed.total - needed["activations"]
    require_memory("tiny", needed, both)
    require_memory("tiny", needed, None)
    with pytest.raises(ValueError, match=r"preset 'tiny' needs 0 GB .* this device has 0 GB; choose a smaller one"):
        require_memory("tiny", needed, both - 1)


# Both sides do the same


@pytest.mark.parametrize("kind", [{}, LLAMA, {**LLAMA, "tie_weights": False}], ids=["gpt2", "llama", "untied"])
def test_the_peer_is_the_same_model_trains_the_same_and_writes_the_same(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = GPT(GPTConfig(**{**TINY, **kind}))
    theirs, name = find_peer(ours)
    assert name.startswith("transformers ")
    ids = torch.randint(23, (3, 7))

    def same() -> None:
        torch.testing.assert_close(theirs.eval()(ids).logits, ours.eval()(ids)[0], atol=1e-5, rtol=1e-4)

    same()
    before = ours(ids)[0].detach()
    for train in measuring._trainers(ours, theirs, batch_size=2, n_tokens=5, device="cpu", precision="fp32"):
        assert [train() for _ in range(3)] == [10, 10, 10]
    assert not torch.equal(ours(ids)[0], before)
    same()
    assert [write() for write in measuring._writers(ours, theirs, 8)] == [8, 8]
    prompt = torch.arange(4)[None]
    written = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    assert torch.equal(generate(ours, prompt, 8, temperature=0), written)


def test_without_such_a_model_in_transformers_the_reason_is_given() -> None:
    theirs, reason = find_peer(GPT(GPTConfig(**TINY, position="alibi")))
    assert theirs is None
    assert "no comparison with transformers: " in reason
    assert "alibi" in reason


# The whole


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny preset, and limits that are not measured."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setitem(PRESETS, "odd", {**TINY, "position": "alibi"})
    monkeypatch.setattr(turns, "TURN", 0.0)
    monkeypatch.setattr(measuring, "measure_limits", lambda device, precision, seconds: LIMITS)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_whole_run(precision: str) -> None:
    done: list[float] = []
    result = bench("tiny", seconds=0.01, batch_size=3, precision=precision, device="cpu", progress=done.append)
    assert result.n_parameters == parameters(GPTConfig(**TINY)).total
    assert (result.batch_size, result.n_tokens, result.n_written) == (3, 12, 4)
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)
    for race in (result.training, result.decoding):
        assert race.theirs is not None
        assert len(race.ours) == len(race.theirs) >= 3
        assert min(race.ours + race.theirs) > 0
    assert result.machine["precision"] == f"{precision} (as asked)"
    assert result.training.limit == LIMITS.flops_per_second * 12 / training_flops(GPTConfig(**TINY)).total
    assert result.decoding.limit == LIMITS.bytes_per_second / bytes_per_token(GPTConfig(**TINY), 10)


@pytest.mark.usefixtures("quick")
def test_a_run_without_a_peer() -> None:
    result = bench("odd", seconds=0.01, device="cpu")
    assert result.training.theirs is result.decoding.theirs is None
    assert "no comparison" in str(result)


def test_the_limits_are_measured() -> None:
    limits = measure_limits("cpu", "bf16", 0.01)
    assert min(limits.fp32_flops_per_second, limits.flops_per_second, limits.bytes_per_second) > 1e6
    limits = measure_limits("cpu", "fp32", 0.01)
    assert limits.fp32_flops_per_second == limits.flops_per_second


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"preset": "gtp2"}, "unknown preset 'gtp2'; did you mean 'gpt2'"),
        ({"seconds": 0}, "seconds=0 must be a time above 0"),
        ({"seconds": float("nan")}, "seconds=nan must be"),
        ({"batch_size": 0}, "batch_size=0 trains on nothing"),
        ({"precision": "fp8"}, "precision='fp8' is unknown"),
        ({"preset": "gpt3"}, "preset 'gpt3' needs .* GB to train two models"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bench(**{"device": "cpu", **arguments})
