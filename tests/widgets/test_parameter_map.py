"""The parameter map's kernel side; what the browser counts is tested in tests/browser/test_page_views.py."""

import pytest

from gptlib import GPTConfig
from gptlib.config import PRESETS
from gptlib.plots.parameters import plot_parameters
from gptlib.widgets import ParameterMap


def test_it_holds_every_preset_and_begins_with_the_one_that_was_named():
    view = ParameterMap("gpt2-xl")
    assert view.preset == "gpt2-xl"
    assert {name: GPTConfig.from_dict(values) for name, values in view.presets.items()} == {
        name: GPTConfig.preset(name) for name in PRESETS
    }


def test_a_config_of_ones_own_stands_beside_them():
    own = GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3)
    view = ParameterMap(own)
    assert view.preset == "this model"
    assert GPTConfig.from_dict(view.presets["this model"]) == own
    assert len(view.presets) == len(PRESETS) + 1


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gpt2-xl'"):
        ParameterMap("gpt2-xk")


def test_the_picture_and_the_sentence_say_the_exact_counts():
    data, metadata = ParameterMap()._repr_mimebundle_()
    assert data["text/plain"].startswith("ParameterMap: gpt2 has 124,439,808 parameters: token embeddings 31.0%")
    assert "gpt3 174,604,259,328: token embeddings 0.4%" in metadata["image/png"]["alt"]


def test_bars_are_shares_in_the_order_given():
    configs = {name: GPTConfig.preset(name) for name in ("gpt3", "tales")}
    figure = plot_parameters(configs, title="Embeddings fade")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gpt3", "tales"]
    assert [bar.get_x() + bar.get_width() for bar in axes.containers[-1]] == pytest.approx([100, 100])
    assert axes.containers[0][0].get_width() == pytest.approx(0.3537, abs=0.01)
    with pytest.raises(ValueError, match="no configs"):
        plot_parameters({}, title="")
