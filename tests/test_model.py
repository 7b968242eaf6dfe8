import dataclasses
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from gptlib import GPT, GPTConfig, record
from gptlib.config import PRESETS
from gptlib.layers import GATES

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(-1, 23, (5, 7), generator=torch.Generator().manual_seed(1))


def small(**changes: Any) -> GPTConfig:
    return GPTConfig(**{"vocab_size": 23, "n_positions": 17, "n_embd": 24, "n_layer": 2, "n_head": 6, **changes})


# Plain and fused


def test_plain_and_fused_form_agree_forwards_and_backwards(variant, random_model) -> None:
    results = []
    for plain in (False, True):
        model = random_model(variant).double()  # in fp64 nothing but a wrong formula can differ
        if plain:
            with record(model):
                logits, loss = model(IDS, TARGETS)
        else:
            logits, loss = model(IDS, TARGETS)
        loss.backward()
        results.append((logits.detach(), loss.detach(), {n: p.grad for n, p in model.named_parameters()}))
    (fused, fused_loss, fused_grads), (plain_logits, plain_loss, plain_grads) = results
    torch.testing.assert_close(plain_logits, fused, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(plain_loss, fused_loss, atol=1e-6, rtol=0)  # the loss is computed in fp32
    for name, gradient in fused_grads.items():
        torch.testing.assert_close(plain_grads[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_plain_and_fused_form_agree_in_fp32(variant) -> None:
    torch.manual_seed(0)
    model = GPT(variant)
    fused, fused_loss = model(IDS, TARGETS)
    fused_loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with record(model):
        plain, plain_loss = model(IDS, TARGETS)
    plain_loss.backward()
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("by", ["weights", "autocast"])
def test_plain_and_fused_form_agree_in_bf16(variant, random_model, by) -> None:
    torch.manual_seed(0)
    model = GPT(variant).eval()
    exact = model(IDS)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=by == "autocast"):
        model = model.bfloat16() if by == "weights" else model
        fused = model(IDS)[0]
        with record(model) as run:
            plain = model(IDS)[0]
    assert fused.dtype == plain.dtype == torch.bfloat16
    scale = exact.abs().max().item()
    for other in (fused, plain):  # 8 bits of mantissa, a few dozen roundings on the way
        torch.testing.assert_close(other.float(), exact, atol=0.03 * scale, rtol=0)
    torch.testing.assert_close(
        run["blocks.1.attention.weights"].float().sum(-1), torch.ones(5, 6, 7), atol=0.02, rtol=0
    )


def test_loss_is_fp32_whatever_the_weights_are(variant) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        logits, loss = GPT(variant).to(dtype)(IDS, TARGETS)
        assert logits.dtype == dtype
        assert loss.dtype == torch.float32


# No look ahead


def test_no_variant_sees_the_future_by_perturbation(variant, random_model) -> None:
    model = random_model(variant)
    for plain in (False, True):
        for t in range(1, 7):
            other = IDS.clone()
            other[:, t:] = (other[:, t:] + 1 + torch.arange(5)[:, None]) % 23
            if plain:
                with record(model):
                    before, after = model(IDS)[0], model(other)[0]
            else:
                before, after = model(IDS)[0], model(other)[0]
            assert torch.equal(before[:, :t], after[:, :t]), f"position {t} was seen before it was read"
            assert not torch.equal(before[:, t], after[:, t]), "the perturbation itself must be visible"


def test_no_variant_sees_the_future_by_gradient(variant, random_model) -> None:
    model = random_model(variant)
    for plain in (False, True):
        with torch.no_grad():
            x = model.token_embedding(IDS[:1])

        def stack(x: torch.Tensor, plain: bool = plain) -> torch.Tensor:
            for block in model.blocks:
                with record(block) if plain else nullcontext():
                    x = block(x)
            return x[0].sum(-1)  # (T,), one number a position

        jacobian = torch.autograd.functional.jacobian(stack, x)[:, 0]  # (T, T, C)
        influence = jacobian.abs().amax(dim=-1)  # (T, T): of position s on position t
        assert torch.equal(influence.triu(1), torch.zeros(7, 7))
        window = variant.window if variant.window is not None else 7
        reach = (window - 1) * variant.n_layer  # each layer carries information one window further
        seen = torch.ones(7, 7).tril() * torch.ones(7, 7).triu(-reach)
        assert torch.equal((influence > 0).float(), seen)


# Texts of unequal length


def test_padding_gives_each_row_the_logits_it_gets_alone(variant, random_model) -> None:
    model = random_model(variant).double()
    padding = torch.tensor([0, 3, 1, 6, 3])
    logits = model(IDS, padding=padding)[0]
    for row, start, together in zip(IDS, padding, logits, strict=True):
        torch.testing.assert_close(together[start:], model(row[None, start:])[0][0], atol=1e-9, rtol=1e-9)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(model(IDS, padding=torch.zeros(5, dtype=torch.int64))[0], model(IDS)[0])
    with record(model) as run:
        torch.testing.assert_close(model(IDS, padding=padding)[0], logits, atol=1e-9, rtol=1e-9)
    for b, start in enumerate(padding):
        assert (run["blocks.1.attention.weights"][b, :, start:, :start] == 0).all()


@pytest.mark.parametrize("shape", [(), (1,), (4,), (5, 1)])
def test_padding_of_another_shape_is_not_broadcast(shape, random_model) -> None:
    with pytest.raises(ValueError, match=r"padding has shape \(.*\); give one count a row, \(5,\)"):
        random_model(small())(IDS, padding=torch.zeros(shape, dtype=torch.int64))


def test_what_stands_in_the_fill_changes_nothing_and_learns_nothing(variant, random_model) -> None:
    model = random_model(dataclasses.replace(variant, tie_weights=False))
    padding = torch.tensor([0, 3, 1, 6, 3])
    fill = torch.arange(7) < padding[:, None]  # (5, 7)
    ids, targets = torch.where(fill, 22, IDS % 22), TARGETS.masked_fill(fill, -1)  # 22 stands in the fill alone
    for plain in (False, True):
        with record(model, gradients=True) if plain else nullcontext():
            logits, loss = model(ids, targets, padding=padding)
            other = model(torch.where(fill, 7, ids), padding=padding)[0]
        assert torch.equal(logits[~fill], other[~fill])
        model.zero_grad()
        loss.backward()
        gradient = model.token_embedding.weight.grad
        assert (gradient[22] == 0).all()
        assert (gradient[ids[~fill].unique()].abs().sum(-1) > 0).any()


# Size


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
        ("smollm2-135m", 134_515_008),
        ("gpt3", 174_604_259_328),
    ],
)
def test_parameters_are_counted_exactly(preset, parameters) -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig.preset(preset))
    assert model.n_parameters() == parameters
    assert all(p.is_meta for p in model.parameters())


