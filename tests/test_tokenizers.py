import json
import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel

from gptlib.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    apply_merges,
    cutting,
    learn_merges,
    learn_merges_fast,
    load_tokenizer,
    merge,
    pair_counts,
    pretokenize,
)
from gptlib.tokenizers.alphabet import byte_characters, to_bytes, to_characters

END = "<|endoftext|>"
VERSE = (
    "the cat sat on the mat, and the cats sat on the mats;\n\n  then they're 42 or 1234 thinner — naïve, 世界, 🙂🙂.\n"
    "def f(x):\n\treturn x    # === the end === ======\n"
) * 3

any_text = st.text(max_size=60)  # every code point but the surrogates, unassigned ones included
awkward_text = st.text(alphabet=" \n\t\r'sdtremvlaA1½²é\x1c\x85\xa0\u3000\u200d世🙂<|>", max_size=60)
mixed_text = st.lists(st.one_of(any_text, awkward_text, st.sampled_from([END, "=====", "    "])), max_size=5).map(
    "".join
)
few_letters = st.text(alphabet="ab ", max_size=60)


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.train(VERSE, 320)


def trained_by_huggingface(text: str, size: int) -> Tokenizer:
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    peer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=ByteLevel.alphabet(), special_tokens=[]
    )
    peer.train_from_iterator([text], trainer)
    return peer


def saved_model(tokenizer: BPETokenizer) -> dict:
    return tokenizer._file_content()["model"]


# The parts of the algorithm


@given(mixed_text)
def test_pretokenize_cuts_where_huggingface_cuts(text):
    pieces = pretokenize(text)
    assert "".join(pieces) == text
    expected = ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    assert [to_characters(piece.encode()) for piece in pieces] == [piece for piece, _ in expected]


@given(mixed_text, st.integers(0, 5))
def test_pretokenizing_in_chunks_changes_nothing(text, size):
    whole = pretokenize(text)
    before = cutting._CHUNK
    cutting._CHUNK = size
    try:
        assert pretokenize(text) == whole
    finally:
        cutting._CHUNK = before


@given(st.lists(st.integers(0, 3), max_size=30))
def test_pair_counts_counts_neighbours(ids):
    counts = pair_counts(ids)
    assert sum(counts.values()) == max(len(ids) - 1, 0)
    for left, right in set(pairwise(ids)):
        assert counts[left, right] == sum(pair == (left, right) for pair in pairwise(ids))


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(0, 2), st.integers(0, 2))
def test_merge_joins_every_occurrence_and_can_be_undone(ids, left, right):
    before = list(ids)
    merged = merge(ids, (left, right), 9)
    assert ids == before
    assert [i for token in merged for i in ((left, right) if token == 9 else (token,))] == ids
    if left != right:
        assert merged.count(9) == pair_counts(ids)[left, right]
        assert (left, right) not in pair_counts(merged)


def test_merge_takes_the_leftmost_of_overlapping_pairs():
    assert merge([5, 5, 5, 5, 5], (5, 5), 6) == [6, 6, 5]


@given(st.lists(st.integers(0, 3), max_size=20))
def test_apply_merges_follows_the_order_of_learning(ids):
    merges = {(0, 1): 4, (4, 2): 5, (1, 2): 6, (3, 3): 7}
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    before = list(ids)
    expected = ids
    for pair, new_id in merges.items():
        expected = merge(expected, pair, new_id)
    assert apply_merges(ids, merges, ranks) == expected
    assert ids == before


def test_the_alphabet_has_a_printable_character_for_each_byte():
    characters = byte_characters()
    assert sorted(characters) == list(range(256))
    assert len(set(characters.values())) == 256
    assert all(character.isprintable() and not character.isspace() for character in characters.values())
    assert list(characters.values()) == sorted(characters.values(), key=lambda c: (ord(c) > 255, ord(c)))
    assert set(characters.values()) == set(ByteLevel.alphabet())


@given(st.binary(max_size=20))
def test_bytes_come_back_from_the_alphabet(token):
    assert to_bytes(to_characters(token)) == token


# Training


