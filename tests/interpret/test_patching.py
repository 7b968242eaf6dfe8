import pytest
import torch

from gptlib import GPT, GPTConfig, load_model, record
from gptlib.interpret import (
    Sweep,
    ablate_heads,
    activation_names,
    logit_difference,
    patch,
    patch_sweep,
)

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))
OTHERS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(random_model) -> GPT:
    return random_model(GPTConfig(23, 17, 24, n_layer=3, n_head=6, n_kv_head=3, position="rotary"))


def test_everything_patched_is_the_other_run(variant, random_model) -> None:
    model = random_model(variant)
    with record(model) as other:
        model(OTHERS)
    names = list(activation_names(variant))
    for sites in (names, "embedding", "logits", "blocks.1.residual", ["blocks.0.residual"]):
        with patch(model, other, sites):
            assert torch.equal(model(IDS)[0], other["logits"]), sites


def test_each_activation_alone_is_put_in_and_nothing_else(variant, random_model) -> None:
    model = random_model(variant)
    with record(model) as own:
        model(IDS)
    with record(model) as other:
        model(OTHERS)
    names = list(activation_names(variant))
    for index, name in enumerate(names):
        with record(model) as run, patch(model, other, name):
            model(IDS)
        assert torch.equal(run[name], other[name])
        for before in names[:index]:
            assert torch.equal(run[before], own[before]), f"{name} changed {before}, which is computed first"


def test_a_run_patched_with_itself_is_itself(variant, random_model) -> None:
    model = random_model(variant)
    with record(model) as own:
        logits, _ = model(IDS)
    with patch(model, own, list(own)):
        assert torch.equal(model(IDS)[0], logits)


def test_heads_and_positions_narrow_the_patch(model) -> None:
    with record(model) as own:
        model(IDS)
    with record(model) as other:
        model(OTHERS)
    name = "blocks.1.attention.heads"
    with record(model) as run, patch(model, other, name, heads=[2, 4], positions=[-1, 3]):
        model(IDS)
    expected = own[name].clone()
    for head in (2, 4):
        for position in (6, 3):
            expected[:, head, position] = other[name][:, head, position]
    assert torch.equal(run[name], expected)
    with patch(model, other, "blocks.1.attention.v", heads=[2]):
        assert not torch.allclose(model(IDS)[0], own["logits"])
    for nothing in ({"positions": []}, {"heads": []}):
        with patch(model, other, name, **nothing):
            assert torch.equal(model(IDS)[0], own["logits"])


def test_patches_nest_with_each_other_and_with_ablations(model) -> None:
    with record(model) as other:
        model(OTHERS)
    sites = ["blocks.0.attention.output", "blocks.2.mlp.output"]
    with patch(model, other, sites):
        together = model(IDS)[0]
    with patch(model, other, sites[0]), patch(model, other, sites[1]):
        assert torch.equal(model(IDS)[0], together)
    with record(model) as run, ablate_heads(model, [(1, 0)]), patch(model, other, "blocks.0.residual"):
        model(IDS)
    assert torch.equal(run["blocks.0.residual"], other["blocks.0.residual"])
    assert (run["blocks.1.attention.heads"][:, 0] == 0).all()
    assert not model.noted


def test_one_text_serves_a_batch_and_other_shapes_do_not(model) -> None:
    with record(model) as one:
        model(OTHERS[:1])
    with patch(model, one, "embedding"):
        torch.testing.assert_close(model(IDS)[0], one["logits"].expand(5, -1, -1))
    for ids in (OTHERS[:3], OTHERS[:, :1], OTHERS[:1, :6]):
        with record(model) as short:
            model(ids)
        with patch(model, short, "embedding"), pytest.raises(ValueError, match="record texts of the same length"):
            model(IDS)


def test_gradients_flow_into_the_source(model) -> None:
    with record(model, gradients=True) as other:
        model(OTHERS)
    with patch(model, other, "blocks.0.residual", positions=[2]):
        model(IDS)[0][:, -1].sum().backward()
    grad = other["blocks.0.residual"].grad
    assert (grad[:, 2] != 0).any()
    assert (grad[:, [0, 1, 3, 4, 5, 6]] == 0).all()


