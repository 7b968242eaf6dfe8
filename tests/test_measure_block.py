"""source/measure/block.py runs the cells of lesson 06, and each of its variants lacks the part that its name says."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gptlib.measured import recorded

SCRIPT = Path(__file__).parents[1] / "source" / "measure" / "block.py"


@pytest.fixture(scope="module")
def networks():
    spec = importlib.util.spec_from_file_location("measure_block", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: make() for name, make in module.variants(module.lesson()).items()}


@torch.no_grad()
def test_only_without_attention_a_position_stands_alone(networks) -> None:
    ids = torch.arange(12)[None]
    other = torch.cat([ids[:, :5] + 20, ids[:, 5:]], dim=1)
    for name, network in networks.items():
        moved = (network(ids)[0] - network(other)[0])[0, 5:].abs().max().item()
        assert (moved < 1e-6) == (name == "no attention"), name


def test_the_whole_has_the_most_parameters(networks) -> None:
    sizes = {name: network.n_parameters() for name, network in networks.items()}
    assert sizes["whole"] == sizes["no residuals"] == sizes["post-norm"] > sizes["no norms"]
    assert sizes["whole"] - sizes["no feed-forward"] == 8 * 128**2 + 5 * 128
    assert sizes["whole"] - sizes["no attention"] == 4 * 128**2 + 4 * 128


def test_what_is_recorded_are_these_models(networks) -> None:
    sizes = {name: network.n_parameters() for name, network in networks.items()}
    assert recorded("block")["parameters"] == sizes
    assert recorded("block")["nats above the floor"].keys() == sizes.keys()
