"""Several processes train one model: with the loss of one, one writer, and a clear end when a process is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlib.training import TokenData
from gptlib.training.checkpoint import read_tensors
from gptlib.training.distributed import Team

SCRIPT = """
import os, sys, threading, time
import torch
from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Corpus
from gptlib.training import Control

out, steps, optimizer, keep, slow, shard, stop, precision, compiled = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(int(os.environ.get("RANK", "0")))  # the first process's weights are everybody's
text = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\\n" * 12
tokenizer = CharTokenizer.train(text)
model = GPT(GPTConfig(tokenizer.vocab_size, n_positions=8, n_embd=12, n_layer=2, n_head=3))
config = TrainConfig(
    steps=int(steps), batch_size=6, accumulation=2, save_every=4, eval_every=5, eval_windows=4, log_every=1, keep=keep,
    precision=precision, optimizer=optimizer, device="cpu", shard=shard == "True", compile=compiled == "True",
)
def wait(progress):
    time.sleep(float(slow))
    progress.stop = progress.step == int(stop)
control = Control()
if slow == "paused" and os.environ["RANK"] == "0":  # somebody pauses at the first process, and stops there
    control.pause()
    def stop_when_paused():
        while not os.path.exists(f"{out}/checkpoint.safetensors"):  # it is saved when the pause begins
            time.sleep(0.05)
        time.sleep(0.5)
        control.stop()
    threading.Thread(target=stop_when_paused, daemon=True).start()
result = train(
    model, Corpus("verse", text[:650], text[650:]), tokenizer, config, out=out, resume=True, verbose=True,
    on_step=None if slow == "paused" else wait, control=control,
)
held = [p.to_local() if hasattr(p, "to_local") else p for p in model.parameters()]
print("holds", sum(p.numel() for p in held))
print("weights", None if shard == "True" else sum(p.double().sum().item() for p in held), result.val_loss)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(processes: int, out: Path, *, outs: Sequence[Path] = (), **changes: object) -> list[subprocess.Popen[str]]:
    """Begin a run; `outs` gives each process a folder of its own."""
    usual_settings = {"steps": 12, "optimizer": "muon", "keep": "last", "slow": 0.0, "shard": False, "stop": 0}
    settings = {**usual_settings, "precision": "fp32", "compiled": False, **changes}
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    port = str(free_port())
    started = []
    for rank in range(processes):
        told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = usual if processes == 1 else {**usual, **told}
        arguments = [sys.executable, "-c", SCRIPT, str(outs[rank] if outs else out), *map(str, settings.values())]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(arguments, env=environment, **pipes))
    return started


def ended(started: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    found = []
    for process in started:
        out, err = process.communicate(timeout=180)
        found.append((process.returncode, out, err))
    return found


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize(("optimizer", "keep"), [("adamw", "best"), ("muon", "last")])
def test_two_processes_have_the_losses_of_one(tmp_path, optimizer, keep, shard):
    (alone,) = ended(start(1, tmp_path / "one", optimizer=optimizer, keep=keep))
    both = ended(start(2, tmp_path / "two", optimizer=optimizer, keep=keep, shard=shard))
    assert [code for code, _, _ in (alone, *both)] == [0, 0, 0], both[0][2] + both[1][2]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert len(losses(tmp_path / "two")) == 12
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[1]["val_loss"] == pytest.approx(results[0]["val_loss"], abs=1e-4)
    assert results[1]["tokens"] == results[0]["tokens"]
    weights = [read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=0, msg=name)
    first, second = (out.splitlines() for _, out, _ in both)
    assert any(f"2 processes{', each with a part of the model' * shard}" in line for line in first)
    assert second[-1] == first[-1], "the second has the first's weights and loss in the end"
    assert len(second) == 2, "and prints nothing of its own"
    whole, parts = int(alone[1].splitlines()[-2].split()[1]), [int(out[-2].split()[1]) for out in (first, second)]
    if shard:
        assert sum(parts) == whole, "each weight is held by one of them"
        assert max(parts) < 0.6 * whole
    else:
        assert parts == [whole, whole]


@pytest.mark.parametrize("shard", [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_processes_have_nearly_the_losses_of_one_in_bf16(tmp_path, shard):
    ended(start(1, tmp_path / "one", precision="bf16"))
    both = ended(start(2, tmp_path / "two", precision="bf16", shard=shard))
    assert [code for code, _, _ in both] == [0, 0], both[0][2] + both[1][2]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_two_compiled_processes_have_the_losses_of_one(tmp_path, shard):
    ended(start(1, tmp_path / "one"))
    both = ended(start(2, tmp_path / "two", compiled=True, shard=shard))
    assert [code for code, _, _ in both] == [0, 0], both[0][2] + both[1][2]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


@pytest.mark.parametrize("keep", [pytest.param("last", marks=pytest.mark.slow), "best"])
def test_a_checkpoint_does_not_say_how_many_wrote_it(tmp_path, keep):
    whole, run = tmp_path / "whole", tmp_path / "run"
    ended(start(1, whole, steps=13, keep=keep))
    for processes, shard, stop in ((2, True, 3), (1, False, 6), (2, False, 7), (2, True, 10), (1, False, 0)):
        done = ended(start(processes, run, steps=13, keep=keep, shard=shard, stop=stop))
        assert [code for code, _, _ in done] == [0] * processes, done
        step = json.loads(read_tensors(run / "checkpoint.safetensors")[1]["state"])["step"]
        assert step == stop or (step, stop) == (13, 0)
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)
    tensors = [read_tensors(folder / "checkpoint.safetensors")[0] for folder in (whole, run)]
    assert {n: t.shape for n, t in tensors[0].items()} == {n: t.shape for n, t in tensors[1].items()}
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, run)]
    assert results[1]["val_loss"] == pytest.approx(results[0]["val_loss"], abs=1e-4)


