"""Several processes train one model: with the loss of one, one writer, and a clear end when a process is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gptlib.training.checkpoint import read_tensors
from gptlib.training.distributed import Team

SCRIPT = """
import os, sys, threading, time
import torch
from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Corpus
from gptlib.training import Control

out, steps, optimizer, keep, slow = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(int(os.environ.get("RANK", "0")))  # the first process's weights are everybody's
text = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\\n" * 12
tokenizer = CharTokenizer.train(text)
model = GPT(GPTConfig(tokenizer.vocab_size, n_positions=8, n_embd=12, n_layer=2, n_head=3))
config = TrainConfig(
    steps=int(steps), batch_size=6, accumulation=2, save_every=4, eval_every=5, eval_windows=4, log_every=1, keep=keep,
    precision="fp32", optimizer=optimizer, device="cpu",
)
wait = lambda progress: time.sleep(float(slow))
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
print("weights", sum(p.double().sum().item() for p in model.parameters()), result.val_loss)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    processes: int, out: Path, *, steps: int = 12, optimizer="muon", keep="last", slow=0.0
) -> list[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", SCRIPT, str(out), str(steps), optimizer, keep, str(slow)]
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    port = str(free_port())
    started = []
    for rank in range(processes):
        told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = usual if processes == 1 else {**usual, **told}
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


@pytest.mark.parametrize(("optimizer", "keep"), [("adamw", "best"), ("muon", "last")])
def test_two_processes_have_the_losses_of_one(tmp_path, optimizer, keep):
    (alone,) = ended(start(1, tmp_path / "one", optimizer=optimizer, keep=keep))
    both = ended(start(2, tmp_path / "two", optimizer=optimizer, keep=keep))
    assert [code for code, _, _ in (alone, *both)] == [0, 0, 0], both[0][2] + both[1][2]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert len(losses(tmp_path / "two")) == 12
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[1]["val_loss"] == pytest.approx(results[0]["val_loss"], abs=1e-4)
    assert results[1]["tokens"] == results[0]["tokens"]
    first, second = (out.splitlines() for _, out, _ in both)
    assert any("2 processes" in line for line in first)
    assert second == first[-1:], "the second prints nothing of its own, and has the first's weights and loss in the end"


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


def test_a_killed_process_ends_the_run_with_a_sentence(tmp_path):
    started = start(2, tmp_path / "run", steps=400, slow=0.05)
    _wait_for_step(tmp_path / "run" / "log.jsonl", 6)
    started[1].kill()
    (code, _, err), (killed, _, _) = ended(started)
    assert killed == -signal.SIGKILL
    assert code == 1
    assert "another process of this run has ended" in err.splitlines()[-1]
    assert "resume" in err.splitlines()[-1]
    assert json.loads(read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["state"])["step"] >= 4
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_one_command_for_several(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 400, encoding="utf-8")
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-addr=127.0.0.1",
        f"--master-port={free_port()}",
    ]
    command = ["-m", "gptlib", "train", "--corpus", str(text), "--preset", "shakespeare-cpu", "--steps", "4"]
    settings = ["--precision", "fp32", "--device", "cpu", "--out"]
    for folder, before in (("one", []), ("two", launch)):
        arguments = [sys.executable, *before, *command, *settings, str(tmp_path / folder)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    assert two["val_loss"] == pytest.approx(one["val_loss"], abs=1e-3)


def test_a_batch_must_be_shared_evenly():
    Team(0, 3).check_batch(12)
    with pytest.raises(ValueError, match="batch_size=10 cannot be shared evenly by 3 processes; try 9 or 12"):
        Team(1, 3).check_batch(10)
    with pytest.raises(ValueError, match="try 4"):
        Team(0, 4).check_batch(3)


def test_rows_are_shared_out_once_each():
    rows = torch.arange(12).view(6, 2)
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(torch.cat(shares).flatten().tolist()) == list(range(12))
    assert torch.equal(Team().share(rows), rows)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [Team(3, 4, 1).device(name) for name in ("auto", "cuda", "cpu", "cuda:0")] == [
        "cuda:1",
        "cuda:1",
        "cpu",
        "cuda:0",
    ]
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
