"""A corpus as token ids on disk: the ids of the text in memory, in files that say what they are."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Source, are_tokens, files, hub, load_corpus, load_tokens, open_source, tokens, write_tokens
from gptlib.tokenizers import cutting
from gptlib.training import tokenize_corpus, tokenizer_for, tokenizer_from

END = "<|endoftext|>"
VERSE = "The cat sat on the mat.  A dog saw it,\nand ran off; who knows why?\n\n"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Blocks and stretches of a few characters, so that every text has many."""
    monkeypatch.setattr(files, "BLOCK", 37)
    monkeypatch.setattr(tokens, "STRETCH", 50)
    monkeypatch.setattr(cutting, "_CHUNK", 40)


def same(on_disk, in_memory, length: int) -> None:
    """The same ids, and windows that begin in the same places."""
    for disk, memory in zip(on_disk, in_memory, strict=True):
        assert disk.read(slice(None)).tolist() == memory.ids.tolist()
        assert (disk.starts is None) == (memory.starts is None)
        assert disk.windows(length) == memory.windows(length)
        for a, b in zip(disk.batch(3, 4, length, 1), memory.batch(3, 4, length, 1), strict=True):
            assert torch.equal(a, b)


TEXTS = st.text(alphabet="abcé \n.,'7漢\U0001f40c", min_size=150, max_size=600)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["char", "bpe"]), st.booleans())
def test_a_file_has_the_ids_that_it_has_in_memory(tmp_path_factory, text, kind, windows):
    folder = tmp_path_factory.mktemp("file")
    file = folder / "own.txt"
    file.write_text("x" + text[1:-1] + ".", encoding="utf-8", newline="\r\n" if windows else "")
    corpus, source = load_corpus(file), open_source(file)
    tokenizer = tokenizer_for(corpus, kind, vocab_size=280)
    found = tokenizer_from(source, kind, vocab_size=280)
    assert (found.vocab_size, found.encode(text[1:-1])) == (tokenizer.vocab_size, tokenizer.encode(text[1:-1]))
    made = write_tokens(source, tokenizer, folder / "tokens")
    same(tokenize_corpus(made, tokenizer, 6), tokenize_corpus(corpus, tokenizer, 6), 6)
    assert source.characters == len(corpus.train + corpus.validation)


DOCUMENTS = st.lists(st.text(alphabet="ab. \n<|", max_size=90), min_size=2, max_size=30)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.sampled_from(["char", "bpe"]), st.sampled_from([3, 40, 200]))
def test_documents_have_the_ids_that_they_have_in_memory(tmp_path_factory, documents, kind, length):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "stories.txt").write_text(
        END.join(["a long one, " * 60, *documents, "b", "c " * 150]), encoding="utf-8", newline=""
    )
    corpus, source = load_corpus(folder / "stories.txt"), open_source(folder / "stories.txt")
    assert source.separator == corpus.separator
    tokenizer = tokenizer_for(corpus, kind, vocab_size=262)
    made = write_tokens(source, tokenizer, folder / "tokens")
    same(tokenize_corpus(made, tokenizer, length), tokenize_corpus(corpus, tokenizer, length), length)


@pytest.mark.parametrize("name", ["tales:30", "folder", "lone"])
def test_other_texts_have_the_ids_that_they_have_in_memory(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for i in range(12 if name == "folder" else 1):
        (tmp_path / name.replace(":", "")).mkdir(exist_ok=True)
        (tmp_path / name.replace(":", "") / f"{i}.txt").write_text(f"{i}: {VERSE * (i + 9)}", encoding="utf-8")
    corpus, source = load_corpus(name), open_source(name)
    tokenizer = tokenizer_for(corpus, "bpe", vocab_size=300)
    assert tokenizer_from(source, "bpe", vocab_size=300).merges == tokenizer.merges
    made = write_tokens(source, tokenizer, tmp_path / "tokens")
    same(tokenize_corpus(made, tokenizer, 20), tokenize_corpus(corpus, tokenizer, 20), 20)
    assert repr(made).startswith(f"TokenFiles('{name}': train=")


def test_training_from_disk_is_training_from_memory(tmp_path):
    (tmp_path / "verse.txt").write_text(VERSE * 30, encoding="utf-8")
    corpus = load_corpus(tmp_path / "verse.txt")
    tokenizer = tokenizer_for(corpus)
    made = write_tokens(open_source(tmp_path / "verse.txt"), tokenizer, tmp_path / "tokens")
    config = TrainConfig(steps=6, batch_size=4, precision="fp32", device="cpu", log_every=1)
    losses = []
    for text, coder in ((corpus, tokenizer), (made, made.tokenizer)):
        torch.manual_seed(0)
        model = GPT(GPTConfig(tokenizer.vocab_size, n_positions=8, n_embd=12, n_layer=1, n_head=3))
        result = train(model, text, coder, config, verbose=False)
        losses.append(([line["loss"] for line in result.log], result.val_loss))
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match=r"are of a tokenizer with \d+ tokens and not 3; use its own"):
        train(model, made, CharTokenizer("abc"), config, verbose=False)


