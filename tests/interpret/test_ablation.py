import copy

import pytest
import torch

from gptlib import GPT, GPTConfig, generate, record
from gptlib.interpret import ablate_heads, ablate_layers, ablate_positions

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))
OTHERS = torch.randint(23, (4, 11), generator=torch.Generator().manual_seed(1))
D = 4


@pytest.fixture
def model(random_model) -> GPT:
    return random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6, n_kv_head=3, position="rotary"))


def test_a_silenced_head_is_a_slice_of_the_projection_set_to_zero(variant, random_model) -> None:
    model = random_model(variant)
    plain = model(IDS)[0]
    for layer, head in ((0, 0), (0, 5), (1, 2)):
        cut = copy.deepcopy(model)
        with torch.no_grad():
            cut.blocks[layer].attention.project.weight[:, head * D : (head + 1) * D] = 0
        with ablate_heads(model, [(layer, head)]):
            found = model(IDS)[0]
        torch.testing.assert_close(found, cut(IDS)[0])
        assert not torch.allclose(found, plain)


def test_heads_of_several_layers_at_once_are_heads_one_after_the_other(model) -> None:
    with ablate_heads(model, [(0, 1), (1, 4), (0, 2)]):
        together = model(IDS)[0]
    with ablate_heads(model, [(0, 1)]), ablate_heads(model, [(0, 2)]), ablate_heads(model, [(1, 4)]):
        assert torch.equal(model(IDS)[0], together)


def test_a_part_left_out_adds_nothing(variant, random_model) -> None:
    model = random_model(variant)
    for part, last in (("attention", "project"), ("mlp", "narrow")):
        cut = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in getattr(getattr(cut.blocks[1], part), last).parameters():
                parameter.zero_()
        with ablate_layers(model, [(1, part)]):
            torch.testing.assert_close(model(IDS)[0], cut(IDS)[0])


def test_the_mean_is_over_texts_and_positions_of_the_source(model) -> None:
    with record(model) as source:
        model(OTHERS)
    with record(model) as run, ablate_heads(model, [(1, 3)], replace="mean", source=source):
        model(IDS)
    name = "blocks.1.attention.heads"
    mean = source[name][:, 3].mean((0, 1))  # (4, 11, D) -> (D,)
    torch.testing.assert_close(run[name][:, 3], mean.expand(5, 7, D))
    with record(model) as plain:
        model(IDS)
    assert torch.equal(run[name][:, :3], plain[name][:, :3])
    with record(model) as run, ablate_layers(model, [(0, "mlp")], replace="mean", source=source, positions=[2, -1]):
        model(IDS)
    name = "blocks.0.mlp.output"
    torch.testing.assert_close(run[name][:, [2, 6]], source[name].mean((0, 1)).expand(5, 2, 24))
    assert torch.equal(run[name][:, [0, 1, 3, 4, 5]], plain[name][:, [0, 1, 3, 4, 5]])


def test_resampling_takes_the_values_of_the_other_text(model) -> None:
    with record(model) as one:
        model(OTHERS[:1, :7])
    with record(model) as run, ablate_heads(model, [(0, 2)], replace="resample", source=one, positions=[1, 3]):
        model(IDS)
    name = "blocks.0.attention.heads"
    assert torch.equal(run[name][:, 2, [1, 3]], one[name][:, 2, [1, 3]].expand(5, 2, D))
    with record(model) as same:
        model(IDS)
    with ablate_heads(model, [(0, 2), (1, 1)], replace="resample", source=same):
        assert torch.equal(model(IDS)[0], same["logits"])


def test_a_hidden_position_is_read_by_nobody_else(variant, random_model) -> None:
    model = random_model(variant)
    changed = IDS.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 23
    others = [0, 1, 3, 4, 5, 6]
    with ablate_positions(model, [2]):
        assert torch.equal(model(IDS)[0][:, others], model(changed)[0][:, others])
        assert not torch.allclose(model(IDS)[0][:, 2], model(changed)[0][:, 2])
    if variant.window != 1:
        assert not torch.allclose(model(IDS)[0][:, others], model(changed)[0][:, others])
    with record(model) as run, ablate_positions(model, [2, -1]):
        model(IDS)
    weights = run["blocks.1.attention.weights"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 6, 7))
    assert (weights[:, :, 3:, 2] == 0).all()
    assert (weights[:, :, 2, 2] > 0).all()
    assert (weights[:, :, 6, 6] > 0).all()


