"""The loop inside one process: what it learns, what it writes, how it is stopped and gone on with."""

import dataclasses
import hashlib
import json
import math
import signal
import threading
from pathlib import Path

import pytest
import torch

from gptlib import GPT, CharTokenizer, load_model, load_tokenizer
from gptlib.corpora import Corpus
from gptlib.training import Progress, TokenData, evaluate, tokenize_corpus
from gptlib.training import loop as room
from gptlib.training.checkpoint import read_tensors, write_tensors


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What it learns


def test_a_periodic_text_is_learned_to_nearly_nothing(small) -> None:
    text = "abcd" * 60
    corpus, tokenizer = Corpus("period", text, text), CharTokenizer.train(text)
    model = dataclasses.replace(small, corpus=corpus, tokenizer=tokenizer).model()
    result = room.train(
        model, corpus, tokenizer, small.config(steps=150, learning_rate=1e-2, log_every=1), verbose=False
    )
    assert result.log[0]["loss"] == pytest.approx(math.log(4), abs=0.1)
    assert result.train_loss < 0.01
    assert result.val_loss < 0.01


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_real_words_are_learned_and_the_loss_falls(small, optimizer) -> None:
    _, result = small.train(steps=80, learning_rate=1e-2, log_every=1, optimizer=optimizer)
    losses = [entry["loss"] for entry in result.log]
    assert losses[0] == pytest.approx(math.log(small.tokenizer.vocab_size), abs=0.15)
    assert sum(losses[-10:]) / 10 < losses[0] - 0.6
    assert result.val_loss < math.log(small.tokenizer.vocab_size) - 0.6


def test_one_batch_can_be_overfitted(small, monkeypatch) -> None:
    batch = TokenData.batch
    monkeypatch.setattr(TokenData, "batch", lambda data, step, *rest: batch(data, 0, *rest))
    _, result = small.train(steps=300, learning_rate=2e-2, weight_decay=0.0, warmup_steps=10)
    assert result.train_loss < 0.5  # of the 2.9 that knowing nothing costs; the first characters stay ambiguous


def test_accumulated_gradients_are_those_of_the_large_batch(small, weights) -> None:
    model = small.model()
    data, _ = tokenize_corpus(small.corpus, small.tokenizer, 8)
    config = small.config(batch_size=5, accumulation=2)
    loss = room._accumulate(model, data, 3, config, model, "cpu", lambda: torch.autocast("cpu", enabled=False))
    parts = [data.batch(3 * 2 + i, 5, 8, config.seed) for i in range(2)]
    inputs, targets = (torch.cat([part[i] for part in parts]) for i in range(2))
    twin = small.model()
    _, expected = twin(inputs, targets)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_no_batch_is_used_twice_when_accumulating(small, monkeypatch) -> None:
    seen: list[int] = []
    batch = TokenData.batch
    monkeypatch.setattr(TokenData, "batch", lambda data, step, *rest: (seen.append(step), batch(data, step, *rest))[1])
    small.train(steps=5, accumulation=3)
    assert seen == list(range(15))


def test_validation_loss_is_that_of_the_whole_split_in_fp32(small) -> None:
    model, result = small.train(precision="bf16", eval_windows=2)
    _, validation = tokenize_corpus(small.corpus, small.tokenizer, 8)
    assert result.val_loss == evaluate(model, validation)
    assert not model.training


