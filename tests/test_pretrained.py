"""`load_model` on the course's own models: the bundled one and the folders of runs. Others: test_huggingface.py."""

import json
import math

import pytest
import torch

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, TrainConfig, generate, load_model, train
from gptlib.corpora import Corpus
from gptlib.pretrained import bundled_models
from gptlib.training.checkpoint import load_weights, save_model, weights_of, write_tensors

TEXT = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 12
TOKENIZER = CharTokenizer.train(TEXT)


def model(**changes) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": TOKENIZER.vocab_size, "n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 3}
    return GPT(GPTConfig(**{**shape, **changes}))


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "run", model(), TOKENIZER)
    return tmp_path / "run"


def test_saved_and_loaded_it_is_the_same_model(variant, random_model, tmp_path) -> None:
    original = random_model(variant)
    save_model(tmp_path, original, None)
    loaded, tokenizer = load_model(tmp_path)
    assert tokenizer is None
    assert loaded.config == variant
    assert not loaded.training
    ids = torch.randint(23, (5, 7))
    assert torch.equal(loaded(ids)[0], original(ids)[0])
    assert (loaded.lm_head.weight is loaded.token_embedding.weight) == variant.tie_weights


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BPETokenizer.train(TEXT, 270)])
def test_the_tokenizer_comes_along(tmp_path, tokenizer) -> None:
    save_model(tmp_path, model(vocab_size=tokenizer.vocab_size), tokenizer)
    save_model(tmp_path, model(vocab_size=tokenizer.vocab_size), tokenizer)  # a second time over the first
    loaded = load_model(str(tmp_path))[1]
    assert type(loaded) is type(tokenizer)
    assert loaded.encode("the cat") == tokenizer.encode("the cat")
    assert loaded.end_id == tokenizer.end_id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_as_asked(folder, dtype) -> None:
    assert {p.dtype for p in load_model(folder)[0].parameters()} == {torch.float32}
    loaded, _ = load_model(folder, dtype=dtype)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert loaded(torch.tensor([[1, 2, 3]]))[0].dtype == dtype


def test_an_unfinished_run_gives_its_last_checkpoint(tmp_path) -> None:
    trained = model()

    def stop(progress) -> None:
        progress.stop = True

    config = TrainConfig(steps=30, batch_size=2, log_every=6, device="cpu", precision="fp32")
    corpus = Corpus("verse", TEXT[:600], TEXT[600:])
    train(trained, corpus, TOKENIZER, config, out=tmp_path, on_step=stop, verbose=False)
    assert not (tmp_path / "model.safetensors").exists()
    loaded, tokenizer = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), trained.parameters(), strict=True))
    assert tokenizer.characters == TOKENIZER.characters


# What cannot be loaded


def test_a_run_without_weights_yet(folder) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="has a config and no weights; its run was stopped before the first check"):
        load_model(folder)


def test_no_such_model(tmp_path) -> None:
    for source, sentence in (
        (tmp_path, "is a folder without a config.json, so no model was saved there; bundled models: "),
        (tmp_path / "nothing", f"there is no model '{tmp_path / 'nothing'}'; bundled models: "),
        ("xyzzy", "there is no model 'xyzzy'; bundled models: "),
    ):
        with pytest.raises(ValueError, match=sentence) as error:
            load_model(source)
        assert "give the folder of a run" in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"hello", b"\xff" * 100])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_files_are_named_in_one_line(folder, name, damage) -> None:
    (folder / name).write_bytes(damage)
    with pytest.raises(ValueError, match=name) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_weights_cut_short(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is no readable safetensors file"):
        load_model(folder)


def test_a_config_that_is_no_config(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_heads": 3}))
    with pytest.raises(ValueError, match=r"unknown \['n_heads'\]"):
        load_model(folder)


def test_weights_of_another_shape_are_refused_and_change_nothing(folder) -> None:
    other = model(n_embd=24)
    write_tensors(folder / "model.safetensors", weights_of(other))
    with pytest.raises(ValueError, match=r"has shape \(.*24.*\) there and \(.*12.*\) here; load it with the config"):
        load_model(folder)
    target = model()
    before = [p.clone() for p in target.parameters()]
    with pytest.raises(ValueError, match="does not fit this model"):
        load_weights(target, weights_of(other), "x")
    too_few = dict(list(weights_of(model()).items())[1:])
    with pytest.raises(ValueError, match="has shape none there"):
        load_weights(target, too_few, "x")
    with pytest.raises(ValueError, match=r"surplus has shape .* there and none here"):
        load_weights(target, {**weights_of(model()), "surplus": torch.zeros(3)}, "x")
    assert all(torch.equal(p, old) for p, old in zip(target.parameters(), before, strict=True))


# The bundled model


def test_the_bundled_model_reads_any_text_and_knows_its_corpus() -> None:
    assert "tales" in bundled_models()
    network, tokenizer = load_model("tales")
    assert not network.training
    assert network.config.vocab_size == tokenizer.vocab_size
    assert tokenizer.end_id is not None
    for text in ("One day", "naïve 世界 🙂", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    story = generate(network, torch.tensor([[tokenizer.end_id]]), 120, seed=0, stop_id=tokenizer.end_id)
    loss = network(story[:, :-1], story[:, 1:])[1].item()
    assert loss < 0.35 * math.log(tokenizer.vocab_size)  # it is sure of what it writes
    written = tokenizer.decode(story[0, 1:].tolist())
    assert len(written.split()) > 15
