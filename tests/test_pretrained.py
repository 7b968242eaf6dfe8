"""`load_model` on all kinds of sources. That transformers computes the same with them: test_huggingface.py."""

import dataclasses
import http.server
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import gguf
import pytest
import torch
import transformers

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, TrainConfig, generate, load_model, train
from gptlib.corpora import Corpus
from gptlib.huggingface.tokenizer import TransformersTokenizer
from gptlib.positions import RotaryScaling, rotary_frequencies
from gptlib.pretrained import bundled_models, export_to_huggingface, find_tokenizer
from gptlib.pretrained import load as loading
from gptlib.tokenizers import load_tokenizer
from gptlib.training.checkpoint import load_weights, read_tensors, save_model, weights_of, write_tensors

TEXT = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 12
TOKENIZER = CharTokenizer.train(TEXT)


def model(**changes) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": TOKENIZER.vocab_size, "n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 3}
    return GPT(GPTConfig(**{**shape, **changes}))


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "run", model().config, weights_of(model()), TOKENIZER)
    return tmp_path / "run"


def test_saved_and_loaded_it_is_the_same_model(variant, random_model, tmp_path) -> None:
    original = random_model(variant)
    save_model(tmp_path, original.config, weights_of(original), None)
    loaded, tokenizer = load_model(tmp_path)
    assert tokenizer is None
    assert loaded.config == variant
    assert not loaded.training
    ids = torch.randint(23, (5, 7))
    assert torch.equal(loaded(ids)[0], original(ids)[0])
    assert (loaded.lm_head.weight is loaded.token_embedding.weight) == variant.tie_weights


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BPETokenizer.train(TEXT, 270)])
def test_the_tokenizer_comes_along(tmp_path, tokenizer) -> None:
    original = model(vocab_size=tokenizer.vocab_size)
    for _ in range(2):  # the second time over the first
        save_model(tmp_path, original.config, weights_of(original), tokenizer)
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


# GGUF files


LLAMA = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}