def test_bad_names_have_a_near_match(model) -> None:
    with record(model) as run:
        model(IDS)
    cases = [
        (
            {"sites": "blocks.1.atention.heads"},
            "'blocks.1.atention.heads' is no activation of this model; did you mean",
        ),
        ({"sites": "blocks.1.atention.heads"}, "did you mean 'blocks.1.attention.heads'?"),
        ({"sites": "§"}, "names are such as embedding, "),
        ({"sites": []}, "no activation is named"),
        ({"sites": "blocks.1.residual", "heads": [0]}, "'blocks.1.residual' has no heads; leave heads=None"),
        (
            {"sites": "blocks.1.attention.v", "heads": [3]},
            "head of 'blocks.1.attention.v' 3 does not exist; use 0 to 2",
        ),
        ({"sites": "blocks.1.attention.q", "heads": [True]}, "True does not exist"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message.replace("?", r"\?")), patch(model, run, **arguments):
            pass
    with (
        pytest.raises(ValueError, match="the source holds no 'embedding'; record a whole run"),
        patch(model, {}, "embedding"),
    ):
        pass
    with patch(model, run, "embedding", positions=[-8]), pytest.raises(ValueError, match="position -8 is outside"):
        model(IDS)


@pytest.mark.parametrize(
    ("over", "site"),
    [
        ("positions", None),
        ("positions", "attention.v"),
        ("heads", None),
        ("heads", "attention.k"),
        ("positions", "mlp.output"),
    ],
)
def test_a_sweep_is_one_patch_after_the_other(model, over, site) -> None:
    clean, corrupted = OTHERS[:1], OTHERS[:1].clone()
    corrupted[0, 3] = (corrupted[0, 3] + 1) % 23
    metric = logit_difference(4, 9)
    sweep = patch_sweep(model, clean, corrupted, metric, over=over, site=site)
    with record(model) as run:
        assert sweep.clean == pytest.approx(metric(model(clean)[0]).item())
    name = site or ("residual" if over == "positions" else "attention.heads")
    for layer in range(3):
        for index in range(sweep.values.size(1)):
            where = {"positions": [index]} if over == "positions" else {"heads": [index]}
            with patch(model, run, f"blocks.{layer}.{name}", **where):
                expected = metric(model(corrupted)[0]).item()
            assert sweep.values[layer, index].item() == pytest.approx(expected, abs=1e-4)
    with record(model):
        assert sweep.corrupted == pytest.approx(metric(model(corrupted)[0]).item())
    assert sweep.values.shape == (3, {"attention.k": 3}.get(name, 6) if over == "heads" else 7)
    lines = str(sweep).splitlines()
    assert len(lines) == 2 + 3
    assert name in lines[0]


def test_a_sweep_in_small_batches_is_the_same(model, monkeypatch) -> None:
    arguments = (model, OTHERS[:1], IDS[:1], logit_difference(4, 9))
    whole = patch_sweep(*arguments)
    monkeypatch.setattr("gptlib.interpret.patching.TOKENS_PER_BATCH", 15)
    torch.testing.assert_close(patch_sweep(*arguments).values, whole.values)


def test_the_last_layer_at_the_last_position_is_the_clean_answer(model) -> None:
    sweep = patch_sweep(model, OTHERS[:1], IDS[:1], logit_difference(4, 9))
    assert sweep.restored[-1, -1].item() == pytest.approx(1, abs=1e-4)
    assert (sweep.restored[-1, :-1] == 0).all()


def test_a_sweep_that_cannot_be_read_is_refused(model) -> None:
    metric = logit_difference(4, 9)
    cases = [
        ((OTHERS, IDS, metric), {}, r"clean ids \(5, 7\) and corrupted \(5, 7\); both must be \(1, T\)"),
        ((OTHERS[:1], IDS[:1, :6], metric), {}, r"clean ids \(1, 7\) and corrupted \(1, 6\)"),
        ((OTHERS[:1], OTHERS[:1], metric), {}, "on both texts; choose texts or a metric that differ"),
        (
            (OTHERS[:1], IDS[:1], metric),
            {"over": "layers"},
            "over='layers' is unknown; sweep over 'positions' or 'heads'",
        ),
        ((OTHERS[:1], IDS[:1], metric), {"site": "resid"}, "did you mean 'blocks.0.residual'"),
        ((OTHERS[:1], IDS[:1], metric), {"site": "mlp.output", "over": "heads"}, "'blocks.0.mlp.output' has no heads"),
        ((OTHERS[:1], IDS[:1], torch.Tensor.sum), {}, r"give one number a text, \(1,\)"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            patch_sweep(model, *arguments, **options)
    assert not model.noted


STORY = (
    "Jory lived across the bridge. He was best friends with Nora, who had an old dog. One spring day Jory saw {animal} "
    "beside a river. The {name} did not cross the river because it was too {why}. So it"
)
PAIRS = [
    ("hungry", "ate", "wide", "looked"),
    ("hungry", "ate", "deep", "searched"),
    ("hungry", "ate", "fast", "walked"),
]


def adjective_sweep(pair: tuple[str, str, str, str], animal: str, **options) -> tuple[Sweep, list[int]]:
    model, tokenizer = load_model("tales")
    why, does, other, other_does = pair

    def ids(adjective: str) -> torch.Tensor:
        text = STORY.format(animal=animal, name=animal.split()[1], why=adjective)
        return torch.tensor([[tokenizer.end_id, *tokenizer.encode(text)]])

    first = [tokenizer.encode(f" {verb}")[0] for verb in (does, other_does)]
    clean, corrupted = ids(why), ids(other)
    differ = (clean != corrupted)[0].nonzero()[:, 0].tolist()
    return patch_sweep(model, clean, corrupted, logit_difference(*first), **options), differ


@pytest.mark.parametrize("animal", ["a fox", "an otter"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[2])
def test_the_adjective_carries_the_continuation_of_the_bundled_model(pair, animal) -> None:
    """Was the animal hungry or the river wide? The model goes on accordingly, and the adjective's place decides it."""
    sweep, differ = adjective_sweep(pair, animal)
    assert sweep.clean > 3
    assert sweep.corrupted < -3
    restored = sweep.restored
    assert (restored[:, : differ[0]] == 0).all(), "what comes before the adjective cannot know it"
    assert restored[0, differ].sum() > 0.7, "early on, the difference is at the adjective"
    assert restored[-1, differ].abs().max() < 1e-3, "and at the end it has moved"
    assert restored[-1, -1].item() == pytest.approx(1, abs=1e-3), "to the place that speaks next"


def test_the_adjective_of_the_bundled_model_is_moved_by_some_heads() -> None:
    sweep, _ = adjective_sweep(PAIRS[0], "a fox", over="heads")
    assert sweep.values.shape == (6, 4)
    assert sweep.restored.max() > 0.15
    assert (sweep.restored[0] < 0.05).all()
