"""Muon takes the steps of PyTorch's own, several matrices at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.training import muon
from gptlib.training.muon import Muon, orthogonalize


def stepped(
    optimizer: type[torch.optim.Optimizer], shapes: list[tuple[int, int]], **options: float
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    matrices = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    taken = optimizer(matrices, lr=0.02, weight_decay=0.3, **options)
    for step in range(4):
        for i, matrix in enumerate(matrices):
            # One has no gradient in the second step.
            matrix.grad = None if (step, i) == (1, 0) else torch.randn(matrix.shape, generator=generator)
        taken.step()
    return [matrix.detach() for matrix in matrices]


SHAPES = [(12, 12), (12, 36), (36, 12), (12, 36), (5, 8), (8, 5), (40, 7)]


@pytest.mark.parametrize("small", [0, 100, 2**20])
def test_the_steps_are_those_of_pytorch(monkeypatch, small):
    monkeypatch.setattr(muon, "SMALL", small)
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("this PyTorch has no Muon")
    expected = stepped(theirs, SHAPES, adjust_lr_fn="match_rms_adamw")
    for found, right in zip(stepped(Muon, SHAPES), expected, strict=True):
        # Singular values near 0 grow thirtyfold in products that are formed in bf16, and in another order there.
        torch.testing.assert_close(found, right, atol=4e-3, rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 10**6))
def test_singular_values_come_near_one_and_vectors_stay(rows, more, seed):
    matrix = torch.randn(2, rows, rows + more, generator=torch.Generator().manual_seed(seed))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    between = torch.linalg.vecdot(u.mT, (orthogonalize(matrix).float() @ v.mT).mT)  # (2, rows): uᵢ · (X vᵢ)
    large = s > 0.1 * s.amax(-1, keepdim=True)
    assert ((between > 0.6) & (between < 1.3))[large].all()


def test_a_gradient_of_zero_leaves_only_the_decay():
    matrix = torch.nn.Parameter(torch.ones(3, 4))
    matrix.grad = torch.zeros(3, 4)
    Muon([matrix], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(matrix, torch.full((3, 4), 0.95))


def test_a_closure_is_asked_with_gradients_on():
    matrix = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = Muon([matrix], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = matrix.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 12.0
    assert not torch.equal(matrix, torch.ones(3, 4))