def write_gguf(path, model, *, changes=(), quantise=None):
    """What llama.cpp's converter makes of a model, without a tokenizer."""
    config, is_llama = model.config, model.config.position == "rotary"
    writer = gguf.GGUFWriter(path, "llama" if is_llama else "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.inner)
    writer.add_head_count(config.n_head)
    if is_llama:
        writer.add_head_count_kv(config.kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_freq_base(config.rotary_base)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
    else:
        writer.add_layer_norm_eps(config.norm_eps)
    for method, value in changes:
        getattr(writer, method)(value)
    names = {"norm1": "attn_norm", "norm2": "ffn_norm", "attention.project": "attn_output", "mlp.gate": "ffn_gate"}
    names |= {"attention.qkv": "attn_qkv", "mlp.widen": "ffn_up", "mlp.narrow": "ffn_down", "blocks": "blk"}
    outside = {"token_embedding": "token_embd", "position_embedding": "position_embd", "lm_head": "output"}
    outside["norm"] = "output_norm"
    for name, tensor in weights_of(model).items():
        if name.startswith("blocks"):
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
        else:
            part, kind = name.split(".")
            name = f"{outside[part]}.{kind}"
        if is_llama and "attn_qkv" in name:
            sizes = [n * config.head_dim for n in (config.n_head, config.kv_heads, config.kv_heads)]
            for part, rows in zip("qkv", tensor.split(sizes), strict=True):
                if part != "v":  # the two halves of each head, dimension by dimension
                    rows = torch.stack(rows.view(-1, config.head_dim, *rows.shape[1:]).chunk(2, dim=1), dim=2)
                writer.add_tensor(name.replace("attn_qkv", f"attn_{part}"), rows.reshape(-1, *tensor.shape[1:]).numpy())
        elif quantise and tensor.dim() == 2 and "ffn" in name:
            writer.add_tensor(name, gguf.quantize(tensor.numpy(), quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(name, tensor.numpy())
    if config.rotary_scaling is not None and config.rotary_scaling.kind == "llama3":
        plain = rotary_frequencies(config.head_dim, base=config.rotary_base)
        scaled = rotary_frequencies(config.head_dim, base=config.rotary_base, scaling=config.rotary_scaling)
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"tie_weights": False, "n_inner": 40},
        {**LLAMA, "n_kv_head": 1},
        {**LLAMA, "n_kv_head": 3, "tie_weights": False, "rotary_base": 77.0},
        {**LLAMA, "bias": True},
        {**LLAMA, "qkv_bias": True},
        {**LLAMA, "n_embd": 96, "rotary_scaling": RotaryScaling("llama3", 8.0, 8192, 1.0, 4.0), "n_positions": 99},
    ],
    ids=["gpt2", "gpt2-untied", "multi-query", "grouped-untied", "biases", "qkv-biases", "llama3"],
)
def test_a_gguf_file_gives_the_model_back(tmp_path, random_model, shape) -> None:
    original = random_model(model(**shape).config)
    loaded, tokenizer = load_model(write_gguf(tmp_path / "model.gguf", original))
    assert tokenizer is None
    assert not loaded.training
    said = dataclasses.asdict(original.config)
    said |= {"n_kv_head": original.config.kv_heads if "position" in shape else None, "n_inner": original.config.inner}
    said["norm_eps"] = pytest.approx(1e-5)  # fp32 in the file
    assert dataclasses.asdict(loaded.config) == said
    ids = torch.randint(TOKENIZER.vocab_size, (3, 8), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(ids)[0], original(ids)[0], atol=1e-6, rtol=1e-6)
    assert loaded.n_parameters() == original.n_parameters()


@pytest.mark.parametrize("quantise", [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1])
def test_quantised_weights_are_those_that_transformers_reads(tmp_path, random_model, quantise) -> None:
    original = random_model(model(**LLAMA, n_embd=96, n_kv_head=1, n_inner=64, tie_weights=False).config)
    path = write_gguf(tmp_path / "model.gguf", original, quantise=quantise)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    ids = torch.randint(TOKENIZER.vocab_size, (3, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = load_model(path)[0](ids)[0]
        torch.testing.assert_close(logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)
        assert (logits - original(ids)[0]).abs().max() > 1e-3  # quantised it was


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([("add_expert_count", 8)], "holds a mixture of 8 experts"),
        ([("add_key_length", 64)], r"attention\.key_length=64, and only embedding_length / head_count is supported"),
        ([("add_rope_scaling_type", gguf.RopeScalingType.YARN)], "scales rotary positions by 'yarn'"),
    ],
)
def test_gguf_files_that_no_gpt_can_be(tmp_path, changes, sentence) -> None:
    path = write_gguf(tmp_path / "model.gguf", model(**LLAMA), changes=changes)
    with pytest.raises(ValueError, match=sentence):
        load_model(path)


def test_linear_scaling_is_read_from_a_gguf_file(tmp_path, random_model) -> None:
    original = random_model(model(**LLAMA, rotary_scaling=RotaryScaling("linear", 4.0)).config)
    scaling = [("add_rope_scaling_type", gguf.RopeScalingType.LINEAR), ("add_rope_scaling_factor", 4.0)]
    loaded, _ = load_model(write_gguf(tmp_path / "model.gguf", original, changes=scaling))
    ids = torch.arange(8)[None]
    torch.testing.assert_close(loaded(ids)[0], original(ids)[0], atol=1e-6, rtol=1e-6)


def test_a_rule_of_scaling_that_nobody_knows_is_refused(tmp_path) -> None:
    path = write_gguf(tmp_path / "a.gguf", model(**LLAMA, rotary_scaling=RotaryScaling("llama3", 8.0, 100, 1.0, 4.0)))
    with pytest.raises(ValueError, match="slows its rotary planes by a rule that is not Llama 3's"):
        load_model(path)


def test_gguf_files_that_are_none_or_something_else(tmp_path) -> None:
    whole = write_gguf(tmp_path / "model.gguf", model()).read_bytes()
    for content in (b"", b"hello", whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "cut.gguf").write_bytes(content)
        with pytest.raises(ValueError, match="is no whole GGUF file") as error:
            load_model(tmp_path / "cut.gguf")
        assert "\n" not in str(error.value)
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="a model of type 'mamba'; gpt2 and llama can be loaded"):
        load_model(tmp_path / "other.gguf")
    with pytest.raises(ValueError, match=r"there is no model 'x/nothing\.gguf'"):
        load_model("x/nothing.gguf")