def slow_training(text: str, size: int) -> list[tuple[bytes, bytes]]:
    """Count everything anew at every step: the definition, without bookkeeping."""
    order = {byte: i for i, byte in enumerate(byte_characters())}
    ids = {bytes([byte]): i for byte, i in order.items()}
    words = Counter(pretokenize(text))
    parts = {word: [bytes([b]) for b in word.encode()] for word in words}
    merges = []
    while len(ids) < size:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, n in words.items():
            for pair in pairwise(parts[word]):
                counts[pair] += n
        if not counts:
            break
        left, right = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        ids.setdefault(left + right, len(ids))
        merges.append((left, right))
        for part in parts.values():
            i = 0
            while i + 1 < len(part):
                if (part[i], part[i + 1]) == (left, right):
                    part[i : i + 2] = [left + right]
                i += 1
    return merges


@settings(deadline=None)
@given(st.one_of(few_letters, mixed_text).filter(lambda text: text.replace(END, "")), st.integers(256, 290))
def test_training_agrees_with_the_definition(text, size):
    text = text.replace(END, "")
    tokenizer = BPETokenizer.train(text, size, special_tokens=())
    text_of = {i: token for token, i in tokenizer.vocab.items()}
    assert [(text_of[left], text_of[right]) for left, right in tokenizer.merges] == slow_training(text, size)


@settings(deadline=None)
@given(st.lists(st.one_of(few_letters, awkward_text), max_size=12), st.integers(250, 290))
def test_both_forms_of_training_learn_the_same(pieces, size):
    plain, fast = ({bytes([byte]): byte for byte in range(256)} for _ in range(2))
    merges = learn_merges(pieces, plain, size)
    assert list(learn_merges_fast(pieces, fast, size).items()) == list(merges.items())
    assert fast == plain
    assert len(plain) <= max(size, 256)


@pytest.mark.parametrize("text", [VERSE, "low lower lowest newer newest " * 7, "abab" * 9 + " ba" * 4])
@pytest.mark.parametrize("size", [256, 270, 300, 400])
def test_training_learns_what_huggingface_learns(text, size):
    tokenizer = BPETokenizer.train(text, size, special_tokens=())
    peer = json.loads(trained_by_huggingface(text, size).to_str())["model"]
    assert saved_model(tokenizer)["merges"] == peer["merges"]
    assert saved_model(tokenizer)["vocab"] == peer["vocab"]


def test_ids_are_bytes_then_merges_then_special_tokens(bpe):
    assert bpe.vocab_size == 320
    assert bpe.end_id == 319
    assert bpe.encode("!") == [0]
    assert bpe.decode([318]) == max(bpe.vocab, key=bpe.vocab.__getitem__).decode()
    assert bpe.encode(END) == [319]


def test_training_stops_when_no_pair_is_left():
    tokenizer = BPETokenizer.train("ab cd", 1000)
    assert tokenizer.vocab_size == 256 + 3 + 1  # ab, cd, " cd"
    assert tokenizer.tokens(tokenizer.encode("ab cd")) == ["ab", " cd"]


def test_special_tokens_separate_documents_and_teach_nothing():
    tokenizer = BPETokenizer.train(f"aa{END}aa{END}aa", 300, special_tokens=(END, "<|user|>", END))
    assert tokenizer.special_tokens == {END: 257, "<|user|>": 258}
    assert b"aa" in tokenizer.vocab
    assert not any(b"endoftext" in token for token in tokenizer.vocab)


def test_the_longest_special_token_is_taken():
    tokenizer = BPETokenizer.train("text", 300, special_tokens=("<a>", "<a>b"))
    assert tokenizer.encode("<a>b<a>") == [tokenizer.special_tokens["<a>b"], tokenizer.special_tokens["<a>"]]
    assert tokenizer.end_id is None


def test_a_megabyte_and_1024_merges_take_seconds():
    rng = random.Random(0)  # 15,000 words of very unequal frequency, as in a play
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(2, 9))) for _ in range(15_000)]
    text = " ".join(rng.choices(words, [1 / rank for rank in range(1, 15_001)], k=170_000))
    assert len(text) > 1_000_000
    start = time.process_time()
    tokenizer = BPETokenizer.train(text, 256 + 1024 + 1)
    assert time.process_time() - start < 5
    assert len(tokenizer.merges) == 1024


