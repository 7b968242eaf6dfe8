"""Our GPT against transformers' GPT-2, Llama and its kin: the same weights, the same numbers, in both directions."""

import dataclasses
import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import export_to_huggingface, load_model
from gptlib.config import GPTConfig
from gptlib.huggingface import (
    config_from_transformers,
    config_to_transformers,
    weights_from_transformers,
    weights_to_transformers,
)
from gptlib.model import GPT
from gptlib.positions import RotaryScaling
from gptlib.tokenizers import BPETokenizer, CharTokenizer

TEXT = "The cat sat on the mat, and the dog did not."


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT * 20, 300)


def gpt2(activation="gelu_new", **changes):
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=17, n_embd=24, n_layer=2, n_head=3, activation_function=activation,
        bos_token_id=None, eos_token_id=None, **changes,
    )  # fmt: skip
    return randomised(transformers.GPT2LMHeadModel(config))


def llama(n_kv_head=2, family="Llama", **changes):
    config = getattr(transformers, f"{family}Config")(
        vocab_size=31, max_position_embeddings=17, hidden_size=24, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=n_kv_head, intermediate_size=40, head_dim=4, **changes,
    )  # fmt: skip
    return randomised(transformers.AutoModelForCausalLM.from_config(config))


def rope(kind, **values):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 77.0, **values}}


ROPES = {
    "default": rope("default"),
    "linear": rope("linear", factor=3.0),
    "dynamic": {**rope("dynamic", factor=3.0), "max_position_embeddings": 9},
    "yarn": rope("yarn", factor=2.0, original_max_position_embeddings=9, beta_fast=2.0),
    "yarn-scale": rope("yarn", factor=2.0, original_max_position_embeddings=9, attention_factor=1.7, truncate=False),
    "yarn-mscale": rope("yarn", factor=2.0, original_max_position_embeddings=9, mscale=1.0, mscale_all_dim=0.5),
    "llama3": rope("llama3", factor=4.0, original_max_position_embeddings=9, low_freq_factor=0.3, high_freq_factor=1.1),
}
THEIRS = {
    "gpt2": lambda: gpt2(),
    "relu": lambda: gpt2("relu"),
    "inner": lambda: gpt2("gelu", n_inner=40, layer_norm_epsilon=0.3),
    "gpt2-untied": lambda: gpt2(tie_word_embeddings=False),
    "grouped-query": lambda: llama(),
    "multi-head": lambda: llama(n_kv_head=6, rms_norm_eps=0.3),
    "multi-query-tied": lambda: llama(n_kv_head=1, tie_word_embeddings=True),
    "biases": lambda: llama(n_kv_head=3, attention_bias=True, mlp_bias=True),
    **{f"rope-{name}": lambda values=values: llama_with(values) for name, values in ROPES.items()},
    "mistral": lambda: llama(family="Mistral", sliding_window=4),
    "mistral-without-window": lambda: llama(family="Mistral", sliding_window=None),
    "qwen2": lambda: llama(family="Qwen2"),
    "qwen3": lambda: llama(family="Qwen3"),
}


def llama_with(values):
    model = llama()
    config = {**model.config.to_dict(), **values}
    return randomised(transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)))


@pytest.fixture(params=THEIRS.values(), ids=THEIRS.keys())
def theirs(request):
    return request.param()