@pytest.mark.slow
def test_the_real_smollm2_writes_what_transformers_writes(smollm2_file) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
    )
    ours, tokenizer = load_model(smollm2_file)
    assert ours.n_parameters() == 134_515_008
    assert GPT(GPTConfig.preset("smollm2-135m")).n_parameters() == 134_515_008
    prompts = ["The capital of France is Paris, and the capital of Germany", "def fibonacci(n):\n    ", "naïve 世界 🙂"]
    for text in prompts:
        ids = torch.tensor([tokenizer.encode(text)])
        assert tokenizer.decode(ids[0].tolist()) == text
        with torch.no_grad():
            torch.testing.assert_close(ours(ids)[0], theirs(ids).logits, atol=1e-3, rtol=0)
    # Told of no end of text, transformers writes as many tokens as ours.
    ids = torch.tensor([tokenizer.encode(prompts[0])])
    expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=50, do_sample=False, eos_token_id=None
    )
    assert expected.size(1) == ids.size(1) + 50
    assert generate(ours, ids, 50, temperature=0).tolist() == expected.tolist()
    assert tokenizer.decode(expected[0].tolist()).startswith(prompts[0] + " is Berlin.")


# What a model from elsewhere may not do


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["theirs", "ours"])
def test_no_pickle_is_ever_run(folder, tmp_path, kind, name) -> None:
    if kind == "theirs":
        folder = export_to_huggingface(model(), TOKENIZER, tmp_path / "exported")
    went_off = tmp_path / "went-off"
    bomb = pickle.dumps(Bomb(went_off))
    pickle.loads(bomb).close()
    assert went_off.exists()  # so it works, where a pickle is read
    went_off.unlink()
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(bomb)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert not went_off.exists()
    if name == "pytorch_model.bin" and kind == "theirs":
        assert "holds its weights as a pickle (.bin), which could run any code; save them as" in str(error.value)