# Encoding and decoding


@settings(deadline=None)
@given(mixed_text)
def test_any_text_comes_back(bpe, text):
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert all(0 <= i < bpe.vocab_size for i in ids)
    assert ids.count(bpe.end_id) == text.count(END)


@settings(deadline=None)
@given(text=mixed_text)
def test_same_ids_as_huggingface_on_any_text(bpe, text):
    peer = bpe._fast
    assert bpe.encode(text) == peer.encode(text, add_special_tokens=False).ids


@settings(deadline=None)
@given(few_letters.filter(bool), few_letters)
def test_same_ids_as_huggingface_where_pairs_overlap(learn, text):
    tokenizer = BPETokenizer.train(learn, 300)
    assert tokenizer.encode(text) == tokenizer._fast.encode(text, add_special_tokens=False).ids


@settings(deadline=None)
@given(st.lists(st.integers(0, 319), max_size=20))
def test_any_ids_decode_as_huggingface_decodes_them(bpe, ids):
    assert bpe.decode(ids) == bpe._fast.decode(ids, skip_special_tokens=False)
    assert len(bpe.tokens(ids)) == len(ids)


def test_every_code_point_in_context(bpe):
    characters = [chr(code) for code in range(0, 0x110000, 7) if not 0xD800 <= code < 0xE000]
    for i in range(0, len(characters), 300):
        text = "a ".join(characters[i : i + 300]) + " 1".join(characters[i : i + 300])
        pieces = [to_characters(piece.encode()) for piece in pretokenize(text)]
        assert pieces == [piece for piece, _ in ByteLevel(add_prefix_space=False).pre_tokenize_str(text)]


@pytest.mark.parametrize("text", [VERSE * 60 + END + "ab" * 5000, "x" * 30_000, "世" * 12_000, " \n" * 9_000])
def test_long_texts_give_the_same_ids_by_either_way(bpe, text, monkeypatch):
    monkeypatch.setattr(BPETokenizer, "_encode_piece", None)  # calling it would fail: only the fast way is left
    monkeypatch.setattr(BPETokenizer, "LONG_TEXT", 1)
    fast = bpe.encode(text)
    monkeypatch.undo()
    monkeypatch.setattr(cutting, "_CHUNK", 10)
    monkeypatch.setattr(BPETokenizer, "_encode_long", None)
    monkeypatch.setattr(BPETokenizer, "LONG_TEXT", len(text))
    assert bpe.encode(text) == fast
    assert bpe.decode(fast) == text


def test_labels(bpe):
    assert bpe.tokens(bpe.encode("the ¶")) == ["the", " ", "\\xc2", "\\xb6"]
    assert bpe.tokens([bpe.end_id]) == [END]
    assert CharTokenizer.train("abc").tokens([2, 0]) == ["c", "a"]


@given(st.text(min_size=1, max_size=40))
def test_characters_come_back(text):
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert set(ids) == set(range(tokenizer.vocab_size))
    assert tokenizer.characters == sorted(tokenizer.characters)
    assert tokenizer.end_id is None


def test_ids_may_be_a_tensor_or_an_array(bpe):
    np = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")
    ids = bpe.encode("the mat")
    assert bpe.decode(torch.tensor(ids)) == bpe.decode(np.array(ids)) == bpe.decode(iter(ids)) == "the mat"
    with pytest.raises(ValueError, match=r"one row .* ids\[0\]"):
        bpe.decode(torch.tensor([ids]))
    with pytest.raises(ValueError, match="whole numbers"):
        bpe.decode([1.5])


# Bad input


@pytest.mark.parametrize("cls", [CharTokenizer, lambda text: BPETokenizer.train(text, 300)])
def test_empty_text_teaches_nothing(cls):
    with pytest.raises(ValueError, match="text is empty"):
        getattr(cls, "train", cls)("")


