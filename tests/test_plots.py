"""Figures: what they show, that tokens cannot break them, and that their words say the same."""

import io
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from gptlib import plots

NASTY = ["$x$", " the", "\n", "_{", "<b>", "\u05d0\u05d1", "\u202e", "", "中"]


def size(figure):
    return Image.open(io.BytesIO(figure.png())).size


def causal(T, seed=0):
    scores = torch.randn(T, T, generator=torch.Generator().manual_seed(seed)) * 2
    return torch.softmax(scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf), dim=-1)


def test_visible_shows_every_character():
    assert plots.visible(" a\n\t") == "␣a⏎⇥"
    assert plots.visible("") == "∅"
    assert plots.visible("\u202e\u00a0") == "\\u{202e}\\u{a0}"
    assert plots.visible("naïve") == "naïve"


def test_attention_names_its_largest_weight():
    w = torch.eye(4)
    w[3] = torch.tensor([0.0, 0.9, 0.0, 0.1])
    w[1] = w[2] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    figure = plots.plot_attention(w, ["a", " b", "c", "d"], title="One looks back")
    assert figure.axes[0].get_title(loc="left") == "One looks back"
    assert "largest weight is 0.90, from 'd' to '␣b'" in figure.alt
    image = figure.axes[0].images[0].get_array()
    assert image.mask[0].tolist() == [False, True, True, True]  # a later key is blank, not zero
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "␣b", "c", "d"]


def test_attention_without_a_mask_is_drawn_whole():
    w = torch.full((3, 3), 1 / 3, requires_grad=True)
    figure = plots.plot_attention(w, list("abc"), title="Both ways")
    assert not np.ma.getmaskarray(figure.axes[0].images[0].get_array()).any()


def test_attention_of_the_last_queries_only():
    w = causal(6)[-2:]
    figure = plots.plot_attention(w, list("abcdef"), title="With a cache")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["e", "f"]
    assert np.ma.getmaskarray(figure.axes[0].images[0].get_array()).tolist() == [[False] * 5 + [True], [False] * 6]


@pytest.mark.parametrize("T", [1, 9])
def test_tokens_cannot_break_a_figure(T, recwarn):
    for figure in (
        plots.plot_attention(causal(T), NASTY[:T], title="$\\frac{"),
        plots.plot_next_tokens(np.full(T, 1 / T), NASTY[:T], title="$\\frac{", before=np.full(T, 1 / T)),
    ):
        assert min(size(figure)) > 80
    assert [str(w.message) for w in recwarn if "Glyph" in str(w.message)] == []


def test_heads_stand_in_rows_of_layers():
    w = torch.stack([torch.stack([causal(5, seed=10 * layer + head) for head in range(3)]) for layer in range(2)])
    w[1, 2] = torch.eye(5)
    figure = plots.plot_attention_heads(w, title="All heads")
    mosaic = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(mosaic[6:11, 12:17].diagonal(), 1)
    np.testing.assert_allclose(mosaic[0:5, 6:11].filled(0), w[0, 1], atol=1e-6)
    assert "sharpest is layer 1, head 2" in figure.alt
    assert "is 1.00 on average" in figure.alt


def test_a_large_model_stays_a_small_file():
    w = torch.stack([torch.stack([causal(64, seed=i * 9 + j) for j in range(9)]) for i in range(30)])
    assert len(plots.plot_attention_heads(w, title="All heads").png()) < 400_000


def test_next_tokens_are_sorted_and_compared():
    figure = plots.plot_next_tokens([0.1, 0.9, 0.0], ["a", "b", "c"], title="Sharper", before=[0.3, 0.5, 0.2], limit=2)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([50, 30, 90, 10])
    assert "b 90.0%, a 10.0%" in figure.alt


def log(n, offset=0.0):
    return [
        {
            "step": s,
            "tokens": 64 * s,
            "seconds": s / 2,
            "loss": 3 / s + offset,
            **({"val_loss": 3 / s} if s % 2 else {}),
        }
        for s in range(1, n + 1)
    ]


@pytest.mark.parametrize("against", ["tokens", "step", "seconds"])
def test_losses_fall_towards_their_floor(against):
    figure = plots.plot_losses({"ours": log(5), "theirs": log(4, 0.5)}, title="Both fall", floor=0.4, against=against)
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"ours", "ours, validation", "theirs", "theirs, validation", "floor, 0.400"}
    assert lines["ours"].get_xdata()[-1] == log(5)[-1][against]
    assert len(lines["ours, validation"].get_xdata()) == 3
    assert axes.get_ylabel() == "loss (nats per token)"
    assert "ours ends at 0.600, theirs ends at 1.250" in figure.alt
    assert min(size(figure)) > 200


