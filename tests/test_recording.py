import pytest
import torch
from torch import Tensor

from gptlib import GPT, CausalSelfAttention, GPTConfig, generate, record
from gptlib.recording import listening

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))


def expected_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    B, T, C, H, D, K = 5, 7, config.n_embd, config.n_head, config.head_dim, config.kv_heads
    shapes: dict[str, tuple[int, ...]] = {"embedding": (B, T, C), "logits": (B, T, config.vocab_size)}
    if config.norm_order == "pre":
        shapes["norm.output"] = (B, T, C)
    if config.qk_norm:
        shapes |= {f"blocks.{i}.attention.q_norm.output": (B, H, T, D) for i in range(config.n_layer)}
        shapes |= {f"blocks.{i}.attention.k_norm.output": (B, K, T, D) for i in range(config.n_layer)}
    for i in range(config.n_layer):
        block = {
            "norm1.output": (B, T, C),
            "attention.q": (B, H, T, D),
            "attention.k": (B, K, T, D),
            "attention.v": (B, K, T, D),
            "attention.scores": (B, H, T, T),
            "attention.weights": (B, H, T, T),
            "attention.heads": (B, H, T, D),
            "attention.output": (B, T, C),
            "middle": (B, T, C),
            "norm2.output": (B, T, C),
            "mlp.hidden": (B, T, config.inner),
            "mlp.output": (B, T, C),
            "residual": (B, T, C),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def test_every_activation_has_one_name_in_every_variant(variant, random_model) -> None:
    model = random_model(variant)
    seen: list[str] = []
    with listening(model, lambda name, x: (seen.append(name), x)[1]), record(model) as run:
        model(IDS)
    assert {name: tuple(x.shape) for name, x in run.items()} == expected_shapes(variant)
    assert len(seen) == len(set(seen)) == len(run)


def test_what_is_recorded_adds_up(variant, random_model) -> None:
    model = random_model(variant)
    with record(model) as run:
        logits, _ = model(IDS)
    assert torch.equal(run["logits"], logits)
    before = run["embedding"]
    for i in range(variant.n_layer):
        of = {name.removeprefix(f"blocks.{i}."): x for name, x in run.items() if name.startswith(f"blocks.{i}.")}
        if variant.norm_order == "pre":
            torch.testing.assert_close(of["middle"], before + of["attention.output"])
            torch.testing.assert_close(of["residual"], of["middle"] + of["mlp.output"])
        else:
            torch.testing.assert_close(of["middle"], of["norm1.output"])
            torch.testing.assert_close(of["residual"], of["norm2.output"])
        torch.testing.assert_close(of["attention.weights"], of["attention.scores"].softmax(-1))
        torch.testing.assert_close(of["attention.weights"].sum(-1), torch.ones(5, 6, 7))
        v = of["attention.v"].repeat_interleave(variant.n_head // variant.kv_heads, dim=1)
        torch.testing.assert_close(of["attention.heads"], of["attention.weights"] @ v)
        before = of["residual"]
    final = run["norm.output"] if variant.norm_order == "pre" else before
    torch.testing.assert_close(run["logits"], final @ model.lm_head.weight.T)


@pytest.fixture
def model(random_model) -> GPT:
    return random_model(GPTConfig(vocab_size=23, n_positions=17, n_embd=24, n_layer=2, n_head=6))


def test_nothing_is_left_after_the_context_and_after_an_error(model) -> None:
    before = model(IDS)[0]
    with record(model):
        assert model.blocks[0].noted
    with pytest.raises(ZeroDivisionError), record(model):
        raise ZeroDivisionError
    parts = [part for part in model.modules() if hasattr(part, "noted")]
    assert len(parts) > 10
    assert not any(part.noted for part in parts)
    assert torch.equal(model(IDS)[0], before)


def test_recordings_nest_and_the_outer_one_goes_on(model) -> None:
    with record(model) as outer:
        with record(model) as inner:
            model(IDS)
        kept = outer["logits"]
        model(IDS[:, :3])
    assert torch.equal(inner["logits"], kept)
    assert outer["logits"].shape == (5, 3, 23)
    assert inner["logits"].shape == (5, 7, 23)


def test_an_edit_changes_what_follows_and_nothing_before(model) -> None:
    def silence(name: str, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if name == "blocks.1.attention.output" else x

    with record(model) as plain:
        model(IDS)
    with record(model) as edited, listening(model, silence):
        model(IDS)
    assert torch.equal(edited["blocks.0.residual"], plain["blocks.0.residual"])
    assert torch.equal(edited["blocks.1.middle"], plain["blocks.0.residual"])
    assert not torch.equal(edited["logits"], plain["logits"])
    assert torch.equal(edited["blocks.1.attention.output"], torch.zeros(5, 7, 24))


def test_values_are_copies_without_a_graph(model) -> None:
    with record(model) as run:
        model(IDS)
    kept = run["blocks.0.residual"].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model(IDS)
    assert torch.equal(run["blocks.0.residual"], kept)
    assert not any(x.requires_grad for x in run.values())
    assert all(x.is_contiguous() for x in run.values())


def test_gradients_of_activations(model) -> None:
    with record(model, gradients=True) as run:
        _, loss = model(IDS, IDS.roll(-1, 1))
    loss.backward()
    for name, x in run.items():
        assert x.grad is not None, name
        assert x.grad.shape == x.shape, name
    # The loss sees block 1 only through the residual stream, so both of its terms get the stream's gradient.
    torch.testing.assert_close(run["blocks.1.mlp.output"].grad, run["blocks.1.residual"].grad)


def test_recording_leaves_random_numbers_alone(model) -> None:
    state = torch.get_rng_state()
    with record(model):
        model(IDS)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_alone_can_be_recorded() -> None:
    attention = CausalSelfAttention(GPTConfig(vocab_size=23, n_positions=17, n_embd=24, n_layer=1, n_head=6))
    with record(attention) as run:
        attention(torch.randn(5, 7, 24))
    assert list(run) == ["q", "k", "v", "scores", "weights", "heads", "output"]


def test_generate_inside_a_recording_keeps_the_last_step(model) -> None:
    with record(model) as run:
        generate(model, IDS, 3, temperature=0)
    assert run["blocks.0.attention.weights"].shape == (5, 6, 1, 9)  # the third token is drawn after 9 were read


def test_an_unknown_name_says_which_there_are(model) -> None:
    with record(model) as run:
        pass
    with pytest.raises(KeyError, match="the model was not called"):
        run["logits"]
    with record(model) as run:
        model(IDS)
    with pytest.raises(KeyError, match=r"'blocks.9.residual' was not recorded; the first names are embedding"):
        run["blocks.9.residual"]
