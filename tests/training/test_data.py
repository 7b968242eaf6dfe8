import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import BPETokenizer, CharTokenizer
from gptlib.corpora import Corpus
from gptlib.training import TokenData, evaluate, tokenize_corpus, tokenizer_for

END = "<|endoftext|>"


def numbers(n: int, starts: list[int] | None = None) -> TokenData:
    """Token i is i, so that a window says where it lies."""
    return TokenData(torch.arange(n, dtype=torch.int32), None if starts is None else torch.tensor(starts))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(9, 60), length=st.integers(1, 8), step=st.integers(0, 10**9), seed=st.integers(0, 2**62))
def test_targets_are_the_inputs_one_later(n, length, step, seed) -> None:
    inputs, targets = numbers(n).batch(step, 5, length, seed)
    assert inputs.shape == targets.shape == (5, length)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(length))
    assert inputs.min() >= 0
    assert targets.max() < n


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    data = numbers(1000)
    state = torch.get_rng_state()
    first = data.batch(7, 5, 8, 1)[0]
    data.batch(8, 5, 8, 1)
    torch.rand(3)
    assert torch.equal(data.batch(7, 5, 8, 1)[0], first)
    torch.set_rng_state(state)
    data.batch(7, 5, 8, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(data.batch(8, 5, 8, 1)[0], first)
    assert not torch.equal(data.batch(7, 5, 8, 2)[0], first)


def test_every_window_can_be_drawn() -> None:
    data = numbers(20)
    begins = torch.cat([data.batch(step, 50, 8, 0)[0][:, 0] for step in range(20)])
    assert sorted(set(begins.tolist())) == list(range(12))  # the last window is 11 … 18 with target 19
    documents = numbers(20, [0, 4, 9, 15])
    begins = torch.cat([documents.batch(step, 50, 8, 0)[0][:, 0] for step in range(20)])
    assert sorted(set(begins.tolist())) == [0, 4, 9]  # from 15 on there are not 8 tokens and a target


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 60), length=st.integers(1, 12))
def test_each_token_is_a_target_exactly_once(n, length) -> None:
    windows = numbers(n).windows(length)
    targets = [begin + i + 1 for begin, count in windows for i in range(count)]
    assert targets == list(range(1, n))  # nothing comes before the first
    assert all(count <= length for _, count in windows)


def test_each_token_of_each_document_is_a_target_exactly_once() -> None:
    windows = numbers(20, [0, 4, 9, 15]).windows(8)
    assert windows == [(0, 4), (4, 5), (9, 6), (15, 4)]
    assert sum(count for _, count in windows) == 19


DOCUMENTS = ["one cat", "two dogs ran", "a", "the end of it all"]


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_documents_begin_and_end_with_the_end_token(begun, ended) -> None:
    text = (END if begun else "") + END.join(DOCUMENTS) + (END if ended else "")
    corpus = Corpus("four", text, text, separator=END)
    tokenizer = BPETokenizer.train(text, 300, special_tokens=(END,))
    train, validation = tokenize_corpus(corpus, tokenizer, 14)
    assert tokenizer.decode(train.ids.tolist()) == END + "".join(document + END for document in DOCUMENTS)
    assert train.ids.dtype == torch.int32
    starts = validation.starts.tolist()
    assert len(starts) == 4
    assert all(train.ids[start] == tokenizer.end_id for start in starts)
    texts = [tokenizer.decode(train.ids[b + 1 : b + n + 1].tolist()) for b, n in validation.windows(14)]
    assert texts == [document + END for document in DOCUMENTS]


def test_documents_that_do_not_fit_are_read_anywhere() -> None:
    text = "".join(document + END for document in DOCUMENTS)
    tokenizer = BPETokenizer.train(text, 257)
    train, _ = tokenize_corpus(Corpus("four", text, text, separator=END), tokenizer, 12)
    assert train.starts is None