def test_code_that_comes_with_a_model_is_not_run(tmp_path) -> None:
    folder = export_to_huggingface(model(), TOKENIZER, tmp_path / "exported")
    went_off = tmp_path / "went-off"
    (folder / "code.py").write_text(f"open({str(went_off)!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    for model_type in ("gpt2", "their-own"):
        (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": auto_map}))
        if model_type == "gpt2":  # which is known without their code
            assert load_model(folder)[0].config.n_embd == 12
        else:
            with pytest.raises(ValueError, match=r"could not be read|code"):
                load_model(folder)
        assert not went_off.exists()


def test_weights_that_are_missing_are_not_made_up(tmp_path) -> None:
    folder = export_to_huggingface(model(), TOKENIZER, tmp_path)
    tensors, _ = read_tensors(folder / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of its model, transformer\.h\.1\.mlp\.c_fc\.weight among"):
        load_model(folder)


def test_weights_of_another_shape_than_their_config_says(tmp_path) -> None:
    folder = export_to_huggingface(model(), TOKENIZER, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_inner": 40}))
    with pytest.raises(
        ValueError, match=r"holds 6 weights of other shapes than its config says, transformer\.h\.0\.mlp"
    ):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b'{"model_type": "gpt2", "n_embd": "wide"}', b"\xff" * 100])
def test_damaged_files_of_transformers_are_one_line(tmp_path, name, damage) -> None:
    folder = export_to_huggingface(model(), TOKENIZER, tmp_path)
    (folder / name).write_bytes(damage)
    with pytest.raises(ValueError, match=re.escape(str(folder))) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_an_unknown_kind_of_model_is_one_line(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hyena"}))
    with pytest.raises(ValueError, match=r"could not be read: .*hyena") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


# The hub


def test_hub_out_of_reach_is_one_sentence(tmp_path) -> None:
    code = """
        import time
        def never(seconds):
            raise AssertionError("the hub's client tries again and again")
        time.sleep = never
        from gptlib import load_model
        for name in ("gpt2", "HuggingFaceTB/SmolLM2-1.7B"):
            try:
                load_model(name)
            except ConnectionError as error:
                print(error)
    """
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **closed}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    for line, name in zip(said, ("gpt2", "HuggingFaceTB/SmolLM2-1.7B"), strict=True):
        assert line.startswith(f"{name!r} could not be had from the hub (")
        assert line.endswith("check name and network, or use a local folder; bundled models: tales")
    assert "Retrying" not in done.stderr


class Answers(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404 if self.path == "/lost" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_tokenizer_is_found_wherever_a_model_is(folder, tmp_path, monkeypatch) -> None:
    assert find_tokenizer(folder).encode("the cat") == TOKENIZER.encode("the cat")
    model, tales = load_model("tales")
    assert find_tokenizer("tales").encode("Mara sat.") == tales.encode("Mara sat.")
    export_to_huggingface(model, tales, tmp_path / "exported")
    asked = []

    def fetch(source: str, **options: object) -> TransformersTokenizer:
        asked.append((source, options))
        return find_in_folder(str(tmp_path / "exported"))

    find_in_folder = TransformersTokenizer.find
    monkeypatch.setattr(TransformersTokenizer, "find", fetch)
    for answers, options in ((True, {}), (False, {"local_files_only": True})):
        monkeypatch.setattr(loading, "hub_answers", lambda answers=answers: answers)
        found = find_tokenizer("me/tales")
        assert asked.pop() == ("me/tales", options)
        # What gptlib tokenize writes beside the ids is read back as a tokenizer of the course.
        read = load_tokenizer(found.save(tmp_path / "tokenizer.json"))
        assert read.encode("Mara sat.<|endoftext|>") == tales.encode("Mara sat.<|endoftext|>")
    with pytest.raises(ValueError, match=r"no tokenizer 'nothing'; give a tokenizer\.json"):
        find_tokenizer("nothing")


def test_whether_the_hub_answers(monkeypatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in ("", "/lost"):
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}{path}")
            assert loading.hub_answers()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not loading.hub_answers()
        server.shutdown()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not loading.hub_answers(timeout=1)


def test_what_was_fetched_earlier_is_read_where_the_hub_is_silent(tmp_path) -> None:
    """A cache as the hub's client writes it, and nobody at the other end."""
    theirs = tmp_path / "theirs"
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    ).save_pretrained(theirs)
    commit = "0" * 40
    cached = tmp_path / "home/hub/models--gpt2"
    shutil.copytree(theirs, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(commit, encoding="utf-8")
    code = "from gptlib import load_model; print(load_model('gpt2')[0].config.vocab_size)"
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **closed}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "20\n", done.stderr


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2", "HuggingFaceTB/SmolLM2-1.7B", "meta-llama/Llama-3.2-1B"])
def test_names_that_the_hub_is_asked_for(monkeypatch, name) -> None:
    asked = []
    monkeypatch.setattr(loading, "_from_transformers", lambda source: (asked.append(source), (model(), None))[1])
    load_model(name)
    assert asked == [name]


def test_slips_do_not_go_to_the_hub(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(loading, "_from_transformers", lambda source: pytest.fail(f"asked the hub for {source}"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/shakespaere", "./runs", "../x", "tale", "a/b/c", "x/y.gguf", tmp_path / "owner" / "name"):
        with pytest.raises(ValueError, match=r"there is no model|is a folder without"):
            load_model(name)


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