def test_losses_are_read_from_a_run_folder(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log(3)))
    for source in (tmp_path, str(tmp_path / "log.jsonl")):
        assert "run ends at 1.000" in plots.plot_losses({"run": source}, title="One run").alt


def rising(ends, status=""):
    return [
        {"step": step, "loss": 1.0, "measured": {f"{k} accuracy{status}": a * step / 300 for k, a in ends.items()}}
        for step in (100, 200, 300)
    ]


def test_abilities_are_lines_named_where_they_end():
    ends = {"recall": 0.95, "sum": 0.951, "fact": 0.2, "cause": 0.952}
    log = [{"step": 50, "loss": 2.0}, *rising(ends)]
    figure = plots.plot_abilities(log, title="Recall comes late")
    axes = figure.axes[0]
    assert sorted(line.get_ydata()[-1] for line in axes.lines) == pytest.approx(sorted(100 * a for a in ends.values()))
    assert all(list(line.get_xdata()) == [100, 200, 300] for line in axes.lines)
    labels = {text.get_text(): text for text in axes.texts}
    assert set(labels) == set(ends)
    assert {name: label.get_color() for name, label in labels.items()} == {
        name: next(line.get_color() for line in axes.lines if line.get_ydata()[-1] == pytest.approx(100 * a))
        for name, a in ends.items()
    }
    figure.canvas.draw()
    heights = sorted(label.get_window_extent().y0 for label in labels.values())
    sizes = [label.get_window_extent().height for label in labels.values()]
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.6 * min(sizes)  # no label stands on another
    assert "At step 300: recall 95%, sum 95%, fact 20%, cause 95%." in figure.alt


def test_abilities_can_be_chosen_by_kind_and_status():
    log = rising({"recall": 0.9, "sum": 0.4}, " (held out)")
    figure = plots.plot_abilities(log, title="Sums do not generalise", status="held out", kinds=["sum"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["sum"]


def test_a_notebook_shows_a_figure_once_and_with_words():
    figure = plots.plot_next_tokens([1.0], ["a"], title="Certain")
    data, metadata = figure._repr_mimebundle_()
    assert data["image/png"] == figure.png()
    assert metadata["image/png"]["alt"] == data["text/plain"] == figure.alt
    assert type(figure.canvas).__name__ == "FigureCanvasAgg"  # no pyplot figure, which a notebook would show again


def test_the_background_is_white():
    corner = Image.open(io.BytesIO(plots.plot_next_tokens([1.0], ["a"], title="Certain").png())).convert("RGB")
    assert corner.getpixel((0, 0)) == (255, 255, 255)


def test_style_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with plots.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    plots.plot_next_tokens([1.0], ["a"], title="Certain")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.plot_attention(torch.eye(3), ["a"], title=""), "1 tokens"),
        (lambda: plots.plot_attention(torch.ones(4, 3), list("abc"), title=""), "T ≤ S"),
        (lambda: plots.plot_attention(torch.ones(3), list("abc"), title=""), "2 are expected"),
        (lambda: plots.plot_attention_heads(torch.ones(0, 1, 2, 2), title=""), "none of them 0"),
        (lambda: plots.plot_next_tokens([0.5, 0.5], ["a"], title=""), "2 probabilities and 1 tokens"),
        (lambda: plots.plot_losses({"a": []}, title=""), "no entries"),
        (lambda: plots.plot_abilities(log(2), title=""), "no such ability"),
        (lambda: plots.plot_abilities(rising({"sum": 1}), title="", kinds=["recall"]), "there: sum"),
        (lambda: plots.plot_abilities(rising({"sum": 1}), title="", what="speed"), "'speed' was not measured"),
        (lambda: plots.plot_losses({"a": log(2)}, title="", against="hours"), "'hours' is not in the log"),
    ],
)
def test_what_does_not_fit_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_the_ladder_takes_each_name_to_its_place_and_marks_what_was_recorded(monkeypatch):
    known = {"bigram": 1.9, "one head": 0.8, "many heads": 0.5, "positions": 0.3, "bundled model": 0.004}
    monkeypatch.setattr("gptlib.plots.ladder.recorded", lambda name: known)
    figure = plots.plot_ladder({"you": 1.2, "many heads": 0.6}, title="Lower")
    assert figure.alt == (
        "bigram: 1.900 nats above the floor (recorded); one head: 0.800 nats above the floor (recorded); "
        "many heads: 0.600 nats above the floor; bundled model: 0.004 nats above the floor (recorded); "
        "you: 1.200 nats above the floor"
    )
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][-1] == "you"
    with pytest.raises(ValueError, match="finite"):
        plots.plot_ladder({"you": float("nan")}, title="None")
    with pytest.raises(ValueError, match="at least one"):
        plots.plot_ladder({}, title="None")