def test_processes_that_see_different_runs_are_told(tmp_path):
    ended(start(1, tmp_path / "one", stop=4))
    both = ended(start(2, tmp_path, outs=[tmp_path / "one", tmp_path / "other"]))
    assert [code for code, _, _ in both] == [1, 1]
    assert all("not all processes have the same settings, corpus and run" in err.splitlines()[-1] for _, _, err in both)
    state = json.loads(read_tensors(tmp_path / "one" / "checkpoint.safetensors")[1]["state"])
    assert state["step"] == 4


def test_when_the_first_refuses_the_others_stop_too(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_text("somebody's")
    first, second = ended(start(2, tmp_path / "run"))
    assert first[0] == second[0] == 1
    assert "of something else than a run" in first[2].splitlines()[-1]
    assert "process 1 of 2: another one refuses this run" in second[2].splitlines()[-1]


def test_one_stops_and_all_stop_and_go_on(tmp_path):
    whole = tmp_path / "whole"
    ended(start(1, whole))
    started = start(2, tmp_path / "run", slow=0.2)
    _wait_for_step(tmp_path / "run" / "log.jsonl", 3)
    started[1].send_signal(signal.SIGTERM)  # not the one that writes
    assert [code for code, _, _ in ended(started)] == [0, 0]
    step = json.loads(read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["state"])["step"]
    assert 3 <= step < 12
    assert [code for code, _, _ in ended(start(2, tmp_path / "run"))] == [0, 0]
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), abs=1e-4)


def test_a_stop_during_a_pause_of_the_first_reaches_the_others(tmp_path):
    both = ended(start(2, tmp_path / "run", steps=400, slow="paused"))
    assert [code for code, _, _ in both] == [0, 0], both[0][2] + both[1][2]
    state = json.loads(read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["state"])
    assert state["step"] == 2  # the step after which it paused, and the one after which all stopped


@pytest.mark.parametrize(("shard", "victim"), [(False, 1), (True, 1), (False, 0)])
def test_a_killed_process_ends_the_run_with_a_sentence(tmp_path, shard, victim):
    started = start(2, tmp_path / "run", steps=400, slow=0.05, shard=shard)
    _wait_for_step(tmp_path / "run" / "log.jsonl", 6)
    started[victim].kill()
    done = ended(started)
    (code, _, err), (killed, _, _) = done[1 - victim], done[victim]
    assert killed == -signal.SIGKILL
    assert code == 1
    assert "another process of this run has ended" in err.splitlines()[-1]
    assert "resume" in err.splitlines()[-1]
    assert json.loads(read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["state"])["step"] >= 4
    assert not (tmp_path / "run" / "result.json").exists()
    assert [code for code, _, _ in ended(start(1, tmp_path / "run", steps=400, stop=20))] == [0]