def randomised(model):
    """Norms and biases begin at 1 and 0, where a swapped pair would not show."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return model.eval()


def ours_of(theirs):
    config = config_from_transformers(theirs.config)
    model = GPT(config).eval()
    missing, unexpected = model.load_state_dict(weights_from_transformers(config, theirs.state_dict()), strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    return model


def test_equal_logits(theirs):
    ids = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        logits, _ = ours_of(theirs)(ids)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_equal_gradients(theirs):
    ids = torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(1))
    ours = ours_of(theirs)
    theirs(ids, labels=ids).loss.backward()
    ours(ids[:, :-1], ids[:, 1:])[1].backward()
    expected = weights_from_transformers(ours.config, {n: p.grad for n, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-3, msg=name)


def test_names_and_config_go_there_and_back(theirs):
    config = config_from_transformers(theirs.config)
    back = weights_to_transformers(config, weights_from_transformers(config, theirs.state_dict()))
    expected = theirs.state_dict()
    assert set(expected) - set(back) <= {"lm_head.weight"}
    assert all(torch.equal(expected[name], weight) for name, weight in back.items())
    if theirs.config.model_type == "qwen2":  # for which transformers insists on a tokenizer of its own
        with pytest.raises(ValueError, match="qkv_bias=True, bias=False together"):
            config_to_transformers(config)
        return
    again = config_to_transformers(config)
    assert config_from_transformers(again) == config
    if not (theirs.config.model_type == "mistral" and config.window is None):  # then it is a Llama
        assert type(again) is type(theirs.config)


def test_rope_scalings_change_the_numbers():
    ids = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = {name: ours_of(llama_with(values))(ids)[0] for name, values in ROPES.items()}
    for name in set(ROPES) - {"default"}:
        assert (logits[name] - logits["default"]).abs().max() > 1e-3, name


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        (transformers.BertConfig(), "'bert' cannot be loaded; gpt2, llama, mistral, qwen2 and qwen3 can"),
        (transformers.GPT2Config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx=True"),
        (transformers.GPT2Config(scale_attn_weights=False), "scale_attn_weights=False"),
        (transformers.GPT2Config(add_cross_attention=True), "add_cross_attention=True"),
        (transformers.GPT2Config(activation_function="silu"), "activation 'silu' is none of gelu_new"),
        (transformers.LlamaConfig(attention_bias=True), "attention_bias=True with mlp_bias=False is not supported"),
        (transformers.LlamaConfig(mlp_bias=True), "attention_bias=False with mlp_bias=True is not supported"),
        (transformers.LlamaConfig(hidden_act="gelu"), "hidden_act='gelu'"),
        (transformers.LlamaConfig(head_dim=64), "head_dim=64 is not supported; .* here 128"),
        (transformers.Qwen2Config(use_sliding_window=True), "use_sliding_window=True"),
        (transformers.Qwen3Config(attention_bias=True), "attention_bias=True"),
        (
            transformers.LlamaConfig(
                rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
            ),
            r"partial_rotary_factor=0\.5 is not supported; only heads that are rotated whole are",
        ),
        (
            transformers.LlamaConfig(
                rope_parameters={
                    "rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "short_factor": [1.0] * 64,
                    "long_factor": [2.0] * 64, "original_max_position_embeddings": 512,
                }
            ),
            "rotary positions of type 'longrope' are not supported; default, linear, dynamic, yarn, llama3 are",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_a_gpt_cannot_be_is_refused(theirs, sentence):
    with pytest.raises(ValueError, match=sentence):
        config_from_transformers(theirs)


# The other direction


SHAPE = {"n_positions": 29, "n_embd": 24, "n_layer": 2, "n_head": 4}
LLAMA = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}
EXPORTS = {
    "gpt2": {},
    "gpt2-relu-untied": {"mlp": "relu", "tie_weights": False, "n_inner": 40},
    "llama": {**LLAMA, "n_kv_head": 2},
    "llama-biases-untied": {**LLAMA, "bias": True, "tie_weights": False},
    "window": {**LLAMA, "window": 7},
    "qk-norm": {**LLAMA, "qk_norm": True, "n_kv_head": 1},
    **{
        kind: {**LLAMA, "rotary_scaling": RotaryScaling(kind, 4.0, original_n_positions=29 if kind == "dynamic" else 9)}
        for kind in ("linear", "ntk", "dynamic", "yarn", "llama3")
    },
}


def randomly(config):
    return randomised(GPT(config))


@pytest.mark.parametrize("shape", EXPORTS.values(), ids=EXPORTS.keys())
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_export_loads_in_transformers_and_comes_back(tmp_path, tokenizer, kind, shape):
    ours = tokenizer if kind == "bpe" else CharTokenizer.train(TEXT)
    model = randomly(GPTConfig(vocab_size=ours.vocab_size, **SHAPE, **shape))
    text = TEXT[:29]
    ids = ours.encode(text)
    folder = export_to_huggingface(model, ours, tmp_path / "new")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert their_tokenizer(text).input_ids == ids
    assert their_tokenizer.decode(ids) == text
    back, back_tokenizer = load_model(folder)
    assert back_tokenizer is not None
    assert back_tokenizer.encode(text) == ids
    assert back_tokenizer.decode(ids) == text
    assert (back_tokenizer.end_id, back_tokenizer.vocab_size) == (ours.end_id, ours.vocab_size)
    with torch.no_grad():
        logits, _ = model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(back(torch.tensor([ids]))[0], logits, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]), tie=st.booleans(), bias=st.booleans(), layers=st.integers(1, 3),
    scaling=st.sampled_from(["linear", "yarn", "llama3", None]),
)  # fmt: skip
def test_weights_and_config_go_to_transformers_and_back(heads, tie, bias, layers, scaling):
    config = GPTConfig(
        vocab_size=31, n_positions=17, n_embd=24, n_layer=layers, n_head=heads[0], n_kv_head=heads[1], bias=bias,
        position="rotary", norm="rmsnorm", mlp="swiglu", n_inner=40, tie_weights=tie, norm_eps=0.01,
        rotary_scaling=RotaryScaling(scaling, 2.0, 8, fast_turns=3.0) if scaling in ("yarn", "llama3") else None,
    )  # fmt: skip
    assert config_from_transformers(config_to_transformers(config)) == config
    weights = GPT(config).state_dict()
    back = weights_from_transformers(config, weights_to_transformers(config, weights))
    assert set(weights) - set(back) == ({"lm_head.weight"} if tie else set())
    assert all(torch.equal(weight, weights[name]) for name, weight in back.items())


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_export_works_in_a_pipeline(tmp_path, tokenizer, kind, shape):
    ours = tokenizer if kind == "bpe" else CharTokenizer.train(TEXT)
    model = randomly(GPTConfig(vocab_size=ours.vocab_size, **SHAPE, **EXPORTS[shape]))
    write = transformers.pipeline("text-generation", model=str(export_to_huggingface(model, ours, tmp_path)))
    [answer] = write("the cat", max_new_tokens=5, do_sample=False)
    ids = torch.tensor([ours.encode("the cat")])
    for _ in range(5):
        ids = torch.cat([ids, model(ids)[0][:, -1:].argmax(-1)], dim=1)  # (1, T) -> (1, T + 1)
    assert ours.end_id not in ids[0].tolist()
    assert answer["generated_text"] == ours.decode(ids[0].tolist())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_export_keeps_the_dtype(tmp_path, dtype):
    model = randomly(GPTConfig(vocab_size=31, **SHAPE, **EXPORTS["llama"])).to(dtype)
    folder = export_to_huggingface(model, None, tmp_path)
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {p.dtype for p in theirs.parameters()} == {dtype}
    back, tokenizer = load_model(folder, dtype=dtype)
    assert tokenizer is None
    assert {p.dtype for p in back.parameters()} == {dtype}
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True))
    assert {p.dtype for p in load_model(folder)[0].parameters()} == {torch.float32}
    ids = torch.arange(29)[None]
    with torch.no_grad():
        logits, expected = model(ids)[0].float(), model.float()(ids)[0]
        theirs_logits = theirs(ids).logits.float()
    rounding = 16 * torch.finfo(dtype).eps * expected.abs().max()
    assert (logits - expected).abs().max() < rounding
    assert (theirs_logits - expected).abs().max() < rounding


def test_export_leaves_the_model_as_it_was(tmp_path):
    model = randomly(GPTConfig(vocab_size=31, **SHAPE))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder = export_to_huggingface(model, None, tmp_path / "a" / "b")
    export_to_huggingface(model, None, folder)  # a second time over the first
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json", ".safetensors"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position": "alibi"}, "position='alibi'"),
        ({"position": "none"}, "position='none'"),
        ({"position": "sinusoidal"}, "position='sinusoidal'"),
        ({"norm_order": "post"}, "norm_order='post'"),
        ({**LLAMA, "norm_order": "post"}, "norm_order='post'"),
        ({**LLAMA, "norm": "layernorm"}, "norm='layernorm'"),
        ({**LLAMA, "mlp": "geglu"}, "mlp='geglu'"),
        ({**LLAMA, "bias": True, "qk_norm": True}, "window=None, qk_norm=True, qkv_bias=True, bias=True together"),
        ({**LLAMA, "qk_norm": True, "window": 5}, "window=5, qk_norm=True"),
        ({**LLAMA, "qkv_bias": True}, "qkv_bias=True, bias=False together"),
        ({**LLAMA, "bias": True, "qkv_bias": False}, "qkv_bias=False, bias=True together"),
        ({**LLAMA, "rotary_scaling": RotaryScaling("dynamic", 2.0, 8)}, "n_positions=29 .* original_n_positions=8"),
        ({"mlp": "relu2"}, "mlp='relu2'"),
        ({"window": 5}, "window=5"),
        ({"qk_norm": True}, "qk_norm=True"),
        ({"n_kv_head": 2}, "kv_heads=2"),
        ({"bias": False}, "bias=False"),
        ({"qkv_bias": False}, "attention_bias=False"),
    ],
)
def test_export_refuses_what_transformers_has_not(tmp_path, changes, sentence):
    model = GPT(GPTConfig(vocab_size=31, **SHAPE, **changes))
    with pytest.raises(ValueError, match=sentence):
        export_to_huggingface(model, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_wants_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file, and a folder is needed"):
        export_to_huggingface(GPT(GPTConfig(vocab_size=31, **SHAPE)), None, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_bundled_model_can_be_exported(tmp_path):
    model, tokenizer = load_model("tales")
    folder = export_to_huggingface(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([transformers.AutoTokenizer.from_pretrained(folder)("One day").input_ids])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids)[0], atol=1e-4, rtol=1e-5)


# The config's own part of it


def test_a_config_with_a_scaling_survives_its_json_file():
    config = GPTConfig(vocab_size=31, **SHAPE, **EXPORTS["yarn"])
    values = json.loads(json.dumps(config.to_dict()))
    assert GPTConfig.from_dict(values) == config
    assert hash(config) == hash(GPTConfig.from_dict(values))
    old = {**values}
    del old["rotary_scaling"]  # as configs were before there were scalings
    assert GPTConfig.from_dict(old) == dataclasses.replace(config, rotary_scaling=None)
    assert "rotary_scaling" not in GPTConfig.from_dict(old).to_dict()
    with pytest.raises(ValueError, match="not a rotary scaling: unknown"):
        GPTConfig.from_dict({**values, "rotary_scaling": {"type": "linear"}})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rotary_scaling": RotaryScaling("linear", 2.0)}, "position='learned'; leave it out"),
        ({"position": "rotary", "rotary_scaling": "linear"}, "rotary_scaling='linear' is no RotaryScaling"),
        ({"rotary_base": 1.0}, r"rotary_base=1\.0 must be a number above 1"),
        ({"rotary_base": "10000"}, "rotary_base='10000' must be a number"),
        ({"norm_eps": 0.0}, r"norm_eps=0\.0 must be above 0"),
        ({"norm_eps": None}, "norm_eps=None must be above 0"),
        ({"dropout": "0.1"}, r"dropout='0\.1' is no probability"),
        ({"dropout": float("nan")}, "dropout=nan is no probability"),
        ({"bias": "yes"}, "bias='yes' is unknown; choose one of True, False"),
        ({"qkv_bias": 1}, "qkv_bias=1 is unknown; choose one of True, False, None"),
        ({"tie_weights": 0}, "tie_weights=0 is unknown"),
        ({"mlp": None}, "mlp=None is unknown; choose one of relu"),
    ],
)
def test_configs_that_make_no_sense(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        GPTConfig(vocab_size=31, **SHAPE, **changes)