@pytest.mark.parametrize(("characters", "dtype"), [(300, "uint16"), (40_000, "uint16"), (70_000, "uint32")])
def test_ids_of_every_size_come_back(tmp_path, characters, dtype):
    alphabet = [chr(i) for i in range(100, 100 + 2 * characters) if not 0xD800 <= i < 0xE000][:characters]
    text = "".join(alphabet)
    source = Source("letters", lambda: iter([("train", text), ("validation", text[::-1])]), separator=None)
    made = write_tokens(source, CharTokenizer(alphabet), tmp_path / "tokens")
    assert made.train.ids.dtype == np.dtype(dtype)
    data, held_back = tokenize_corpus(made, made.tokenizer, 8)
    assert data.read(slice(None)).tolist() == list(range(characters))
    assert held_back.read(torch.tensor([0, characters - 1])).tolist() == [characters - 1, 0]
    inputs, targets = data.batch(0, 50, 8, 0)
    assert torch.equal(targets, inputs + 1)
    assert inputs.max() < characters


@pytest.mark.parametrize("limit", [1, 40, 100, 101, 10_000])
def test_a_limit_keeps_whole_documents(tmp_path, limit):
    documents = [f"Number {i}, of some length." * (1 + i % 3) for i in range(40)]
    pieces = [("validation" if i % 5 == 4 else "train", text) for i, text in enumerate(documents)]
    tokenizer = BPETokenizer.train(VERSE, 260)
    source = Source("letters", lambda: iter(pieces))
    whole = write_tokens(source, tokenizer, tmp_path / "whole")
    made = write_tokens(source, tokenizer, tmp_path / "cut", max_tokens=limit)
    n = len(made.train.ids)
    assert n <= limit or len(made.train.starts) == 1
    assert made.train.ids.tolist() == whole.train.ids[:n].tolist()
    assert made.train.ids[-1] == tokenizer.end_id
    assert made.train.starts.tolist() == np.flatnonzero(made.train.ids == tokenizer.end_id)[:-1].tolist()
    following = whole.train.starts[len(made.train.starts) + 1 :]
    assert not len(following) or following[0] >= limit, "one document more would have been too much"
    assert made.validation.ids.tolist() == whole.validation.ids.tolist()
    running = Source("letters", lambda: iter([("train", VERSE * 9), ("validation", VERSE)]), separator=None)
    cut = write_tokens(running, tokenizer, tmp_path / "running", max_tokens=limit + 1)
    assert len(cut.train.ids) == min(limit + 1, len(tokenizer.encode(VERSE * 9)))


def test_a_stream_is_read_no_further_than_asked(tmp_path):
    read = 0

    def without_end() -> Iterator[tuple[str, str]]:
        nonlocal read
        while True:
            read += 1
            yield "validation" if read % 10 == 0 else "train", f"Document {read}."

    source = Source("stream", without_end, streams=True)
    made = write_tokens(source, BPETokenizer.train(VERSE, 260), tmp_path / "tokens", max_tokens=2000)
    assert 1900 < len(made.train.ids) <= 2000
    assert read < 400
    with pytest.raises(ValueError, match="not known before all is read; use a bpe tokenizer"):
        tokenizer_from(source, "char")
    assert tokenizer_from(source, "bpe", vocab_size=270, sample=1000).vocab_size == 270


class Streamed:
    """As much of a streamed split as is needed."""

    def __init__(self, texts: list[str], column: str = "text") -> None:
        self.rows = [{"id": i, column: text} for i, text in enumerate(texts)]

    def __iter__(self):
        return iter(self.rows)