def test_a_vocabulary_must_hold_the_bytes_and_the_special_tokens():
    with pytest.raises(
        ValueError, match="vocab_size=256 is too small: 256 bytes and 1 special tokens need at least 257"
    ):
        BPETokenizer.train("text", 256)
    assert BPETokenizer.train("text", 257).merges == {}
    with pytest.raises(ValueError, match="empty text"):
        BPETokenizer.train("text", 300, special_tokens=("",))
    for ordinary in ("x", "é", "Ġmother"):
        with pytest.raises(ValueError, match=f"special token '{ordinary}' is how a file would write"):
            BPETokenizer.train("other mother", 300, special_tokens=(ordinary,))


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"character '€' at position 2 is not among the 3 .* BPETokenizer"):
        CharTokenizer.train("abc").encode("ab€a")


@pytest.mark.parametrize("bad", [-1, 320, 10**9])
def test_an_id_out_of_range_is_named(bpe, bad):
    for read in (bpe.decode, bpe.tokens):
        with pytest.raises(ValueError, match=rf"id {bad} is none .* 0 … 319 \(vocab_size=320\)"):
            read([1, bad])
    with pytest.raises(ValueError, match=rf"id {bad} is none .* \(vocab_size=3\)"):
        CharTokenizer.train("abc").decode([bad])


def test_half_a_surrogate_pair_is_refused(bpe):
    with pytest.raises(ValueError, match=r"position 3 .*'\\ud83d'"):
        bpe.encode("abc\ud83d")
    with pytest.raises(ValueError, match="position 0"):
        BPETokenizer.train("\ud83d", 300)


# Files


@settings(deadline=None, max_examples=30)
@given(text=mixed_text)
def test_saved_bpe_loads_everywhere_with_the_same_ids(bpe, tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "bpe"
    file = bpe.save(folder)
    assert file == folder / "tokenizer.json"
    again = load_tokenizer(folder)
    assert isinstance(again, BPETokenizer)
    assert (again.vocab, again.merges, again.special_tokens) == (bpe.vocab, bpe.merges, bpe.special_tokens)
    assert list(again.merges) == list(bpe.merges)
    assert again.encode(text) == bpe.encode(text)
    peer = Tokenizer.from_file(str(file))
    assert peer.get_vocab_size() == bpe.vocab_size
    assert peer.encode(text).ids == bpe.encode(text)
    assert peer.decode(bpe.encode(text), skip_special_tokens=False) == text


def test_saved_bpe_loads_in_transformers(bpe, tmp_path):
    transformers = pytest.importorskip("transformers")
    file = bpe.save(tmp_path / "some" / "name.json")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=END)
    text = f"the cat's mat — 世界 🙂{END}then"
    assert fast(text)["input_ids"] == bpe.encode(text)
    assert fast.eos_token_id == bpe.end_id
    assert fast.decode(bpe.encode(text)) == text
    assert [p.name for p in file.parent.iterdir()] == ["name.json"]


def test_saved_characters_load_in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = CharTokenizer.train(VERSE)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.save(tmp_path)))
    assert fast(VERSE)["input_ids"] == tokenizer.encode(VERSE)
    assert fast.decode(tokenizer.encode(VERSE)) == VERSE


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=40))
def test_saved_characters_load_everywhere_with_the_same_ids(tmp_path_factory, text):
    tokenizer = CharTokenizer.train(text)
    file = tokenizer.save(tmp_path_factory.getbasetemp() / "characters")
    again = load_tokenizer(file)
    assert isinstance(again, CharTokenizer)
    assert again.characters == tokenizer.characters
    peer = Tokenizer.from_file(str(file))
    assert peer.encode(text).ids == tokenizer.encode(text)
    assert peer.decode(tokenizer.encode(text)) == text