def test_a_run_repeats_itself_to_the_last_bit_and_the_seed_matters(small, weights) -> None:
    first, again, other = (small.train(seed=seed, dropout=0.1, steps=8)[0] for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


# What it writes


def test_a_finished_run_leaves_what_the_contract_names(small, tmp_path, weights) -> None:
    model, result = small.train(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "result.json",
        "tokenizer.json",
    ]
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["val_loss"] == result.val_loss
    assert written["steps"] == 30
    assert written["tokens"] == result.tokens == 30 * 5 * 8
    assert written["seconds"] == result.seconds > 0
    assert written["precision"] == "fp32"
    assert written["threads"] == torch.get_num_threads()
    assert result.finished
    loaded, tokenizer = load_model(tmp_path / "run")
    assert torch.equal(weights(loaded), weights(model))
    assert tokenizer.characters == small.tokenizer.characters


def test_the_log_is_one_json_object_a_line(small, tmp_path) -> None:
    _, result = small.train(tmp_path / "run")
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert entries == result.log
    steps = [entry["step"] for entry in entries]
    assert steps == sorted({*range(3, 31, 3), *range(6, 30, 6)})
    for entry in entries:
        assert {"step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds"} <= entry.keys()
        assert entry["tokens"] == entry["step"] * 40
        assert ("val_loss" in entry) == (entry["step"] % 6 == 0 and entry["step"] < 30)
    assert [e["seconds"] for e in entries] == sorted(e["seconds"] for e in entries)


def test_without_a_folder_nothing_is_written(small, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    small.train(steps=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("best", "kept"), [(12, 12), (30, 30)])
def test_the_best_weights_are_kept_the_last_ones_among_them(small, tmp_path, weights, monkeypatch, best, kept) -> None:
    """The validation loss is dictated, so that it is known which step is best."""
    steps: dict[int, torch.Tensor] = {}
    measure = room.evaluate

    def dictated(model: GPT, data: TokenData, **options) -> float:
        if "max_windows" not in options:
            return measure(model, data, **options)
        steps[6 * (len(steps) + 1)] = weights(model).clone()
        return abs(6 * len(steps) - best) + 1.0

    monkeypatch.setattr(room, "evaluate", dictated)
    model, result = small.train(tmp_path / "run", keep="best")
    assert list(steps) == [6, 12, 18, 24, 30]
    assert torch.equal(weights(model), steps[kept])
    assert torch.equal(weights(load_model(tmp_path / "run")[0]), steps[kept])
    _, validation = tokenize_corpus(small.corpus, small.tokenizer, 8)
    assert result.val_loss == measure(model, validation)


# Stopping and going on


def stop_at(step: int):
    def on_step(progress: Progress) -> None:
        progress.stop = progress.step >= step

    return on_step


@pytest.mark.parametrize(
    ("precision", "dropout", "optimizer", "keep"),
    [
        ("fp32", 0.0, "adamw", "last"),
        ("fp32", 0.3, "adamw", "best"),
        ("bf16", 0.0, "adamw", "best"),
        ("bf16", 0.3, "adamw", "last"),
        ("fp32", 0.3, "muon", "best"),
        ("bf16", 0.0, "muon", "last"),
    ],
)
def test_a_stopped_and_resumed_run_ends_at_the_same_weights(
    small, tmp_path, weights, precision, dropout, optimizer, keep
) -> None:
    settings = {"precision": precision, "dropout": dropout, "optimizer": optimizer, "keep": keep, "learning_rate": 1e-2}
    whole, expected = small.train(tmp_path / "whole", **settings)
    _, stopped = small.train(tmp_path / "run", on_step=stop_at(9), **settings)
    assert (stopped.finished, stopped.step, stopped.val_loss) == (False, 9, None)
    assert not (tmp_path / "run" / "result.json").exists()
    small.train(tmp_path / "run", resume=True, on_step=stop_at(18), **settings)
    torch.manual_seed(99)  # whatever happens in between
    resumed, result = small.train(tmp_path / "run", resume=True, model=small.model(seed=5, dropout=dropout), **settings)
    assert torch.equal(weights(resumed), weights(whole))
    assert result.val_loss == expected.val_loss
    assert result.tokens == expected.tokens
    mine, theirs = (read_tensors(tmp_path / run / "checkpoint.safetensors")[0] for run in ("run", "whole"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    def without_time(log: list[dict]) -> list[dict]:
        return [{k: v for k, v in entry.items() if k != "seconds"} for entry in log]

    assert without_time(result.log) == without_time(expected.log)
    written = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert written == result.log


@pytest.mark.parametrize("after", [1, 4, 6, 7, 12, 29, 30])
def test_killed_after_any_step_it_ends_the_same(small, tmp_path, weights, monkeypatch, after) -> None:
    """The process ends between two steps, with a log that is ahead of the checkpoint and torn in its last line."""
    whole, expected = small.train(keep="best", dropout=0.1)

    class Killed(BaseException):
        pass

    clip, count = room.clip_gradient, [0]

    def killing(model, limit):
        count[0] += 1
        if count[0] > after:
            raise Killed
        return clip(model, limit)

    with monkeypatch.context() as patch:
        patch.setattr(room, "clip_gradient", killing)
        if after == 30:
            patch.setattr(room.Run, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            small.train(tmp_path / "run", keep="best", dropout=0.1)
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')
    resumed, result = small.train(tmp_path / "run", resume=True, keep="best", dropout=0.1)
    assert torch.equal(weights(resumed), weights(whole))
    assert result.val_loss == expected.val_loss
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [entry["step"] for entry in expected.log]


def test_nothing_to_resume_starts_afresh_and_says_so(small, tmp_path, weights, capsys) -> None:
    whole, _ = small.train()
    model = small.model()
    room.train(model, small.corpus, small.tokenizer, small.config(), out=tmp_path / "run", resume=True)
    assert f"nothing to resume in {tmp_path / 'run'}: starting afresh" in capsys.readouterr().out
    assert torch.equal(weights(model), weights(whole))


def test_a_finished_run_says_so_and_changes_nothing(small, tmp_path, weights, capsys) -> None:
    for keep in ("last", "best"):
        folder = tmp_path / keep
        model, first = small.train(folder, keep=keep)
        before = contents(folder)
        other = small.model(seed=3)
        again = room.train(other, small.corpus, small.tokenizer, small.config(keep=keep), out=folder, resume=True)
        assert f"this run is finished: validation loss {first.val_loss:.4f} after 30 steps" in capsys.readouterr().out
        assert again == first
        assert torch.equal(weights(other), weights(model))
        assert contents(folder) == before


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_folder_with_a_run_is_not_overwritten(small, tmp_path, state) -> None:
    small.train(tmp_path, on_step=stop_at(9) if state == "stopped" else None)
    before = contents(tmp_path)
    step = 9 if state == "stopped" else 30
    with pytest.raises(ValueError, match=rf"already holds a run \(step {step} of 30\); add --resume"):
        small.train(tmp_path)
    assert contents(tmp_path) == before


def test_another_models_folder_is_not_overwritten(small, tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_text("somebody's weights")
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds config.json and model.safetensors of something else than a run"):
            small.train(tmp_path, resume=resume)
    assert contents(tmp_path) == before


def test_a_finished_run_without_its_checkpoint_is_not_overwritten(small, tmp_path) -> None:
    small.train(tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds a finished run whose checkpoint.safetensors is gone"):
            small.train(tmp_path, resume=resume)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.5}, r"has learning_rate=0.001 and this one learning_rate=0.5"),
        ({"steps": 31}, r"has steps=30 and this one steps=31"),
        ({"batch_size": 6}, r"has batch_size=5 and this one batch_size=6"),
        ({"seed": 8}, r"has seed=1337 and this one seed=8"),
        ({"dropout": 0.1}, r"has dropout=0.0 and this one dropout=0.1"),
    ],
)
def test_other_settings_are_not_mixed_into_a_run(small, tmp_path, changes, sentence) -> None:
    small.train(tmp_path, on_step=stop_at(9))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=sentence + "; resume with the same settings, or choose another folder"):
        small.train(tmp_path, resume=True, **changes)
    assert contents(tmp_path) == before


def test_a_checkpoint_of_another_shape_or_corpus_is_refused(small, tmp_path) -> None:
    small.train(tmp_path, on_step=stop_at(9))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"has n_embd=12 and this one n_embd=24; resume with the same settings"):
        small.train(tmp_path, resume=True, model=small.model(n_embd=24))
    other = dataclasses.replace(small, corpus=dataclasses.replace(small.corpus, name="prose"))
    with pytest.raises(ValueError, match=r"has corpus='verse' and this one corpus='prose'"):
        other.train(tmp_path, resume=True)
    for part in ("train", "validation"):
        text = getattr(small.corpus, part).replace("dog", "hog", 1)
        changed = dataclasses.replace(small, corpus=dataclasses.replace(small.corpus, **{part: text}))
        with pytest.raises(ValueError, match=r"the text of 'verse' has changed since the run in .* began \(SHA-256"):
            changed.train(tmp_path, resume=True)
    assert contents(tmp_path) == before
    tensors, metadata = read_tensors(tmp_path / "checkpoint.safetensors")
    assert metadata.pop("corpus_sha256") == small.corpus.sha256
    write_tensors(tmp_path / "checkpoint.safetensors", tensors, metadata)  # as earlier versions wrote it
    assert small.train(tmp_path, resume=True)[1].finished


def test_what_does_not_change_the_result_may_change(small, tmp_path, weights) -> None:
    whole, _ = small.train()
    small.train(tmp_path, on_step=stop_at(9))
    model, _ = small.train(tmp_path, resume=True, save_every=100, log_every=1, eval_every=4)
    assert torch.equal(weights(model), weights(whole))


def test_another_precision_or_thread_count_is_said(small, tmp_path, capsys) -> None:
    small.train(tmp_path, on_step=stop_at(9))
    model, config = small.model(), small.config(precision="bf16")
    room.train(model, small.corpus, small.tokenizer, config, out=tmp_path, resume=True)
    said = capsys.readouterr().out
    assert "precision was fp32 and is bf16 now: losses will differ in their last digits" in said
    assert "threads was" not in said


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_named_and_left_as_it_is(small, tmp_path, damage) -> None:
    small.train(tmp_path, on_step=stop_at(9))
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    if damage == "foreign":
        path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    else:
        path.write_bytes({"cut": whole[:-100], "zeros": bytes(len(whole)), "empty": b"", "text": b"hello"}[damage])
    before = contents(tmp_path)
    sentence = "is no checkpoint of a training run" if damage == "foreign" else "is no readable safetensors file"
    for resume in (True, False):
        with pytest.raises(ValueError, match=f"checkpoint.safetensors {sentence}") as error:
            small.train(tmp_path, resume=resume)
        assert "\n" not in str(error.value)
    assert contents(tmp_path) == before


def test_checkpoints_are_replaced_in_one_move(small, tmp_path, monkeypatch) -> None:
    """While a checkpoint is written the old one stays whole, also when writing fails."""
    small.train(tmp_path, on_step=stop_at(9))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def torn(tensors, path, metadata) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr("gptlib.training.checkpoint.save_file", torn)
    with pytest.raises(OSError, match="no space left"):
        small.train(tmp_path, resume=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


# When numbers break


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(small, tmp_path, monkeypatch, what) -> None:
    accumulate, clip = room._accumulate, room.clip_gradient

    def broken_loss(forward, data, step, *rest):
        return accumulate(forward, data, step, *rest) * (math.nan if step == 7 else 1)

    calls = [0]

    def broken_gradient(model, limit):
        calls[0] += 1
        if calls[0] == 8:
            next(iter(model.parameters())).grad[0] = math.inf
        return clip(model, limit)

    monkeypatch.setattr(room, *(("_accumulate", broken_loss) if what == "loss" else ("clip_gradient", broken_gradient)))
    # Step 8 is a step to save at and not one to log at.
    with pytest.raises(FloatingPointError, match=r"at step 8; a learning_rate below 0.001 or a grad_clip above 0"):
        small.train(tmp_path, save_every=4, log_every=100, eval_every=100)
    tensors, metadata = read_tensors(tmp_path / "checkpoint.safetensors")
    assert json.loads(metadata["state"])["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    assert not (tmp_path / "result.json").exists()


def test_a_rate_far_too_high_is_found_out(small, tmp_path) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is \S+ and its gradient's norm \S+ at step \d+"):
        small.train(tmp_path, learning_rate=1e30, min_learning_rate=1e30, grad_clip=0.0, warmup_steps=0)


# Signals, callbacks, misfits


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_its_state_saved(small, tmp_path, weights, number) -> None:
    whole, _ = small.train()
    before = signal.getsignal(number)

    def interrupt(progress: Progress) -> None:
        if progress.step == 9:
            signal.raise_signal(number)

    _, stopped = small.train(tmp_path, on_step=interrupt)
    assert (stopped.finished, stopped.step) == (False, 9)
    assert signal.getsignal(number) is before
    resumed, _ = small.train(tmp_path, resume=True)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_second_ctrl_c_interrupts_at_once(small, tmp_path) -> None:
    def impatient(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        small.train(tmp_path, on_step=impatient, log_every=5, save_every=4)
    assert json.loads(read_tensors(tmp_path / "checkpoint.safetensors")[1]["state"])["step"] == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_that_is_not_the_main_one_can_train(small) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(small.train(steps=5)[1]))
    thread.start()
    thread.join(60)
    assert results[0].finished


def test_progress_tells_where_the_run_stands(small) -> None:
    seen: list[Progress] = []
    _, result = small.train(on_step=seen.append, learning_rate=0.5, warmup_steps=3, min_learning_rate=0.1)
    assert [p.step for p in seen] == [entry["step"] for entry in result.log]
    assert all(p.loss > 0 and p.gradient_norm > 0 for p in seen)
    assert seen[0].learning_rate == pytest.approx(0.5)
    assert seen[-1].learning_rate == pytest.approx(0.1)
    assert [p.step for p in seen if p.val_loss is not None] == [6, 12, 18, 24]


def test_what_is_measured_goes_to_the_log_and_disturbs_nothing(small, tmp_path, weights) -> None:
    told: list[float] = []

    def measure(model: GPT) -> dict[str, float]:
        assert not model.training
        return {"parameters": float(weights(model).sum())}

    model, result = small.train(
        tmp_path, steps=20, dropout=0.2, measure=measure, on_step=lambda progress: told.append(progress.measured)
    )
    measured = {entry["step"]: entry["measured"] for entry in result.log if "measured" in entry}
    assert list(measured) == [6, 12, 18, 20]  # every eval_every steps, and after the last one
    assert measured[20] == {"parameters": pytest.approx(float(weights(model).sum()), abs=1e-5)}
    assert len({entry["parameters"] for entry in measured.values()}) == 4
    assert [entry for entry in told if entry] == list(measured.values())
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == result.log
    plain, _ = small.train(steps=20, dropout=0.2)
    assert torch.equal(weights(model), weights(plain))


def test_what_is_chosen_is_said_and_silence_is_possible(small, capsys) -> None:
    small.train(steps=3)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    model = small.model()
    room.train(model, small.corpus, small.tokenizer, small.config(steps=3))
    said = capsys.readouterr()
    assert f"{model.n_parameters():,} parameters: 2 layers, 3 heads, 12 wide, 8 positions" in said.out
    assert "device cpu (as asked); precision fp32 (as asked)" in said.out
    assert "validation loss" in said.out
    assert "tokens/s=" in said.err
    assert "step/s" in said.err


def test_a_tokenizer_larger_than_the_model_is_refused(small) -> None:
    n = small.tokenizer.vocab_size
    with pytest.raises(ValueError, match=rf"the tokenizer has {n} tokens and the model vocab_size=5; make the model"):
        small.train(model=small.model(vocab_size=5))


def test_a_text_shorter_than_the_context_is_refused_before_anything_is_written(small, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"the validation split of 'verse' has .* tokens, and a window needs 401"):
        small.train(tmp_path / "run", model=small.model(n_positions=400))
    assert not (tmp_path / "run").exists()


def test_compiling_changes_the_numbers_by_roundings_only(small, weights, monkeypatch) -> None:
    torch._dynamo.reset()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend="eager", fullgraph=True))
    plain, compiled = small.train(steps=5)[0], small.train(steps=5, compile=True)[0]
    torch.testing.assert_close(weights(compiled), weights(plain), atol=1e-4, rtol=1e-4)


def test_the_saved_tokenizer_is_the_one_that_was_given(small, tmp_path) -> None:
    small.train(tmp_path, steps=4)
    assert load_tokenizer(tmp_path / "tokenizer.json").encode("the cat") == small.tokenizer.encode("the cat")