def test_rows_of_the_hub_are_held_back_by_their_hash(monkeypatch):
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return {"train": Streamed([f"Text {i % 900}." for i in range(1000)]), "dev": Streamed(["held back", " "])}

    monkeypatch.setitem(sys.modules, "datasets", type(sys)("datasets"))
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", load_dataset, raising=False)
    parts = list(open_source("hub:me/set", streaming=True).pieces())
    assert asked == [(("me/set",), {"streaming": True})]
    assert parts[0] == ("validation", "held back"), "before what may have no end"
    assert [part for part, _ in parts[1:]] == ["train"] * 1000
    monkeypatch.setattr(hub, "VALIDATION", ())
    source = open_source("hub:me/set", streaming=True, held_back=0.2)
    assert source.streams
    pieces = list(source.pieces())
    assert pieces == list(source.pieces())
    held = {text for part, text in pieces if part == "validation"}
    assert 130 < len(held) < 230
    assert not held & {text for part, text in pieces if part == "train"}, "copies are in one part"


def test_rows_of_the_hub_by_the_real_package(tmp_path, packages_beside):
    """Also a package of the index: `gptlib tokenize` reads rows that `datasets` streams from files of a folder."""
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = ("datasets", "pyarrow", "dill", "multiprocess", "xxhash", "pandas", "python-dateutil")
    folder = packages_beside(*(pin.partition(" ;")[0] for pin in pins if pin.partition("==")[0] in wanted))
    (tmp_path / "me" / "verse").mkdir(parents=True)
    rows = "".join(json.dumps({"n": i, "text": f"Text {i}: {VERSE}"}) + "\n" for i in range(300))
    (tmp_path / "me" / "verse" / "train.jsonl").write_text(rows, encoding="utf-8")
    command = [sys.executable, "-m", "gptlib", "tokenize", "--corpus", "hub:me/verse", "--vocab-size", "300"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    run = subprocess.run(
        [*command, "--out", "tokens"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    made = load_tokens(tmp_path / "tokens")
    assert len(made.train.starts) + len(made.validation.starts) == 300
    assert 10 < len(made.validation.starts) < 60
    assert "Text " in made.tokenizer.decode(made.train.ids[:20].tolist())


def test_nothing_is_left_of_what_was_interrupted(tmp_path):
    def pieces() -> Iterator[tuple[str, str]]:
        yield "train", VERSE * 20
        raise KeyboardInterrupt

    source = Source("letters", pieces, separator=None)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(source, BPETokenizer.train(VERSE, 260), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_tokens(source, BPETokenizer.train(VERSE, 260), tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_texts_and_folders_that_will_not_do(tmp_path):
    tokenizer = BPETokenizer.train(VERSE, 260)
    for pieces, words in [
        ([("train", "short")], "has only 5 characters"),
        ([("train", VERSE * 4)], "has no text for validation.*--held-back"),
        ([("validation", VERSE * 4)], "has no text for train"),
    ]:
        with pytest.raises(ValueError, match=words):
            write_tokens(Source("x", lambda pieces=pieces: iter(pieces)), tokenizer, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.bin").write_text("precious")
    source = Source("x", lambda: iter([("train", VERSE * 4), ("validation", VERSE)]))
    for place in (tmp_path / "mine", tmp_path / "mine" / "train.bin"):
        with pytest.raises(ValueError, match="is not empty; name a new folder"):
            write_tokens(source, tokenizer, place)
    assert (tmp_path / "mine" / "train.bin").read_text() == "precious"
    with pytest.raises(ValueError, match=r"held_back=1 must lie between 0 and 1"):
        open_source("tales", held_back=1)


def test_damage_is_named(tmp_path):
    source = Source("x", lambda: iter([("train", VERSE * 4), ("validation", VERSE)]))
    folder = tmp_path / "tokens"
    write_tokens(source, BPETokenizer.train(VERSE, 260), folder)
    assert are_tokens(folder)
    assert not are_tokens("")
    header = (folder / "tokens.json").read_text()
    with pytest.raises(ValueError, match="holds a corpus as token ids and not as text"):
        load_corpus(folder)
    for name in ("train.bin", "validation.starts.bin"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2])
        with pytest.raises(
            ValueError, match=rf"{name} has {len(content) - 2} bytes and not {len(content)}; run gptlib"
        ):
            load_tokens(folder)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=rf"{name} has 0 bytes"):
            load_tokens(folder)
        (folder / name).write_bytes(content)
    for changed, words in [
        (header[:40], "tokens.json is damaged"),
        (header.replace('"parts"', '"part"'), "is damaged .*parts"),
        (header.replace('"format": 1', '"format": 2'), "has format 2, and this version reads 1"),
    ]:
        (folder / "tokens.json").write_text(changed)
        with pytest.raises(ValueError, match=words):
            load_tokens(folder)
    (folder / "tokens.json").write_text(header)
    CharTokenizer.train(VERSE).save(folder / "tokenizer.json")
    with pytest.raises(ValueError, match="is not the one with which the ids were made"):
        load_tokens(folder)
    with pytest.raises(ValueError, match=r"holds no tokens\.json; gptlib tokenize makes such a folder"):
        load_tokens(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and wants files with holes")
def test_a_corpus_may_be_larger_than_memory(tmp_path):
    source = Source("x", lambda: iter([("train", VERSE * 4), ("validation", VERSE)]), separator=None)
    write_tokens(source, BPETokenizer.train(VERSE, 260), tmp_path / "tokens")
    said = Path("/proc/meminfo").read_text(encoding="utf-8")
    kilobytes = re.findall(r"^(?:MemTotal|SwapTotal): +(\d+)", said, re.MULTILINE)
    n = 1024 * sum(map(int, kilobytes)) // 2 + 2**30  # two bytes each
    os.truncate(tmp_path / "tokens" / "train.bin", 2 * n)  # a hole, and no blocks on the disk
    header = json.loads((tmp_path / "tokens" / "tokens.json").read_text())
    header["parts"]["train"]["tokens"] = n
    (tmp_path / "tokens" / "tokens.json").write_text(json.dumps(header))
    data, _ = tokenize_corpus(load_tokens(tmp_path / "tokens"), load_tokens(tmp_path / "tokens").tokenizer, 8)
    assert data.batch(0, 4, 8, 0)[0].tolist() == [[0] * 8] * 4
    assert data.read(slice(0, 3)).tolist() == load_tokens(tmp_path / "tokens").tokenizer.encode(VERSE)[:3]


MEMORY = """
import sys
from pathlib import Path
import torch
from gptlib import GPT, GPTConfig, TrainConfig, train
from gptlib.corpora import load_tokens, open_source, write_tokens
from gptlib.tokenizers import BPETokenizer

folder, most = Path(sys.argv[1]), 0
torch.set_num_threads(1)

def look(*_):  # pages of a mapped file are not counted: the system takes them back when it likes
    global most
    lines = Path("/proc/self/status").read_text().splitlines()
    most = max(most, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))

def make(name):
    write_tokens(open_source(folder / f"{name}.txt"), coder, folder / name, progress=look)

def learn(name):
    corpus = load_tokens(folder / name)
    model = GPT(GPTConfig(corpus.tokenizer.vocab_size, n_positions=512, n_embd=16, n_layer=1, n_head=2))
    config = TrainConfig(steps=30, batch_size=4, device="cpu", eval_windows=9, eval_every=10, log_every=1)
    train(model, corpus, corpus.tokenizer, config, verbose=False, on_step=look)

coder = BPETokenizer.train((folder / "small.txt").read_text(), 300)
for act in (make, learn):
    most = 0
    act("small")
    look()
    before, most = most, 0
    act("large")
    look()
    print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_text(tmp_path):
    (tmp_path / "small.txt").write_text("".join(f"{i} {VERSE}" for i in range(100_000)), encoding="utf-8")
    with (tmp_path / "large.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{i} {VERSE}" for i in range(400_000))
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    made, learned = (int(line) / 2**10 for line in run.stdout.splitlines())
    more_text, more_ids = (
        ((tmp_path / large).stat().st_size - (tmp_path / small).stat().st_size) / 2**20
        for large, small in (("large.txt", "small.txt"), ("large/train.bin", "small/train.bin"))
    )
    assert more_text > 15
    assert made < more_text / 2
    assert more_ids > 12
    assert learned < more_ids / 4
