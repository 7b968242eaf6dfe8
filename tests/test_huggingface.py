"""Our GPT against transformers' GPT-2 and Llama: the same weights, the same numbers, in both directions."""

import socket

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.config import GPTConfig
from gptlib.huggingface import config_from_transformers, weights_from_transformers, weights_to_transformers
from gptlib.model import GPT
from gptlib.pretrained import export_to_huggingface, load_model
from gptlib.tokenizers import BPETokenizer

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


def llama(n_kv_head=2, **changes):
    config = transformers.LlamaConfig(
        vocab_size=31, max_position_embeddings=17, hidden_size=24, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=n_kv_head, intermediate_size=40, **changes,
    )  # fmt: skip
    return randomised(transformers.LlamaForCausalLM(config))


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


@pytest.mark.parametrize(
    "theirs",
    [
        gpt2(),
        gpt2("relu"),
        gpt2("gelu", n_inner=40, layer_norm_epsilon=0.3),
        gpt2(tie_word_embeddings=False),
        llama(),
        llama(n_kv_head=6, rms_norm_eps=0.3),
        llama(n_kv_head=1, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 77.0}),
    ],
    ids=["gpt2", "relu", "inner", "untied", "llama", "multi-head", "multi-query"],
)
def test_equal_logits(theirs):
    ids = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        logits, _ = ours_of(theirs)(ids)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("theirs", [gpt2(), llama()], ids=["gpt2", "llama"])
def test_names_go_there_and_back(theirs):
    config = config_from_transformers(theirs.config)
    back = weights_to_transformers(config, weights_from_transformers(config, theirs.state_dict()))
    expected = theirs.state_dict()
    assert set(expected) - set(back) <= {"lm_head.weight"}
    assert all(torch.equal(expected[name], weight) for name, weight in back.items())


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        (transformers.BertConfig(), "'bert' cannot be loaded"),
        (transformers.GPT2Config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx=True"),
        (transformers.GPT2Config(activation_function="silu"), "'silu'"),
        (transformers.LlamaConfig(attention_bias=True), "attention_bias=True"),
        (
            transformers.LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}),
            "'linear'",
        ),
    ],
)
def test_what_a_gpt_cannot_be_is_refused(theirs, sentence):
    with pytest.raises(ValueError, match=sentence):
        config_from_transformers(theirs)


@settings(max_examples=6, deadline=None)
@given(kind=st.sampled_from(["gpt2", "llama"]), heads=st.sampled_from([1, 2, 4]), tie=st.booleans())
def test_export_loads_in_transformers_and_comes_back(tmp_path_factory, tokenizer, kind, heads, tie):
    parts = {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "n_kv_head": heads}
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, n_positions=29, n_embd=24, n_layer=2, n_head=4, tie_weights=tie,
        **(parts if kind == "llama" else {}),
    )  # fmt: skip
    model = GPT(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    folder = export_to_huggingface(model, tokenizer, tmp_path_factory.mktemp("export") / "new")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(TEXT)
    assert their_tokenizer(TEXT).input_ids == ids
    assert their_tokenizer.decode(ids) == TEXT
    back, back_tokenizer = load_model(folder)
    assert back_tokenizer is not None
    assert back_tokenizer.encode(TEXT) == ids
    assert back_tokenizer.end_id == tokenizer.end_id
    assert back_tokenizer.decode(ids) == TEXT
    with torch.no_grad():
        ours, _ = model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, ours, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(back(torch.tensor([ids]))[0], ours, atol=1e-4, rtol=1e-4)


def test_export_works_in_a_pipeline(tmp_path, tokenizer):
    config = GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=29, n_embd=24, n_layer=2, n_head=3)
    folder = export_to_huggingface(GPT(config), tokenizer, tmp_path)
    write = transformers.pipeline("text-generation", model=str(folder))
    [answer] = write("the cat", max_new_tokens=3, do_sample=False)
    assert answer["generated_text"].startswith("the cat")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position": "alibi"}, "position='alibi'"),
        ({"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "qk_norm": True}, "qk_norm=True"),
        ({"mlp": "relu2"}, "mlp='relu2'"),
        ({"window": 5}, "window=5"),
    ],
)
def test_export_refuses_what_transformers_has_not(tmp_path, changes, sentence):
    model = GPT(GPTConfig(vocab_size=31, n_positions=17, n_embd=24, n_layer=1, n_head=3, **changes))
    with pytest.raises(ValueError, match=sentence):
        export_to_huggingface(model, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_without_tokenizer_gives_none(tmp_path):
    gpt2().save_pretrained(tmp_path)
    model, tokenizer = load_model(tmp_path)
    assert tokenizer is None
    assert not model.training


def test_hub_out_of_reach_is_one_sentence(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(ConnectionError, match=r"'gpt2' could not be had from the hub.*bundled models"):
        load_model("gpt2")