def test_gpt3_by_its_shape_is_a_quarter_of_a_percent_below_its_name() -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig.preset("gpt3"))
    assert model.n_parameters() / 175e9 == pytest.approx(0.99774, abs=5e-6)
    # By hand: 12 C² and 13 C of biases and norms a block, the last norm, and the embeddings of tokens and positions.
    C = 12_288
    assert model.n_parameters() == 96 * (12 * C**2 + 13 * C) + 2 * C + (50_257 + 2048) * C


def test_every_preset_can_be_built_and_run_on_the_meta_device() -> None:
    for name in PRESETS:
        with torch.device("meta"):
            model = GPT(GPTConfig.preset(name, n_layer=2))
            logits, loss = model(torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64))
        assert logits.shape == (2, 5, model.config.vocab_size)
        assert loss.shape == ()


def test_tied_weights_are_one_tensor_counted_and_trained_once(random_model) -> None:
    tied, untied = random_model(small()), random_model(small(tie_weights=False))
    assert tied.lm_head.weight is tied.token_embedding.weight
    assert untied.lm_head.weight is not untied.token_embedding.weight
    assert untied.n_parameters() - tied.n_parameters() == 23 * 24
    _, loss = tied(IDS, TARGETS)
    loss.backward()
    unread = sorted(set(range(23)) - set(IDS.flatten().tolist()))
    assert unread
    assert (tied.token_embedding.weight.grad[unread].abs().sum(-1) > 0).all()  # through the output map
    _, loss = untied(IDS, TARGETS)
    loss.backward()
    assert (untied.token_embedding.weight.grad[unread] == 0).all()