TRAIN = ["-m", "gptlib", "train", "--preset", "shakespeare-cpu", "--precision", "fp32", "--device", "cpu"]


def launchers(port: int) -> dict[str, list[list[str]]]:
    """Ways to start two processes, each as the commands that are given at the same time."""
    torchrun = ["-m", "torch.distributed.run"]
    nodes = [
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        "--rdzv-id=1",
        f"--rdzv-endpoint=127.0.0.1:{port}",
    ]
    accelerate = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    plain = ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}"]
    return {
        "torchrun": [[*torchrun, "--standalone", "--nproc-per-node=2"]],
        "two machines": [[*torchrun, *nodes]] * 2,
        "accelerate": [[*accelerate, *plain]],
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shard"), [("torchrun", False), ("two machines", True), ("accelerate", False)])
def test_one_command_for_several(tmp_path, name, shard):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 400, encoding="utf-8")
    # `accelerate` has no word for several processes on a CPU; its word for several GPUs starts them there as well.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for folder, commands in (("one", [[]]), ("two", launchers(free_port())[name])):
        rest = ["--corpus", str(text), "--steps", "4", "--out", str(tmp_path / folder)]
        rest += ["--shard"] if shard and folder == "two" else []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        runs = [subprocess.Popen([sys.executable, *c, *TRAIN, *rest], env=environment, **pipes) for c in commands]
        done = ended(runs)
        assert [code for code, _, _ in done] == [0] * len(runs), done
        assert any("2 processes" in out for _, out, _ in done) == (folder == "two")
    one, two = (json.loads((tmp_path / folder / "result.json").read_text()) for folder in ("one", "two"))
    assert two["val_loss"] == pytest.approx(one["val_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_launcher_that_is_told_to_end_leaves_the_state_saved(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 400, encoding="utf-8")
    (before,) = launchers(free_port())["torchrun"]
    rest = ["--corpus", str(text), "--steps", "5000", "--save-every", "5000", "--out", str(tmp_path / "run")]
    run = subprocess.Popen([sys.executable, *before, *TRAIN, *rest], env={**os.environ, "OMP_NUM_THREADS": "1"})
    _wait_for_step(tmp_path / "run" / "log.jsonl", 20)
    run.terminate()  # as Slurm does before the time limit
    run.wait(timeout=120)
    state = json.loads(read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["state"])
    assert 20 <= state["step"] < 5000


def test_a_batch_must_be_shared_evenly():
    Team(0, 3).check(12, shard=True)
    with pytest.raises(ValueError, match="batch_size=10 cannot be shared evenly by 3 processes; try 9 or 12"):
        Team(1, 3).check(10, shard=False)
    with pytest.raises(ValueError, match="try 4"):
        Team(0, 4).check(3, shard=False)
    with pytest.raises(ValueError, match=r"start several with torchrun, or leave out --shard"):
        Team().check(3, shard=True)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 100))
def test_windows_are_shared_out_once_each(size, each, step):
    data = TokenData(torch.arange(500, dtype=torch.int32))
    whole = data.batch(step, size * each, 7, seed=3)
    shares = [data.batch(step, size * each, 7, 3, Team(rank, size).rows) for rank in range(size)]
    for i in (0, 1):
        assert all(share[i].shape == (each, 7) for share in shares)
        assert sorted(torch.cat([share[i] for share in shares]).tolist()) == sorted(whole[i].tolist())
    assert torch.equal(data.batch(step, size * each, 7, 3, Team().rows)[0], whole[0])


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [Team(3, 4, 1).device(name) for name in ("auto", "cuda", "cpu")] == [
        "cuda:1",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(ValueError, match=r"device='cuda:0' would be that of all 4 processes; say cuda"):
        Team(3, 4, 1).device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Team(3, 4, 1).device("auto") == "cpu", "an Apple GPU cannot take part"
    assert [Team().device(name) for name in ("auto", "cuda")] == ["auto", "cuda"]


def test_a_half_said_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE=2 and no RANK; start with torchrun"):
        Team.from_environment()


def _wait_for_step(log: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and f'{{"step": {step},' in log.read_text(encoding="utf-8"):
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {step}")