def test_running_text_is_taken_as_it_is() -> None:
    text = "to be or not to be"
    tokenizer = CharTokenizer.train(text)
    train, validation = tokenize_corpus(Corpus("verse", text, text[:9]), tokenizer, 8)
    assert tokenizer.decode(train.ids.tolist()) == text
    assert train.starts is None
    assert len(validation.ids) == 9


@pytest.mark.parametrize(
    ("train", "validation", "split"), [(8, 100, "train"), (100, 8, "validation"), (0, 100, "train")]
)
def test_a_split_shorter_than_a_window_is_refused(train, validation, split) -> None:
    tokenizer = CharTokenizer.train("a")
    with pytest.raises(
        ValueError, match=f"the {split} split of 'short' has [08] tokens, and a window needs 9"
    ) as error:
        tokenize_corpus(Corpus("short", "a" * train, "a" * validation), tokenizer, 8)
    assert "use a longer text or a smaller n_positions" in str(error.value)


def test_tokenizer_for_a_corpus() -> None:
    verse = Corpus("verse", "abc" * 20, "abd" * 20, "xyz")
    assert tokenizer_for(verse).characters == sorted("abcdxyz")
    tales = Corpus("tales", "a cat" + END, "a dog" + END, separator=END)
    tokenizer = tokenizer_for(tales, vocab_size=300)
    assert isinstance(tokenizer, BPETokenizer)
    assert tokenizer.end_id is not None
    assert isinstance(tokenizer_for(tales, "char"), CharTokenizer)
    assert isinstance(tokenizer_for(verse, "bpe", vocab_size=260), BPETokenizer)
    with pytest.raises(ValueError, match="tokenizer='word' is unknown; choose auto, char or bpe"):
        tokenizer_for(verse, "word")


def loss_by_hand(model, ids: torch.Tensor, windows: list[tuple[int, int]]) -> float:
    total = count = 0
    for begin, n in windows:
        window = ids[begin : begin + n + 1].long()
        logits = model(window[None, :-1])[0][0].double().log_softmax(-1)
        total -= logits.gather(1, window[1:, None]).sum().item()
        count += n
    return total / count


def test_evaluate_is_the_plain_loop(random_model, small) -> None:
    model = random_model(small.model().config)
    data, _ = tokenize_corpus(small.corpus, small.tokenizer, 8)
    windows = data.windows(8)
    expected = loss_by_hand(model, data.ids, windows)
    for batch_tokens in (1, 37, 8192):
        assert evaluate(model, data, batch_tokens=batch_tokens) == pytest.approx(expected, abs=2e-6)
    few = [windows[i * len(windows) // 5] for i in range(5)]
    assert evaluate(model, data, max_windows=5) == pytest.approx(loss_by_hand(model, data.ids, few), abs=2e-6)
    assert evaluate(model, data, max_windows=10**6) == pytest.approx(expected, abs=2e-6)


def test_evaluate_of_documents_of_unequal_length_ignores_the_padding(random_model, small) -> None:
    model = random_model(small.model().config)
    ids = torch.randint(small.tokenizer.vocab_size, (60,), dtype=torch.int32)
    data = TokenData(ids, torch.tensor([0, 3, 4, 12, 19, 21, 29, 36, 44, 52]))
    expected = loss_by_hand(model, ids, data.windows(8))
    for batch_tokens in (1, 30, 8192):
        assert evaluate(model, data, batch_tokens=batch_tokens) == pytest.approx(expected, abs=2e-6)


def test_evaluate_gives_the_mode_back_and_uses_no_dropout_and_no_gradient(small) -> None:
    model = small.model(dropout=0.5)
    data, _ = tokenize_corpus(small.corpus, small.tokenizer, 8)
    state = torch.get_rng_state()
    model.train()
    losses = {evaluate(model, data) for _ in range(2)}
    assert model.training
    model.eval()
    losses.add(evaluate(model, data))
    assert not model.training
    assert len(losses) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