def test_every_parameter_takes_part(variant, random_model) -> None:
    model = random_model(variant)
    model(IDS, TARGETS)[1].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A window of one leaves nothing to choose from, and adding to every key's bias changes no softmax.
        if variant.window != 1 and name.split(".")[-1] == "weight":
            assert parameter.grad.abs().max() > 0, name


# Initialisation


def test_first_loss_is_that_of_knowing_nothing(variant) -> None:
    torch.manual_seed(0)
    model = GPT(variant)
    ids = torch.randint(23, (20, 17))
    loss = model(ids, torch.randint(23, (20, 17)))[1].item()
    post = variant.norm_order == "post"  # its last norm ends with width-24 vectors of length √24
    assert loss == pytest.approx(math.log(23), abs=0.1 if post else 0.06)


def test_scale_of_the_initial_weights() -> None:
    torch.manual_seed(0)
    model = GPT(small(vocab_size=500, n_embd=192, n_positions=64, n_layer=8))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            writes = name.endswith(("attention.project.weight", "mlp.narrow.weight"))
            std = 0.02 / math.sqrt(2 * 8) if writes else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.03), name
            assert abs(parameter.mean().item()) < 5 * std / math.sqrt(parameter.numel()), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, float("norm" in name and "weight" in name))), name


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in GPT(small()).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# Forward


def test_loss_is_the_mean_over_targets_that_are_there(variant, random_model) -> None:
    model = random_model(variant).double()
    logits, loss = model(IDS, TARGETS)
    chosen = [-logits[b, t].log_softmax(-1)[TARGETS[b, t]] for b in range(5) for t in range(7) if TARGETS[b, t] >= 0]
    assert len(chosen) < 35
    assert loss.item() == pytest.approx(torch.stack(chosen).mean().item(), rel=1e-5)
    assert model(IDS)[1] is None


def test_rows_of_a_batch_do_not_touch(variant, random_model) -> None:
    model = random_model(variant)
    together = model(IDS)[0]
    for b in range(5):
        torch.testing.assert_close(model(IDS[b : b + 1])[0][0], together[b], atol=1e-4, rtol=1e-4)


def test_only_last_is_the_last(variant, random_model) -> None:
    model = random_model(variant)
    logits, loss = model(IDS, only_last=True)
    assert logits.shape == (5, 1, 23)
    assert loss is None
    torch.testing.assert_close(logits[:, 0], model(IDS)[0][:, -1], atol=1e-5, rtol=1e-5)


