"""The command as a user runs it. Bad input is tried inside this process, so that torch is loaded once."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlib import CharTokenizer, cli, load_model
from gptlib.training.checkpoint import read_tensors

VERSE = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 60
TRAIN = ("--preset", "shakespeare-cpu", "--precision", "fp32", "--device", "cpu", "--batch-size", "2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    command = [sys.executable, "-m", "gptlib", *map(str, arguments)]
    # Tests that were started in the background ignore Ctrl-C, and so would the child.
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
    return subprocess.Popen(command, env=ENVIRONMENT, **{**pipes, **heed, **options})


def run(*arguments: object) -> tuple[int, str, str]:
    child = process(*arguments)
    out, err = child.communicate(timeout=300)
    return child.returncode, out, err


@pytest.fixture
def gptlib(monkeypatch, capsys):
    """Call the command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["gptlib", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        said = capsys.readouterr()
        return exit.value.code or 0, said.out, said.err

    return call


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "verse.txt"
    path.write_text(VERSE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory) -> tuple[Path, str, str]:
    """A finished run, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "verse"
    code, out, err = run("train", "--corpus", text, *TRAIN, "--out", folder, "--steps", 40, "--save-every", 5)
    assert code == 0, err
    return folder, out, err


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def one_sentence(result: tuple[Any, str, str], *words: str, code: int = 2) -> None:
    status, _, err = result
    assert status == code, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("gptlib: ")
    for word in words:
        assert word in lines[0]


# Help


def test_help_names_the_commands() -> None:
    code, out, err = run("--help")
    assert code == 0
    assert err == ""
    for command in ("doctor", "train", "generate", "check", "grade", "bench"):
        assert command in out
    assert run()[:2] == (code, out)


@pytest.mark.parametrize("command", ["doctor", "train", "generate", "check", "grade", "export", "bench"])
def test_help_of_each_command_has_an_example(gptlib, command) -> None:
    code, out, _ = gptlib(command, "--help")
    assert code == 0
    assert f"Example: gptlib {command}" in out


def test_the_examples_of_the_help_use_options_that_exist(gptlib) -> None:
    for command in ("train", "generate", "check", "grade", "export", "bench"):
        _, out, _ = gptlib(command, "--help")
        options, example = out.split("Example:")
        for word in example.split():
            if word.startswith("--"):
                assert f"  {word} " in options


# Train, stop, go on, write


def test_a_run_from_start_to_end(finished) -> None:
    folder, out, err = finished
    assert "parameters: 4 layers, 4 heads, 128 wide, 64 positions" in out
    assert "device cpu (as asked); precision fp32 (as asked)" in out
    assert "tokens/s=" in err  # progress with rate
    assert "<" in err  # and time left, as in [00:01<00:03
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 40
    assert result["tokens"] == 40 * 2 * 64
    assert (result["precision"], result["threads"]) == ("fp32", 1)
    assert 0 < result["val_loss"] < 3.3
    assert f"validation loss {result['val_loss']:.4f} nats per token after 40 steps" in out


def test_ctrl_c_stops_with_the_state_saved_and_resume_ends_the_same(finished, text, tmp_path) -> None:
    folder = tmp_path / "run"
    arguments = ("train", "--corpus", text, *TRAIN, "--out", folder, "--steps", 40, "--save-every", 5)
    child = process(*arguments)
    deadline = time.monotonic() + 120
    while not (folder / "log.jsonl").exists() or not (folder / "log.jsonl").read_text():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    state = json.loads(read_tensors(folder / "checkpoint.safetensors")[1]["state"])
    assert f"stopped at step {state['step']} of 40; its state is in {folder}" in out
    assert "--resume" in out
    assert not (folder / "result.json").exists()
    code, out, err = run(*arguments, "--resume")
    assert code == 0, err
    assert f"resuming at step {state['step']} of 40" in out
    mine, theirs = (read_tensors(path / "model.safetensors")[0] for path in (folder, finished[0]))
    assert all((mine[name] == theirs[name]).all() for name in theirs)


def test_resuming_a_finished_run_says_so(gptlib, finished, text) -> None:
    folder = finished[0]
    before = contents(folder)
    code, out, _ = gptlib(
        "train", "--corpus", text, *TRAIN, "--out", folder, "--steps", 40, "--save-every", 5, "--resume"
    )
    assert code == 0
    assert "this run is finished: validation loss" in out
    assert contents(folder) == before


def test_nothing_to_resume_starts_afresh_and_says_so(gptlib, text, tmp_path) -> None:
    code, out, _ = gptlib("train", "--corpus", text, *TRAIN, "--out", tmp_path / "new", "--steps", 2, "--resume")
    assert code == 0
    assert f"nothing to resume in {tmp_path / 'new'}: starting afresh" in out


def test_the_gpu_preset_starts_on_the_cpu(gptlib, text, tmp_path) -> None:
    code, out, _ = gptlib(
        *("train", "--corpus", text, "--preset", "shakespeare-gpu", "--out", tmp_path / "run"),
        *("--steps", 2, "--batch-size", 2, "--device", "cpu"),
    )
    assert code == 0
    assert "6 layers, 6 heads, 384 wide, 256 positions" in out
    assert load_model(tmp_path / "run")[0].config.dropout == 0.2


def test_documents_are_read_with_byte_pairs(gptlib, tmp_path) -> None:
    (tmp_path / "tales.txt").write_text("One cat sat on a mat.<|endoftext|>" * 100, encoding="utf-8")
    code, _, _ = gptlib(
        *("train", "--corpus", tmp_path / "tales.txt", *TRAIN, "--out", tmp_path / "run"),
        *("--steps", 2, "--vocab-size", 270),
    )
    assert code == 0
    assert load_model(tmp_path / "run")[1].end_id is not None
    code, _, _ = gptlib("generate", tmp_path / "run", "--tokens", 5, "--seed", 1, "--device", "cpu")
    assert code == 0  # an empty prompt begins a document


def test_a_tokenized_text_is_trained_on(gptlib, text, tmp_path) -> None:
    tokens = tmp_path / "tokens"
    code, out, _ = gptlib("tokenize", "--corpus", text, "--out", tokens, "--tokenizer", "bpe", "--vocab-size", 300)
    assert code == 0
    assert re.search(r"^train: [\d,]+ tokens\nvalidation: [\d,]+ tokens\n", out)
    assert "BPETokenizer(vocab_size=293), 2 bytes a token, in " in out
    few = ("--steps", 2, "--accumulation", 2)
    settings = (*TRAIN, "--tokenizer", "bpe", "--vocab-size", 300)
    assert gptlib("train", "--corpus", tokens, *TRAIN, *few, "--out", tmp_path / "disk")[0] == 0
    assert gptlib("train", "--corpus", text, *settings, *few, "--out", tmp_path / "memory")[0] == 0
    disk, memory = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("disk", "memory"))
    assert disk["val_loss"] == memory["val_loss"]
    assert disk["tokens"] == 2 * 2 * 2 * 64
    assert load_model(tmp_path / "disk")[1].encode("the cat") == load_model(tmp_path / "memory")[1].encode("the cat")
    again = ("train", "--corpus", tokens, *TRAIN, "--steps", 2, "--tokenizer", "char", "--out", tmp_path / "no")
    one_sentence(gptlib(*again), "holds token ids", "--tokenizer char comes too late")
    one_sentence(gptlib("tokenize", "--corpus", text, "--out", tokens), "is not empty; name a new folder")


def test_a_tokenizer_that_is_there_is_used(gptlib, text, tmp_path) -> None:
    CharTokenizer.train(VERSE + "xyz").save(tmp_path / "tokenizer.json")
    for name, size in ((tmp_path / "tokenizer.json", len(set(VERSE + "xyz"))), (tmp_path, 0), ("tales", 1024)):
        out = tmp_path / f"out{size}"
        code, said, _ = gptlib("tokenize", "--corpus", text, "--out", out, "--tokenizer", name)
        assert code == 0
        assert f"vocab_size={size or len(set(VERSE + 'xyz'))})" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--corpus", "missing.txt"], ["missing.txt", "neither a file"]),
        (["--tokenizer", "word"], ["no tokenizer 'word'", "char or bpe"]),
        (["--tokenizer", "runs/none"], ["runs/none"]),
        (["--tokenizer", "."], ["holds no tokenizer"]),
        (["--vocab-size", "12", "--tokenizer", "bpe"], ["vocab_size=12", "at least 257"]),
        (["--held-back", "0"], ["held_back=0.0", "between 0 and 1"]),
        (["--held-back", "1.5"], ["held_back=1.5", "between 0 and 1"]),
        (["--max-tokens", "0"], ["--max-tokens 0", "1 or more"]),
        (["--corpus", "latin.txt"], ["latin.txt", "UTF-8"]),
        (["--corpus", "empty.txt"], ["empty"]),
    ],
)
def test_arguments_of_tokenize_that_cannot_be(gptlib, text, bad_files, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(bad_files)
    before = sorted(bad_files.iterdir())
    one_sentence(gptlib("tokenize", "--corpus", text, "--out", "tokens", *arguments), *words)
    assert sorted(bad_files.iterdir()) == before


def test_ctrl_c_ends_tokenizing_and_leaves_nothing(tmp_path) -> None:
    (tmp_path / "large.txt").write_text(VERSE * 20_000, encoding="utf-8")
    child = process("tokenize", "--corpus", tmp_path / "large.txt", "--out", tmp_path / "tokens", "--tokenizer", "bpe")
    deadline = time.monotonic() + 60
    while not (tmp_path / "tokens" / "train.bin").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped, and nothing was left in" in err
    assert "Traceback" not in err
    assert not (tmp_path / "tokens").exists()


def test_seeds_decide_the_run(gptlib, text, tmp_path) -> None:
    losses = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        gptlib("train", "--corpus", text, *TRAIN, "--out", tmp_path / name, "--steps", 2, "--seed", seed)
        losses.append(json.loads((tmp_path / name / "result.json").read_text())["val_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_generate_writes_after_the_prompt(gptlib, finished) -> None:
    arguments = ("generate", finished[0], "--prompt", "the cat", "--tokens", 30, "--device", "cpu")
    code, out, err = gptlib(*arguments, "--seed", 1)
    assert code == 0
    assert err == ""
    assert out.startswith("the cat")
    assert len(out) == len("the cat") + 30 + 1
    assert gptlib(*arguments, "--seed", 1)[1] == out
    assert gptlib(*arguments, "--seed", 2)[1] != out
    greedy = gptlib(*arguments, "--temperature", 0)[1]
    assert gptlib(*arguments, "--top-k", 1)[1] == greedy
    assert gptlib(*arguments, "--top-p", 0.001)[1] == greedy


def test_generate_filters_and_penalises_as_asked(gptlib, finished) -> None:
    arguments = ("generate", finished[0], "--prompt", "the cat", "--tokens", 30, "--device", "cpu", "--seed", 1)
    free, greedy = gptlib(*arguments)[1], gptlib(*arguments, "--temperature", 0)[1]
    assert gptlib(*arguments, "--min-p", 1)[1] == greedy
    assert gptlib(*arguments, "--min-p", 0, "--repetition-penalty", 1)[1] == free
    assert gptlib(*arguments, "--repetition-penalty", 50, "--temperature", 0)[1] != greedy


def test_generate_ends_before_a_stop_string(gptlib, finished) -> None:
    arguments = ("generate", finished[0], "--prompt", "the cat", "--tokens", 30, "--device", "cpu", "--seed", 1)
    written = gptlib(*arguments)[1].rstrip("\n").removeprefix("the cat")
    stop = written[10:13]
    shorter = gptlib(*arguments, "--stop", "never in it", "--stop", stop)[1]
    assert shorter == "the cat" + written[: written.index(stop)] + "\n"


def test_generate_searches_with_beams(gptlib, finished) -> None:
    from gptlib.generation import search_text

    arguments = ("generate", finished[0], "--prompt", "the cat", "--tokens", 20, "--device", "cpu")
    assert gptlib(*arguments, "--beams", 1)[1] == gptlib(*arguments, "--temperature", 0)[1]
    best = search_text(*load_model(finished[0]), "the cat", 20, beams=4)
    assert gptlib(*arguments, "--beams", 4)[1] == f"the cat{best}\n"
    assert gptlib(*arguments, "--beams", 4, "--stop", best[5:8])[1] == f"the cat{best[: best.index(best[5:8])]}\n"
    code, out, err = gptlib(*arguments[:-4], "--tokens", 90, "--device", "cpu", "--beams", 2)
    assert (code, len(out)) == (0, 64 + 1)  # all positions, and the line's end
    assert err == "gptlib: the context holds 64 tokens; the search looks no further\n"


def test_generate_goes_on_beyond_the_context_and_says_so(gptlib, finished) -> None:
    code, out, err = gptlib("generate", finished[0], "--prompt", "the", "--tokens", 100, "--seed", 1, "--device", "cpu")
    assert code == 0
    assert len(out) == 3 + 100 + 1
    assert err == "gptlib: the context holds 64 tokens; when it is full, its older half is forgotten\n"


def test_generate_streams_and_stops_cleanly(finished) -> None:
    arguments = ("generate", finished[0], "--prompt", "the", "--tokens", 10**7, "--device", "cpu")
    child = process(*arguments)
    assert child.stdout.read(20).startswith("the")  # long before the end
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err
    child = process(*arguments)  # as in `gptlib generate … | head`
    child.stdout.read(20)
    child.stdout.close()
    err = child.stderr.read()
    assert child.wait(60) != 0
    assert "Traceback" not in err
    assert "Broken pipe" not in err


# Bad input


@pytest.fixture
def bad_files(tmp_path) -> Path:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "less-than-a-window.txt").write_text("the cat sat on the mat.\n" * 20)
    (tmp_path / "latin.txt").write_bytes(("é" * 500).encode("latin-1"))
    (tmp_path / "empty-folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.txt", ["missing.txt", "neither a file"]),
        ("empty.txt", ["empty"]),
        ("short.txt", ["9 characters", "longer text"]),
        ("less-than-a-window.txt", ["48 tokens", "needs 65", "longer text"]),
        ("latin.txt", ["latin.txt", "UTF-8"]),
        ("empty-folder", ["empty-folder"]),
    ],
)
def test_texts_that_cannot_be_trained_on(gptlib, bad_files, name, words) -> None:
    out = bad_files / "run"
    one_sentence(gptlib("train", "--corpus", bad_files / name, *TRAIN, "--out", out), *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "shakespear-cpu"], ["'shakespear-cpu'", "did you mean 'shakespeare-cpu'"]),
        (["--preset", "gpt3"], ["'gpt3'", "presets with one: "]),
        (["--steps", "0"], ["steps=0", "at least 1"]),
        (["--steps", "-3"], ["steps=-3", "at least 1"]),
        (["--steps", "many"], ["--steps", "integer"]),
        (["--batch-size", "0"], ["batch_size=0", "at least 1"]),
        (["--learning-rate", "0"], ["learning_rate=0.0", "above 0"]),
        (["--learning-rate", "nan"], ["learning_rate=nan", "above 0"]),
        (["--save-every", "0"], ["save_every=0", "at least 1"]),
        (["--seed", "-1"], ["seed=-1"]),
        (["--seed", "9" * 40], ["seed=999"]),
        (["--precision", "fp16"], ["'fp16'", "auto, fp32"]),
        (["--device", "abacus"], ["'abacus'", "try 'auto' or 'cpu'"]),
        (["--tokenizer", "word"], ["'word'", "auto, char or bpe"]),
        (["--tokenizer", "bpe", "--vocab-size", "3"], ["vocab_size=3", "at least 257"]),
        (["--accumulation", "0"], ["accumulation=0", "at least 1"]),
        (["--shard"], ["one process", "torchrun", "leave out --shard"]),
        (["--colour", "red"], ["--colour", "--help"]),
        (["--out"], ["--out"]),
    ],
)
def test_options_of_train_out_of_range(gptlib, text, tmp_path, arguments, words) -> None:
    out = tmp_path / "run"
    one_sentence(gptlib("train", "--corpus", text, *TRAIN, "--out", out, *arguments), *words)
    assert not out.exists()


def test_what_is_left_out_is_asked_for(gptlib) -> None:
    one_sentence(gptlib("train", "--corpus", "x"), "Missing option", "--preset", "train --help")
    one_sentence(gptlib("generate"), "Missing argument", "generate --help")
    one_sentence(gptlib("trian"), "'trian'", "--help")


def test_without_network_the_offline_corpora_are_named(gptlib, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gptlib.corpora.downloads.SHAKESPEARE_URL", "http://127.0.0.1:9/input.txt")
    result = gptlib("train", "--corpus", "tinyshakespeare", *TRAIN, "--out", tmp_path / "run")
    one_sentence(result, "127.0.0.1:9", str(tmp_path / "cache"), "tales")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(gptlib, finished, text) -> None:
    folder = finished[0]
    before = contents(folder)
    arguments = ("train", "--corpus", text, *TRAIN, "--out", folder)
    one_sentence(gptlib(*arguments, "--steps", 40), str(folder), "already holds a run (step 40 of 40)", "--resume")
    one_sentence(gptlib(*arguments, "--steps", 41, "--resume"), "steps=40", "steps=41", "same settings")
    preset = ("--preset", "tales", "--batch-size", 2, "--resume")
    one_sentence(gptlib("train", "--corpus", text, "--out", folder, *preset), "n_", "and this one", "another folder")
    assert contents(folder) == before


def test_out_may_not_be_a_file(gptlib, text) -> None:
    one_sentence(gptlib("train", "--corpus", text, *TRAIN, "--out", text), f"{text} is a file; name a folder")
    assert text.read_text(encoding="utf-8") == VERSE


def test_a_damaged_checkpoint_is_named_and_kept(gptlib, text, tmp_path) -> None:
    arguments = ("train", "--corpus", text, *TRAIN, "--out", tmp_path, "--steps", 2)
    assert gptlib(*arguments)[0] == 0
    (tmp_path / "result.json").unlink()
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    before = contents(tmp_path)
    one_sentence(gptlib(*arguments, "--resume"), "checkpoint.safetensors", "no readable safetensors file")
    assert contents(tmp_path) == before


def test_a_loss_that_is_no_number_is_exit_1(gptlib, text, tmp_path) -> None:
    code, _, err = gptlib(
        "train", "--corpus", text, *TRAIN, "--out", tmp_path / "run", "--steps", 30, "--learning-rate", 1e30
    )
    assert code == 1
    assert "Traceback" not in err
    assert "a learning_rate below 1e+30" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "-1"], ["temperature=-1.0", "0 (greedy) or above"]),
        (["--temperature", "nan"], ["temperature=nan"]),
        (["--top-k", "0"], ["top_k=0", "1 or more"]),
        (["--top-p", "0"], ["top_p=0.0", "above 0 and at most at 1"]),
        (["--top-p", "1.01"], ["top_p=1.01", "above 0 and at most at 1"]),
        (["--min-p", "1.5"], ["min_p=1.5", "between 0"]),
        (["--repetition-penalty", "0"], ["repetition_penalty=0.0", "above 0"]),
        (["--beams", "0"], ["--beams 0", "1 (greedy) or more"]),
        (["--beams", "2", "--temperature", "0.5"], ["--beams 2 draws nothing", "drop one"]),
        (["--beams", "2", "--seed", "5"], ["--beams 2 draws nothing", "drop one"]),
        (
            ["--beams", "2", "--prompt", "the cat sat on the mat. " * 3],
            ["72 prompt tokens", "n_positions=64"],
        ),
        (["--stop", ""], ["stop=''", "at least one letter"]),
        (["--tokens", "0"], ["--tokens 0", "1 or more"]),
        (["--seed", "-1"], ["seed=-1"]),
        (["--device", "abacus"], ["'abacus'", "'cpu'"]),
        (["--prompt", "Ω"], ["'Ω'", "position 0"]),
        (["--prompt", ""], ["prompt is empty", "give a letter"]),
        (["--top-k", "few"], ["--top-k", "integer"]),
    ],
)
def test_options_of_generate_out_of_range(gptlib, finished, arguments, words) -> None:
    # Seven tokens fit into the context, so no note about it is due.
    result = gptlib("generate", finished[0], "--prompt", "the", "--tokens", 7, "--device", "cpu", *arguments)
    one_sentence(result, *words)
    assert result[1] == ""


def test_models_that_are_not_there(gptlib, tmp_path) -> None:
    for source, words in (
        ("xyzzy", ["'xyzzy'", "bundled models"]),
        (tmp_path, [str(tmp_path), "config.json"]),
        (tmp_path / "none", [str(tmp_path / "none"), "folder of a run"]),
    ):
        one_sentence(gptlib("generate", source, "--prompt", "a", "--device", "cpu"), *words)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_models_are_named(gptlib, finished, tmp_path, name) -> None:
    for path in finished[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(b"\x00garbage")
    before = contents(tmp_path)
    one_sentence(gptlib("generate", tmp_path, "--prompt", "the", "--tokens", 7, "--device", "cpu"), name)
    assert contents(tmp_path) == before


# Export


def test_a_run_is_exported_and_loads_again(gptlib, finished, tmp_path) -> None:
    folder, *_ = finished
    code, out, _ = gptlib("export", folder, "--to", "huggingface", "--out", tmp_path / "new")
    assert code == 0
    assert out.startswith(f"{folder} is a LlamaForCausalLM in {tmp_path / 'new'}, and loads with AutoModelForCausalLM")
    (ours, tokenizer), (theirs, their_tokenizer) = load_model(folder), load_model(tmp_path / "new")
    ids = torch.tensor([tokenizer.encode("the cat sat")])
    assert their_tokenizer.encode("the cat sat") == ids[0].tolist()
    torch.testing.assert_close(theirs(ids)[0], ours(ids)[0])


def test_exports_that_cannot_be(gptlib, finished, text, tmp_path) -> None:
    folder, *_ = finished
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments, words in (
        ((folder, "--to", "onnx", "--out", tmp_path / "a"), "--to onnx is unknown; huggingface is the one format"),
        ((tmp_path / "nothing", "--out", tmp_path / "a"), "there is no model"),
        ((folder, "--out", text), "is a file, and a folder is needed"),
        ((folder, "--out", folder), "holds a run, which the export would overwrite"),
        ((folder,), "Missing option '--out'"),
    ):
        code, _, err = gptlib("export", *arguments)
        assert code == 2
        assert words in err
        assert err.count("\n") == 1
        assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "a").exists()


# Bench


def test_bench_prints_a_table_and_writes_every_round(gptlib, monkeypatch, tmp_path) -> None:
    from gptlib.bench import Limits, measuring, turns
    from gptlib.config import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", {"vocab_size": 23, "n_positions": 12, "n_embd": 24, "n_layer": 2, "n_head": 6})
    monkeypatch.setattr(turns, "TURN", 0.0)
    monkeypatch.setattr(measuring, "measure_limits", lambda device, precision, seconds: Limits(2e9, 2e9, 3e9))
    file = tmp_path / "bench.json"
    options = ("--preset", "tiny", "--seconds", 0.01, "--batch-size", 2, "--precision", "fp32", "--device", "cpu")
    code, out, err = gptlib("bench", *options, "--json", file)
    assert code == 0, err
    assert "products of fp32 matrices  2 GFLOP/s" in out
    assert "2 x 12 tokens a step, in fp32" in out
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["preset"] == "tiny"
    assert len(content["training"]["rounds"]["gptlib"]) >= 3


def test_arguments_of_bench_that_cannot_be(gptlib, tmp_path) -> None:
    for arguments, words in (
        (("--preset", "tals"), "unknown preset 'tals'; did you mean 'tales'"),
        (("--seconds", 0), "seconds=0.0 must be a time above 0"),
        (("--seconds", "long"), "'--seconds'"),
        (("--batch-size", 0), "batch_size=0 trains on nothing"),
        (("--preset", "gpt3"), "'gpt3' needs"),
        (("--precision", "fp8"), "precision='fp8' is unknown"),
        (("--json", tmp_path), "is a folder"),
        (("--json", tmp_path / "none" / "x.json"), "is in no folder that exists"),
    ):
        result = gptlib("bench", "--device", "cpu", *arguments)
        one_sentence(result, words)
        assert result[1] == ""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_a_bench_without_a_traceback(tmp_path) -> None:
    file = tmp_path / "bench.json"
    child = process("bench", "--preset", "shakespeare-cpu", "--seconds", 12, "--device", "cpu", "--json", file)
    assert child.stderr is not None
    assert child.stderr.read(1)  # the progress line: limits are measured, the models are at work
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    assert not file.exists()


def test_evaluate_sets_loss_beside_floor(gptlib) -> None:
    code, out, _ = gptlib("evaluate", "tales", "--stories", "40")
    assert code == 0
    loss, floor, ratio = (float(line.split()[0]) for line in out.splitlines()[:3])
    assert ratio == pytest.approx(loss / floor, abs=2e-3)
    assert 1 < ratio < 1.1
    assert "recall      seen" in out
    assert "fact        untold" in out
    assert "KL from the truth" in out


def test_what_cannot_be_evaluated(gptlib, finished, tmp_path) -> None:
    code, _, err = gptlib("evaluate", "tales", "--stories", "0")
    assert (code, "--stories 0" in err) == (2, True)
    code, _, err = gptlib("evaluate", tmp_path / "nowhere")
    assert code == 2
    assert err.count("\n") == 1


def test_notebooks_that_cannot_be_checked(gptlib, tmp_path) -> None:
    one_sentence(gptlib("check", tmp_path / "missing.ipynb"), "missing.ipynb")
    (tmp_path / "text.ipynb").write_text("not a notebook")
    one_sentence(gptlib("check", tmp_path / "text.ipynb"), "text.ipynb")


def test_a_bad_argument_in_a_process_of_its_own() -> None:
    one_sentence(run("train", "--corpus", "x", "--preset", "tales", "--out", "y", "--steps", 0), "steps=0")