def test_positions_can_be_hidden_from_one_layer(model) -> None:
    with record(model) as run, ablate_positions(model, [0], layers=[1]):
        model(IDS)
    assert (run["blocks.0.attention.weights"][:, :, 1:, 0] > 0).all()
    assert (run["blocks.1.attention.weights"][:, :, 1:, 0] == 0).all()


def test_weights_stay_and_the_model_is_whole_again_after_an_error(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = model(IDS)[0]
    for ablation in (
        lambda: ablate_heads(model, [(0, 0)]),
        lambda: ablate_layers(model, [(0, "mlp")]),
        lambda: ablate_positions(model, [0]),
    ):
        with ablation():
            assert not torch.allclose(model(IDS)[0], plain)
        with pytest.raises(ZeroDivisionError), ablation():
            raise ZeroDivisionError
        assert torch.equal(model(IDS)[0], plain)
        assert not model.noted
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_pass_around_what_was_ablated(model) -> None:
    with ablate_heads(model, [(1, 3)]):
        model(IDS, IDS.roll(-1, 1))[1].backward()
    project = model.blocks[1].attention.project.weight.grad
    assert (project[:, 3 * D : 4 * D] == 0).all()
    assert (project[:, : 3 * D] != 0).any()
    q = model.blocks[1].attention.qkv.weight.grad[3 * D : 4 * D]
    assert (q == 0).all()


def test_without_gradients_and_in_inference_mode(model) -> None:
    with ablate_heads(model, [(1, 3)]):
        expected = model(IDS)[0].detach()
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                assert torch.equal(model(IDS)[0], expected)


def test_generation_with_a_cache_goes_on_without_the_head(model) -> None:
    with ablate_heads(model, [(0, 1), (1, 5)]), ablate_positions(model, [0]):
        cached = generate(model, IDS, 6, temperature=0)
        assert torch.equal(cached, generate(model, IDS, 6, temperature=0, use_cache=False))


def test_dtype_of_the_model_is_kept(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    with record(model) as source:
        model(OTHERS)
    half = copy.deepcopy(model).bfloat16()
    with ablate_heads(half, [(1, 3)], replace="mean", source=source):
        assert half(IDS)[0].dtype == torch.bfloat16


def test_bad_arguments_say_what_would_do(model) -> None:
    cases = [
        (lambda: ablate_heads(model, [(2, 0)]), "layer 2 does not exist; use 0 to 1"),
        (lambda: ablate_heads(model, [(-1, 0)]), "layer -1 does not exist; use 0 to 1"),
        (lambda: ablate_heads(model, [(0, 6)]), "head of 'blocks.0.attention.heads' 6 does not exist; use 0 to 5"),
        (lambda: ablate_layers(model, [(0, "norm")]), "'norm' is no part of a block; ablate 'attention' or 'mlp'"),
        (lambda: ablate_positions(model, [0], layers=[7]), "layer 7 does not exist"),
        (lambda: ablate_heads(model, [(0, 0)], replace="mean"), "replace='mean' needs source=, a recording"),
        (lambda: ablate_heads(model, [(0, 0)], source={}), "replace='zero' needs no source"),
        (lambda: ablate_heads(model, [(0, 0)], replace="noise"), "replace='noise' is unknown; choose 'zero', 'mean'"),
        (lambda: ablate_heads(model, [(0, 0)], replace="mean", source={}), "holds no 'blocks.0.attention.heads'"),
    ]
    for ablation, message in cases:
        with pytest.raises(ValueError, match=message), ablation():
            pass
    with ablate_positions(model, [7]), pytest.raises(ValueError, match="position 7 is outside the 7 tokens"):
        model(IDS)
    with record(model) as source:
        model(OTHERS)
    with (
        ablate_heads(model, [(0, 0)], replace="resample", source=source),
        pytest.raises(
            ValueError, match=r"is \(5, 6, 7, 4\) here and \(4, 6, 11, 4\) in the source; record texts of the"
        ),
    ):
        model(IDS)