def test_inputs_and_weights_are_not_changed(variant, random_model) -> None:
    model, ids = random_model(variant), IDS.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with record(model):
        model(ids, TARGETS)
    model(ids, TARGETS)
    assert torch.equal(ids, IDS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_positions_order_is_invisible_and_with_them_it_is_not(random_model) -> None:
    for position in ("none", "learned", "sinusoidal", "rotary", "alibi"):
        model = random_model(small(position=position, n_layer=1))
        first, swapped = torch.tensor([[3, 8, 5, 11]]), torch.tensor([[8, 5, 3, 11]])
        same = torch.allclose(model(first)[0][0, -1], model(swapped)[0][0, -1], atol=1e-5)
        assert same == (position == "none")


def test_texts_beyond_n_positions(random_model) -> None:
    ids = torch.randint(23, (2, 40))
    for position in ("learned", "sinusoidal"):
        with pytest.raises(ValueError, match=f"40 tokens, and {position} positions end at n_positions=17; shorten"):
            random_model(small(position=position))(ids)
    for position in ("rotary", "alibi", "none"):
        assert torch.isfinite(random_model(small(position=position))(ids)[0]).all()


def test_deep_models_keep_a_calm_stream() -> None:
    torch.manual_seed(0)
    model = GPT(small(n_layer=24, n_embd=96))
    with record(model) as run:
        model(IDS)
    assert run["blocks.23.residual"].std() < 3 * run["embedding"].std() + 0.1


# Config


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_embd": 130, "n_head": 4}, r"n_embd=130 is not divisible by n_head=4; try n_embd=128 or 132"),
        ({"n_embd": 3, "n_head": 4}, r"n_embd=3 is not divisible by n_head=4; try n_embd=4"),
        ({"n_kv_head": 4}, r"n_kv_head=4 does not divide n_head=6; use one of its divisors"),
        ({"n_kv_head": 12}, r"n_kv_head=12 does not divide n_head=6"),
        ({"n_layer": 0}, r"n_layer=0 must be a whole number of at least 1"),
        ({"vocab_size": -5}, r"vocab_size=-5 must be a whole number of at least 1"),
        ({"n_positions": 2.5}, r"n_positions=2.5 must be a whole number"),
        ({"n_head": True}, r"n_head=True must be a whole number"),
        ({"n_inner": 0}, r"n_inner=0 must be"),
        ({"window": 0}, r"window=0 must be"),
        ({"n_kv_head": 0}, r"n_kv_head=0 must be"),
        ({"dropout": 1.0}, r"dropout=1.0 is no probability below 1; use 0 to 0.5"),
        ({"dropout": -0.1}, r"dropout=-0.1"),
        ({"dropout": math.nan}, r"dropout=nan"),
        ({"position": "rotary", "n_embd": 18}, r"rotary positions need an even n_embd / n_head, and it is 3"),
        (
            {"position": "sinusoidal", "n_embd": 9, "n_head": 3},
            r"sinusoidal positions need an even n_embd",
        ),
        (
            {"position": "spiral"},
            r"position='spiral' is unknown; choose one of learned, sinusoidal,",
        ),
        ({"norm": "batchnorm"}, r"norm='batchnorm' is unknown; choose one of layernorm, rmsnorm"),
        ({"norm_order": "middle"}, r"norm_order='middle' is unknown; choose one of pre, post"),
        ({"mlp": "tanh"}, r"mlp='tanh' is unknown; choose one of relu, relu2, gelu, gelu_tanh, swiglu, geglu"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_with_a_way_out(changes, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        small(**changes)


def test_presets_by_name() -> None:
    assert GPTConfig.preset("gpt2") == GPTConfig(50_257, 1024, 768, 12, 12)
    assert GPTConfig.preset("gpt2", dropout=0.1).dropout == 0.1
    with pytest.raises(ValueError, match="unknown preset 'gpt2-medum'; did you mean 'gpt2-medium'"):
        GPTConfig.preset("gpt2-medum")
    with pytest.raises(ValueError, match="unknown preset 'xyzzy'; presets: gpt2, "):
        GPTConfig.preset("xyzzy")
    for name in (
        "gpt2-large",
        "gpt2-xl",
        "gpt3",
        "tales",
        "shakespeare-fast",
        "shakespeare-cpu",
        "shakespeare-gpu",
        "smollm2-135m",
    ):
        assert GPTConfig.preset(name).n_embd % GPTConfig.preset(name).n_head == 0


def test_recipes_of_nanogpt_have_its_sizes() -> None:
    cpu, gpu = GPTConfig.preset("shakespeare-cpu"), GPTConfig.preset("shakespeare-gpu")
    assert (cpu.n_layer, cpu.n_head, cpu.n_embd, cpu.n_positions, cpu.dropout) == (4, 4, 128, 64, 0.0)
    assert (gpu.n_layer, gpu.n_head, gpu.n_embd, gpu.n_positions, gpu.dropout) == (6, 6, 384, 256, 0.2)


def test_config_goes_to_a_dictionary_and_back(variant) -> None:
    assert GPTConfig.from_dict(variant.to_dict()) == variant
    with pytest.raises(ValueError, match=r"unknown \['n_heads'\], missing none"):
        GPTConfig.from_dict({**variant.to_dict(), "n_heads": 3})
    with pytest.raises(ValueError, match=r"unknown none, missing \['n_embd', 'n_head'\]"):
        GPTConfig.from_dict({"vocab_size": 5, "n_positions": 4, "n_layer": 1})


def test_width_of_the_feed_forward_network() -> None:
    assert small().inner == 96
    assert small(n_inner=50, mlp="swiglu").inner == 50
    for width in (24, 96, 576, 768):
        for gate in GATES:
            inner = small(n_embd=width, mlp=gate).inner
            assert inner % 32 == 0
            assert 0 <= inner - 8 * width / 3 < 32


# The same numbers as transformers


def test_equals_transformers_gpt2() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=23, n_positions=17, n_embd=24, n_layer=2, n_head=6, n_inner=80, bos_token_id=0, eos_token_id=0
        )
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = GPT(small(n_inner=80)).eval()
    weights = {name.removeprefix("transformer."): value for name, value in theirs.state_dict().items()}
    names = {"ln_1": "norm1", "attn.c_attn": "attention.qkv", "attn.c_proj": "attention.project", "ln_2": "norm2"}
    names |= {"mlp.c_fc": "mlp.widen", "mlp.c_proj": "mlp.narrow"}
    with torch.no_grad():
        ours.token_embedding.weight.copy_(weights["wte.weight"])
        ours.position_embedding.weight.copy_(weights["wpe.weight"])
        ours.norm.load_state_dict({"weight": weights["ln_f.weight"], "bias": weights["ln_f.bias"]})
        for i, block in enumerate(ours.blocks):
            for name, our_name in names.items():
                part, weight = block.get_submodule(our_name), weights[f"h.{i}.{name}.weight"]
                part.weight.copy_(weight if "ln" in name else weight.T)  # Conv1D keeps (in, out)
                part.bias.copy_(weights[f"h.{i}.{name}.bias"])
    expected = theirs(IDS, labels=IDS)
    torch.testing.assert_close(ours(IDS)[0], expected.logits, atol=1e-5, rtol=1e-5)
    targets = torch.cat([IDS[:, 1:], torch.full((5, 1), -1)], dim=1)
    torch.testing.assert_close(ours(IDS, targets)[1], expected.loss, atol=1e-5, rtol=1e-5)
    with record(ours):
        torch.testing.assert_close(ours(IDS)[0], expected.logits, atol=1e-5, rtol=1e-5)


def test_equals_transformers_llama() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=23,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=17,
            rms_norm_eps=1e-3,
            tie_word_embeddings=False,
        )
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    llama = {"position": "rotary", "norm": "rmsnorm", "norm_eps": 1e-3, "mlp": "swiglu", "bias": False}
    ours = GPT(small(n_kv_head=3, n_inner=40, tie_weights=False, **llama)).eval()
    with torch.no_grad():
        ours.token_embedding.weight.copy_(theirs.model.embed_tokens.weight)
        ours.lm_head.weight.copy_(theirs.lm_head.weight)
        ours.norm.weight.copy_(theirs.model.norm.weight)
        for block, layer in zip(ours.blocks, theirs.model.layers, strict=True):
            attention = layer.self_attn
            qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
            block.attention.qkv.weight.copy_(torch.cat(qkv))
            block.attention.project.weight.copy_(attention.o_proj.weight)
            block.norm1.weight.copy_(layer.input_layernorm.weight)
            block.norm2.weight.copy_(layer.post_attention_layernorm.weight)
            block.mlp.gate.weight.copy_(layer.mlp.gate_proj.weight)
            block.mlp.widen.weight.copy_(layer.mlp.up_proj.weight)
            block.mlp.narrow.weight.copy_(layer.mlp.down_proj.weight)
    torch.testing.assert_close(ours(IDS)[0], theirs(IDS).logits, atol=1e-5, rtol=1e-5)


# Compiled

COMPILED = {
    "gpt2": {},
    "modern": {"position": "rotary", "n_kv_head": 3, "window": 4, "norm": "rmsnorm", "mlp": "swiglu", "qk_norm": True},
    "alibi": {"position": "alibi", "norm_order": "post", "mlp": "relu2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", COMPILED.values(), ids=COMPILED.keys())
def test_compiles_as_one_graph_with_the_same_numbers(changes) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = GPT(small(**changes))
    compiled = torch.compile(model, fullgraph=True)
    logits, loss = model(IDS, TARGETS)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    compiled_logits, compiled_loss = compiled(IDS, TARGETS)
    compiled_loss.backward()
    torch.testing.assert_close(compiled_logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(compiled_loss, loss)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], atol=1e-5, rtol=1e-5, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(compiled(IDS)[0], logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", COMPILED.values(), ids=COMPILED.keys())
def test_forward_is_one_graph(changes) -> None:
    """Traced with no compiler behind it: a graph break would raise."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = GPT(small(**changes))
    traced = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(IDS, TARGETS)[1], model(IDS, TARGETS)[1])
    torch.testing.assert_close(traced(IDS)[0], model(IDS)[0])
    padding = torch.tensor([0, 3, 1, 6, 3])
    torch.testing.assert_close(traced(IDS, padding=padding)[0], model(IDS, padding=padding)[0])
