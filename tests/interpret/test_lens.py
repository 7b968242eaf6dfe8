import pytest
import torch

from gptlib import GPTConfig, load_model, record, tales
from gptlib.interpret import ablate_heads, logit_lens

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))


def test_the_last_depth_is_the_model_itself_and_the_others_are_the_stream(variant, random_model) -> None:
    model = random_model(variant)
    lens = logit_lens(model, IDS)
    with record(model) as run:
        logits, _ = model(IDS)
    assert lens.names == ("embedding", "blocks.0.residual", "blocks.1.residual")
    assert lens.logits.shape == (3, 5, 7, 23)
    torch.testing.assert_close(lens.logits[-1], logits)
    for name, read in zip(lens.names, lens.logits, strict=True):
        torch.testing.assert_close(read, model.norm(run[name]) @ model.lm_head.weight.T)
    torch.testing.assert_close(lens.probabilities, lens.logits.softmax(-1))
    assert not lens.logits.requires_grad


def test_a_block_that_writes_nothing_says_nothing_new(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=3, n_head=6, bias=False))
    with torch.no_grad():
        model.blocks[1].attention.project.weight.zero_()
        model.blocks[1].mlp.narrow.weight.zero_()
    lens = logit_lens(model, IDS)
    assert torch.equal(lens.logits[1], lens.logits[2])
    assert not torch.allclose(lens.logits[0], lens.logits[1])
    assert not torch.allclose(lens.logits[2], lens.logits[3])


def test_it_says_what_it_means_for_post_norm(random_model) -> None:
    pre = logit_lens(random_model(GPTConfig(23, 17, 24, n_layer=1, n_head=6)), IDS)
    post = logit_lens(random_model(GPTConfig(23, 17, 24, n_layer=1, n_head=6, norm_order="post")), IDS)
    assert "one stream" in pre.meaning
    assert "only the last depth is the model's own answer" in post.meaning


def test_some_positions_alone(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    assert torch.equal(logit_lens(model, IDS, positions=[-1, 2]).logits, logit_lens(model, IDS).logits[:, :, [6, 2]])
    with pytest.raises(ValueError, match="position 7 is outside the 7 tokens; use 0 to 6, or -1 for the last"):
        logit_lens(model, IDS, positions=[7])


def test_the_mode_of_the_model_stays_and_dropout_is_off(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6, dropout=0.5)).train()
    assert torch.equal(logit_lens(model, IDS).logits, logit_lens(model, IDS).logits)
    assert model.training


def test_an_ablation_around_it_is_in_what_it_reads(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    with ablate_heads(model, [(1, 3)]):
        lens = logit_lens(model, IDS)
        logits, _ = model(IDS)
    assert torch.equal(lens.logits[-1], logits)
    torch.testing.assert_close(lens.logits[1], logit_lens(model, IDS).logits[1])


def test_the_bundled_model_makes_up_its_mind_layer_by_layer() -> None:
    model, tokenizer = load_model("tales")
    story = tales.split("test", 1)[0].text
    ids = torch.tensor([[tokenizer.end_id, *tokenizer.encode(story)]])
    log_probs = logit_lens(model, ids).logits.log_softmax(-1)[:, 0, :-1]  # (7, T - 1, V)
    right = log_probs.gather(-1, ids[0, 1:].expand(7, -1)[..., None]).mean((1, 2))
    assert right[-1] > -0.5
    assert right[0] < right[-1] - 3
    assert (right.diff()[-3:] > 0).all()