def test_an_unknown_character_is_an_error_in_the_saved_file_too(tmp_path):
    peer = Tokenizer.from_file(str(CharTokenizer.train("abc").save(tmp_path)))
    with pytest.raises(Exception, match="UNK"):
        peer.encode("abd")


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2s_pair_of_files(tmp_path, names):
    peer = trained_by_huggingface(VERSE, 310)
    peer.model.save(str(tmp_path))
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8")) | {END: 310}
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8")
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / names[0]).write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / names[1]).write_text(merges, encoding="utf-8")
    for path in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        tokenizer = load_tokenizer(path)
        assert isinstance(tokenizer, BPETokenizer)
        assert (tokenizer.vocab_size, tokenizer.end_id) == (311, 310)
        assert tokenizer.encode(VERSE) == peer.encode(VERSE).ids
    (tmp_path / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{names[1]} does not exist, and {names[0]} needs it"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def gpt2s_kind_of_files(tmp_path_factory):
    """A tokenizer in GPT-2's pair of files, and the `tokenizers` package's reading of them."""
    folder = tmp_path_factory.mktemp("pair")
    trained_by_huggingface(VERSE, 310).model.save(str(folder))
    return load_tokenizer(folder), read_by_huggingface(folder / "vocab.json", folder / "merges.txt")


def read_by_huggingface(vocab: Path, merges: Path) -> Tokenizer:
    peer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    peer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return peer


@settings(deadline=None)
@given(text=mixed_text)
def test_gpt2s_pair_of_files_gives_the_same_ids_as_huggingface_on_any_text(gpt2s_kind_of_files, text):
    tokenizer, peer = gpt2s_kind_of_files
    assert tokenizer.encode(text) == peer.encode(text).ids


@settings(deadline=None)
@given(text=mixed_text)
def test_gpt2s_own_files_give_the_same_ids_as_huggingface_on_any_text(gpt2s_own_files, text):
    tokenizer, peer = gpt2s_own_files
    assert tokenizer.encode(text) == peer.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def gpt2s_own_files(gpt2_files):
    peer = read_by_huggingface(gpt2_files / "encoder.json", gpt2_files / "vocab.bpe")
    peer.add_special_tokens([END])
    return load_tokenizer(gpt2_files), peer


def test_gpt2s_own_ids(gpt2s_own_files):
    tokenizer, peer = gpt2s_own_files
    assert isinstance(tokenizer, BPETokenizer)
    assert (tokenizer.vocab_size, tokenizer.end_id) == (50257, 50256)
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode(VERSE) == peer.encode(VERSE).ids


def test_older_files_with_merges_as_one_string(bpe, tmp_path):
    content = bpe._file_content()
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert load_tokenizer(tmp_path).encode(VERSE) == bpe.encode(VERSE)


def test_a_token_that_no_merge_makes_is_kept_for_decoding(bpe, tmp_path):
    content = bpe._file_content()
    content["model"]["vocab"] |= {"Ġzzz": 320, "世界": 321}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 322
    assert tokenizer.decode([320, 321]) == " zzz世界"
    assert tokenizer.encode(VERSE) == bpe.encode(VERSE)


def test_missing_and_damaged_files(bpe, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    file = bpe.save(tmp_path)
    whole = file.read_text(encoding="utf-8")
    broken_vocab = bpe._file_content()
    del broken_vocab["model"]["vocab"]["th"]
    for content in (whole[:500], "", "[]", "{}", json.dumps(broken_vocab)):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match="not a whole tokenizer file"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(normalizer={"type": "NFC"}), "normalizer"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda c: c.update(pre_tokenizer=None), "cut: None"),
        (lambda c: c["pre_tokenizer"].update(add_prefix_space=True), "cut"),
        (lambda c: c["model"].update(ignore_merges=True), "ignore_merges"),
        (lambda c: c["model"].update(type="Unigram"), "Unigram"),
        (lambda c: c["model"]["vocab"].pop("Z"), "lacks 1 of the 256 bytes"),
        (lambda c: c["added_tokens"][0].update(lstrip=True), "spaces"),
    ],
)
def test_other_kinds_of_tokenizers_are_refused_with_a_way_out(bpe, tmp_path, change, says):
    content = bpe._file_content()
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{says}.*AutoTokenizer"):
        load_tokenizer(tmp_path)


def test_words_are_no_characters(tmp_path):
    peer = Tokenizer(models.WordLevel({"the": 0, "cat": 1}, unk_token="the"))
    peer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    peer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="WordLevel"):
        load_tokenizer(tmp_path)
