"""The kernel's side of the tokenizer view: what it sends, and the tokenizers that only the kernel has."""

import numpy as np
import pytest

from gptlib import BPETokenizer, CharTokenizer
from gptlib.plots import plot_tokenizations
from gptlib.widgets import TokenizerView
from gptlib.widgets.tokenizer_view import usual_tokenizers


class Words:
    """A tokenizer that the browser does not know."""

    vocab_size = 99

    def encode(self, text):
        if "!" in text:
            raise ValueError("this tokenizer has no '!'")
        return [len(word) for word in text.split()]

    def decode(self, ids):
        return "-" * ids[0]


def test_the_table_of_a_bpe_tokenizer_holds_its_merges_and_tokens():
    tokenizer = BPETokenizer.train("low lower lowest", 262)
    view = TokenizerView("low", {"a": tokenizer, "b": tokenizer})
    [kind, again] = view.kinds
    assert {**kind, "name": "b"} == again
    numbers = np.frombuffer(view.tables[: 4 * (3 * kind["merges"] + 2 * kind["tokens"])], dtype=np.int32)
    merges = [(*pair, new) for pair, new in tokenizer.merges.items()]
    assert numbers[: 3 * kind["merges"]].reshape(-1, 3).tolist() == [list(merge) for merge in merges]
    assert numbers[3 * kind["merges"] :][: kind["tokens"]].tolist() == list(tokenizer.vocab.values())
    half = len(view.tables) // 2
    assert half % 4 == 0
    assert view.tables[:half] == view.tables[half:]
    assert b"".join(tokenizer.vocab) in view.tables[:half]
    assert kind["special"] == {"<|endoftext|>": 261}


def test_a_tokenizer_that_only_the_kernel_has_is_asked_there():
    view = TokenizerView("two words", {"words": Words(), "letters": CharTokenizer.train("ab")})
    assert view.answers == {"text": "two words", "rows": [[(3, "---"), (5, "-----")], None]}
    view._handle_custom_msg({"text": "a"}, [])
    assert (view.text, view.answers["rows"][0], view.problem) == ("a", [(1, "-")], "")
    view._handle_custom_msg({"text": "a!"}, [])
    assert view.text == "a"
    assert "no '!'" in view.problem
    view._handle_custom_msg({"text": "a" * 5001}, [])
    assert "5001 characters and at most 5000" in view.problem


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="0 tokenizers; give 1 to 6"):
        TokenizerView("a", {})
    with pytest.raises(ValueError, match="is a str, which has no encode and decode"):
        TokenizerView("a", {"gpt2": "gpt2"})
    with pytest.raises(ValueError, match="at most 5000"):
        TokenizerView("a" * 5001)


def test_the_usual_ones_and_their_picture():
    view = TokenizerView("café <b>\n")
    assert [kind["name"] for kind in view.kinds] == list(usual_tokenizers())
    assert view._sentence().startswith("TokenizerView: 'café <b>\\n' is 9 tokens for characters, 10 tokens for bytes")
    assert "10 tokens for bytes" in view._picture().alt
    assert view._picture().png().startswith(b"\x89PNG")


def test_a_long_text_is_drawn_in_part_and_said():
    figure = plot_tokenizations({"bytes": ["a"] * 5000}, title="Long")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert any("not drawn" in word for word in words)
    with pytest.raises(ValueError, match="no tokenizer"):
        plot_tokenizations({}, title="None")
