"""The position explorer's kernel side; what the browser computes is tested in tests/browser/test_page_views.py."""

import pytest
import torch

from gptlib import GPTConfig
from gptlib.plots.positions import plot_distance
from gptlib.positions import rotary_angles, rotate
from gptlib.widgets import PositionExplorer


def test_numbers_come_from_the_config():
    view = PositionExplorer(GPTConfig.preset("smollm2-135m"), view="beyond")
    assert (view.head_dim, view.n_positions, view.base, view.heads, view.view) == (64, 8192, 100_000, 9, "beyond")
    assert PositionExplorer().n_positions == 1024


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="'turns' is unknown; choose one of sinusoids, rotary"):
        PositionExplorer(view="turns")
    with pytest.raises(ValueError, match="heads of 3 features make no planes"):
        PositionExplorer(GPTConfig(vocab_size=5, n_positions=4, n_embd=9, n_layer=1, n_head=3))


def test_the_plain_curve_is_the_score_of_turned_vectors():
    figure = plot_distance(8, 16, title="They fall", factor=2.0)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    x = torch.ones(33, 8) / 8**0.5
    angles = rotary_angles(torch.arange(33), 8)
    turned = rotate(x, angles.cos(), angles.sin())
    torch.testing.assert_close(torch.tensor(lines["plain rotary"]), turned @ turned[0], atol=1e-5, rtol=0)
    assert lines["YaRN"][0] == pytest.approx((0.1 * torch.tensor(2.0).log().item() + 1) ** 2)
    assert "At distance 10: plain rotary" in figure.alt


def test_the_picture_and_the_sentence():
    data, metadata = PositionExplorer()._repr_mimebundle_()
    assert data["text/plain"] == ("PositionExplorer: 32 planes a head, base 10000, trained on 1024 positions, 12 heads")
    assert "Trained length 1024, 4 times longer" in metadata["image/png"]["alt"]
