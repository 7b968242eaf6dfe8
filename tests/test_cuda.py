"""What only a machine with a CUDA GPU can show; skipped elsewhere.

make test ARGS="tests/test_cuda.py -rs"
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, generate, load_model, record, train
from gptlib.corpora import Corpus
from gptlib.generation import left_pad
from gptlib.training import autocast, choose_device, choose_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")

TEXT = "the cat sat on the mat and the dog sat on the cat. " * 200
SHAPES = {
    "gpt2": {},
    "llama": {"position": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "n_kv_head": 2, "qk_norm": True},
    "alibi, windowed": {"position": "alibi", "window": 5, "mlp": "relu2"},
    "sinusoidal, post-norm": {"position": "sinusoidal", "norm_order": "post"},
}


def model_of(kind: str, **changes: object) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4, **SHAPES[kind], **changes}
    return GPT(GPTConfig(**shape)).eval()  # type: ignore[arg-type]


def text_and_tokenizer() -> tuple[Corpus, CharTokenizer]:
    corpus = Corpus("cats", TEXT, TEXT[:2000], "")
    return corpus, CharTokenizer.train(TEXT)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_gpu_computes_what_the_cpu_does(kind: str) -> None:
    model, ids = model_of(kind), torch.randint(40, (3, 32))
    values = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        logits, loss = model(ids.to(device), ids.roll(-1, 1).to(device))
        loss.backward()
        values.append((logits.detach().cpu(), model.token_embedding.weight.grad.cpu().clone()))
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_plain_and_fused_agree_on_the_gpu(kind: str) -> None:
    model, ids = model_of(kind).cuda(), torch.randint(40, (3, 32), device="cuda")
    with torch.no_grad():
        fused = model(ids)[0]
        with record(model) as run:
            plain = model(ids)[0]
    assert run["blocks.0.attention.weights"].device.type == "cuda"
    torch.testing.assert_close(plain, fused, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_training_step_never_waits_for_the_gpu(kind: str) -> None:
    """`forward` and `backward` read no value back, so that the processor can run ahead."""
    model, ids = model_of(kind).cuda().train(), torch.randint(40, (3, 32), device="cuda")
    model(ids, ids)[1].backward()  # the first call may set up kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        with autocast("cuda"):
            loss = model(ids, ids)[1]
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", SHAPES)
def test_compiles_in_one_piece(kind: str) -> None:
    torch._dynamo.reset()
    model, ids = model_of(kind).cuda(), torch.randint(40, (3, 32), device="cuda")
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(ids, ids)[1], model(ids, ids)[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_writes_on_the_gpu_what_it_writes_on_the_cpu(kind: str) -> None:
    model = model_of(kind)
    ids, padding = left_pad([[1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11]])
    texts = []
    for device in ("cpu", "cuda"):
        model.to(device)
        for use_cache in (True, False):
            options = {"temperature": 0, "padding": padding, "use_cache": use_cache}
            texts.append(generate(model, ids.to(device), 20, **options).cpu())  # type: ignore[arg-type]
    assert all(torch.equal(text, texts[0]) for text in texts)


def test_draws_are_repeated_by_their_seed() -> None:
    model, ids = model_of("llama").cuda(), torch.tensor([[1, 2, 3]], device="cuda")
    options = {"temperature": 1.3, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}
    first, again, other = (generate(model, ids, 25, seed=seed, **options) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_gpu_is_chosen_and_bf16_where_it_is_native() -> None:
    assert choose_device("auto").value == "cuda"
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert choose_precision("cuda").value == ("bf16" if native else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("compiled", [False, True])
def test_learns_and_goes_on_from_its_checkpoint(tmp_path: Path, precision: str, optimizer: str, compiled: bool) -> None:
    if precision == "bf16" and choose_precision("cuda").value != "bf16":
        pytest.skip("this GPU has no native bf16")
    torch._dynamo.reset()
    corpus, tokenizer = text_and_tokenizer()
    recipe = TrainConfig(
        steps=60, batch_size=16, learning_rate=3e-3, optimizer=optimizer, precision=precision, compile=compiled,  # type: ignore[arg-type]
        device="cuda", save_every=30, eval_every=30, log_every=1,
    )  # fmt: skip

    def fresh() -> GPT:
        return model_of("llama", vocab_size=tokenizer.vocab_size, dropout=0.1)

    whole = train(fresh(), corpus, tokenizer, recipe, verbose=False)
    assert whole.device == "cuda"
    assert whole.precision == precision
    assert whole.val_loss is not None
    assert whole.val_loss < 0.5 * whole.log[0]["loss"]

    def stop(progress: object) -> None:
        progress.stop = progress.step == 30  # type: ignore[attr-defined]

    halves = {"out": tmp_path, "verbose": False}
    train(fresh(), corpus, tokenizer, recipe, on_step=stop, **halves)  # type: ignore[arg-type]
    resumed = train(fresh(), corpus, tokenizer, recipe, resume=True, **halves)  # type: ignore[arg-type]
    # Kernels on the GPU add in an order of their own, so the same to some digits and not to the last bit.
    assert resumed.val_loss == pytest.approx(whole.val_loss, rel=0.05)
    assert [line["step"] for line in resumed.log] == list(range(1, 61))


def test_a_run_from_the_gpu_goes_on_and_is_used_on_the_cpu(tmp_path: Path) -> None:
    corpus, tokenizer = text_and_tokenizer()
    recipe = TrainConfig(steps=20, batch_size=8, device="cuda", precision="fp32", save_every=10)
    shape = {"vocab_size": tokenizer.vocab_size}

    def stop(progress: object) -> None:
        progress.stop = True  # type: ignore[attr-defined]

    train(model_of("llama", **shape), corpus, tokenizer, recipe, out=tmp_path, on_step=stop, verbose=False)
    result = train(
        model_of("llama", **shape), corpus, tokenizer, replace(recipe, device="cpu"), out=tmp_path, resume=True,
        verbose=False,
    )  # fmt: skip
    assert result.finished
    assert result.device == "cpu"
    here, _ = load_model(tmp_path)
    there, _ = load_model(tmp_path, device="cuda")
    ids = torch.randint(tokenizer.vocab_size, (2, 32))
    with torch.no_grad():
        torch.testing.assert_close(there(ids.cuda())[0].cpu(), here(ids)[0], rtol=1e-3, atol=1e-4)


def test_the_bundled_model_writes_in_bf16_on_the_gpu() -> None:
    model, tokenizer = load_model("tales", device="cuda", dtype=torch.bfloat16)
    assert tokenizer is not None
    ids = torch.tensor([[tokenizer.end_id]], device="cuda")
    text = tokenizer.decode(generate(model, ids, 200, temperature=0.8, seed=1)[0, 1:].tolist())
    assert len(text) > 300


def test_peak_memory_is_what_scaling_says() -> None:
    """Weights, gradients, optimizer and activations in fp32, to a quarter."""
    from gptlib.scaling import training_memory
    from gptlib.training.step import make_optimizers

    config = GPTConfig.preset("shakespeare-gpu", dropout=0.0)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = GPT(config).cuda()
    optimizers = make_optimizers(model, TrainConfig())
    ids = torch.randint(config.vocab_size, (16, config.n_positions), device="cuda")
    for _ in range(3):
        model(ids, ids)[1].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    peak = torch.cuda.max_memory_allocated() - before
    said = sum(training_memory(config, 16, config.n_positions).values())
    print(f"peak {peak / 1e6:.0f} MB, said {said / 1e6:.0f} MB")
    assert peak == pytest.approx(said, rel=0.25)


def test_one_process_of_torchrun_on_the_gpu(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "gptlib", "train",
        "--corpus", str(text), "--preset", "shakespeare-cpu", "--steps", "20", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=300)
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["device"].startswith("cuda")
    assert result["finished"]


def test_views_take_a_model_on_the_gpu() -> None:
    from gptlib.widgets import AttentionViewer, SamplingLab

    model, tokenizer = load_model("tales", device="cuda")
    assert SamplingLab(model, tokenizer, "Mara was tired.")._repr_mimebundle_()
    viewer = AttentionViewer(model, tokenizer, "Mara was tired.")
    viewer._answer({"text": "Mara was tired.", "silenced": [[0, 1]]})
    assert viewer._repr_mimebundle_()
