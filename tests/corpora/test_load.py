import hashlib
import math
import os
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptlib import tales
from gptlib.corpora import Corpus, cache_folder, downloads, load_corpus
from gptlib.corpora.files import python_source

END = "<|endoftext|>"
PLAY = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 200


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and a small play in place of the large one."""
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "SHAKESPEARE_SHA256", hashlib.sha256(PLAY.encode()).hexdigest())
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


class Server:
    """A server on this machine that sends `body`, cut off after `sent` bytes."""

    def __init__(self) -> None:
        self.body, self.sent, self.status, self.requests = PLAY.encode(), 10**9, 200, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body[: outer.sent])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/input.txt"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(cache, monkeypatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(downloads, "SHAKESPEARE_URL", server.url)
    yield server
    server.http.shutdown()
    server.http.server_close()


def documents(text: str) -> list[str]:
    assert text.endswith(END)
    return text.split(END)[:-1]


# tinyshakespeare


def test_a_download_is_verified_kept_and_not_repeated(cache, server):
    corpus = load_corpus("tinyshakespeare")
    file = cache / "tinyshakespeare" / "input.txt"
    assert file.read_text() == PLAY == corpus.train + corpus.validation
    assert [p.name for p in file.parent.iterdir()] == ["input.txt"]
    assert load_corpus("tinyshakespeare") == corpus
    assert server.requests == 1
    assert (corpus.separator, corpus.test) == (None, "")
    assert len(corpus.train) == int(0.9 * len(PLAY))


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(cache, server):
    server.sent = 5000
    with pytest.raises(ConnectionError, match=r"ended after 5,000 of 12,\d+ bytes.*by hand.*tales or python"):
        load_corpus("tinyshakespeare")
    assert list((cache / "tinyshakespeare").iterdir()) == []
    server.sent = 10**9
    assert load_corpus("tinyshakespeare").train


def test_ctrl_c_leaves_nothing(cache, server, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_corpus("tinyshakespeare")
    assert list((cache / "tinyshakespeare").iterdir()) == []


def test_another_file_from_the_server_is_refused(cache, server):
    server.body = b"<html>log in to the hotel's network</html>"
    with pytest.raises(ValueError, match="sent another file than expected"):
        load_corpus("tinyshakespeare")
    assert list((cache / "tinyshakespeare").iterdir()) == []


def test_an_error_of_the_server_is_passed_on(cache, server):
    server.status = 404
    with pytest.raises(ConnectionError, match=r"Not Found.*input\.txt by hand"):
        load_corpus("tinyshakespeare")


def test_no_network(cache, server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ConnectionError) as caught:
        load_corpus("tinyshakespeare")
    message = str(caught.value)
    assert server.url in message
    assert str(cache / "tinyshakespeare" / "input.txt") in message
    assert "\n" not in message


def test_a_wrong_file_in_the_cache_is_refused_and_not_touched(cache, server):
    file = cache / "tinyshakespeare" / "input.txt"
    file.parent.mkdir(parents=True)
    file.write_text("my own notes")
    with pytest.raises(ValueError, match=r"is not the text expected .* move it away"):
        load_corpus("tinyshakespeare")
    assert file.read_text() == "my own notes"
    assert server.requests == 0


def test_a_cache_that_cannot_be_written(cache, server):
    cache.write_text("a file where a folder should be")
    with pytest.raises(PermissionError, match=r"cannot be written .* GPTLIB_CACHE"):
        load_corpus("tinyshakespeare")


def test_the_real_play():
    places = [Path(os.environ.get("GPTLIB_CACHE", "")), Path(__file__).parents[3] / "shared" / "data"]
    folder = next((place for place in places if (place / "tinyshakespeare" / "input.txt").is_file()), None)
    if folder is None:
        pytest.skip("tinyshakespeare is not in the cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLIB_CACHE", str(folder))
        corpus = load_corpus("tinyshakespeare")
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)
    assert corpus.train.startswith("First Citizen:\n")


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GPTLIB_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("GPTLIB_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path.home() / ".cache" / "gptlib"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "gptlib"


# Tales


def test_tales_are_stories_in_three_parts_that_share_none():
    corpus = load_corpus("tales:300")
    parts = [documents(corpus.train), documents(corpus.validation), documents(corpus.test)]
    assert [len(part) for part in parts] == [300, 100, 100]
    assert not set(parts[0]) & set(parts[1]) | set(parts[0]) & set(parts[2]) | set(parts[1]) & set(parts[2])
    assert corpus.separator == END
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        assert part == [story.text for story in tales.split(name, len(part))]
        assert all(math.isfinite(tales.log_prob(text)) for text in part[:20])


def test_fewer_tales_begin_more_tales():
    few, more = load_corpus("tales:50"), load_corpus("tales:2500")
    assert more.train.startswith(few.train)
    assert more.validation.startswith(few.validation)
    assert len(documents(more.validation)) == 125


@pytest.mark.parametrize("name", ["tales:0", "tales:many", "tales:-5", "tales:1.5"])
def test_a_number_of_tales_is_a_number(name):
    with pytest.raises(ValueError, match="is no number of stories; write tales"):
        load_corpus(name)


# The standard library


def test_python_is_the_source_of_the_standard_library():
    corpus = load_corpus("python")
    assert corpus.separator == END
    train, validation = documents(corpus.train), documents(corpus.validation)
    assert len(train) + len(validation) > 300
    assert len(set(train + validation)) == len(train + validation)
    assert 0.08 < len(corpus.validation) / (len(corpus.train) + len(corpus.validation)) < 0.12
    source = Path(os.__file__).read_text(encoding="utf-8")
    assert source in train or source in validation
    assert load_corpus("python") == corpus


def test_what_is_not_source_is_left_out(tmp_path):
    for name in ("a.py", "site-packages/b.py", "x/test/c.py", "x/d.py", "e.txt", "_sysconfigdata_linux.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}" + " " * 100 * (name == "a.py"))
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# naïve".encode("latin-1"))
    (tmp_path / "broken.py").write_bytes(b"# \xff")
    found = [text for _, text in python_source("python", tmp_path).pieces()]
    assert sorted(found)[1:] == ["# a.py" + " " * 100, "# x/d.py"]
    assert "naïve" in sorted(found)[0]
    with pytest.raises(ValueError, match="no source files"):
        python_source("python", tmp_path / "site-packages" / "nothing")


# Files and folders


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=100))
def test_a_file_is_cut_in_two(tmp_path_factory, text):
    text = text[:-1] + "."  # blank texts are refused, see below
    file = tmp_path_factory.getbasetemp() / "own.txt"
    file.write_text(text, encoding="utf-8", newline="")
    corpus = load_corpus(file)
    assert corpus == Corpus(str(file), text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :])
    assert load_corpus(str(file)) == corpus


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\r\n" * 30)
    corpus = load_corpus(tmp_path / "notes.txt")
    assert corpus.train + corpus.validation == "one\ntwo\n" * 30


def test_documents_in_a_file_stay_whole(tmp_path):
    stories = [f"Story number {i}, of some length." for i in range(30)]
    (tmp_path / "stories.txt").write_text(END.join(stories) + END)
    corpus = load_corpus(tmp_path / "stories.txt")
    assert documents(corpus.train) == stories[:27]
    assert documents(corpus.validation) == stories[27:]
    assert corpus.separator == END
    (tmp_path / "stories.txt").write_text(END.join(["long " * 30] * 2))
    assert len(documents(load_corpus(tmp_path / "stories.txt").validation)) == 1


def test_a_folder_holds_documents(tmp_path):
    texts = {f"{'sub/' * (i % 3)}{i:02}.txt": f"The text of file {i}. " * 5 for i in range(40)}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for hidden in (".secret", ".git/config"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("hidden")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "copy.txt").write_text(texts["00.txt"])
    corpus = load_corpus(tmp_path)
    train, validation = documents(corpus.train), documents(corpus.validation)
    assert sorted(train + validation) == sorted(texts.values())
    in_order = [texts[name] for name in sorted(texts)]
    assert train == [text for text in in_order if text in train]
    assert validation == [text for text in in_order if text in validation]
    assert len(validation) in (3, 4)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.warns(
        UserWarning, match=r"left out 2 files that are not UTF-8 text \(latin.txt, picture.png\)"
    ) as caught:
        assert load_corpus(tmp_path) == corpus
    assert caught[0].filename == __file__


def test_a_folder_with_one_file_or_two(tmp_path):
    (tmp_path / "a.txt").write_text("one file " * 50)
    corpus = load_corpus(tmp_path)
    assert corpus.separator is None
    assert corpus.train + corpus.validation == "one file " * 50
    (tmp_path / "b.txt").write_text("another " * 10)
    corpus = load_corpus(tmp_path)
    assert documents(corpus.validation) == ["another " * 10]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n" * 200, "is empty"),
        (b"short", "has only 5 characters, and .* at least 100"),
        ((END * 20).encode(), "is empty"),
        (b"a" * 200 + b"\xe9t\xe9", r"not UTF-8 text \(byte 0xe9 at offset 200\)"),
        (b"a" * 150 + b"\0" + b"a" * 90, r"byte 0x00 at offset 150"),
    ],
)
def test_bad_files(tmp_path, content, says):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        load_corpus(tmp_path / "bad.txt")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "bad.txt").read_bytes() == content


def test_a_folder_without_text(tmp_path):
    with pytest.raises(ValueError, match="holds no text"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tinyshakespear", "did you mean 'tinyshakespeare'"),
        ("Tales", "did you mean 'tales'"),
        ("no/such/file.txt", "check the name or the path"),
        ("", "check the name"),
    ],
)
def test_an_unknown_name(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"tales, tinyshakespeare, python.*{says}"):
        load_corpus(name)


def test_a_corpus_shows_its_size_and_not_its_text(tmp_path):
    assert repr(Corpus("x", "a" * 1500, "b" * 20)) == "Corpus('x': train=1,500, validation=20, test=0 characters)"


# The hub


class Rows:
    """As much of a data set's split as is needed: rows by number, columns by name."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {name: rows[key] for name, rows in self.columns.items()}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the `datasets` package: sets by name, and what was asked for."""
    sets: dict[str, object] = {}

    def load_dataset(*names):
        found = sets.get(" ".join(names), FileNotFoundError(f"Dataset {names[0]!r} doesn't exist\non the Hub"))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return sets


def rows(n, word):
    return [f"{word} text number {i}" for i in range(n)]


def test_hub_splits_and_columns(hub):
    hub["me/set"] = {"train": Rows(id=[*range(20)], text=rows(20, "train")), "test": Rows(id=[0], text=["the test"])}
    hub["me/set large"] = {
        "train": Rows(story=[*rows(9, "large"), None], other=rows(10, "other")),
        "validation": Rows(story=["val 1", ""], other=["x", "y"]),
    }
    corpus = load_corpus("hub:me/set")
    assert documents(corpus.train) + documents(corpus.validation) == rows(20, "train")
    assert len(documents(corpus.validation)) == 2
    assert documents(corpus.test) == ["the test"]
    corpus = load_corpus("hub:me/set/large")
    assert documents(corpus.train) == rows(9, "large")
    assert documents(corpus.validation) == ["val 1"]
    assert documents(load_corpus("hub:me/set/large:other").train) == rows(10, "other")


def test_hub_bad_names(hub):
    hub["me/set"] = {"train": Rows(text=rows(20, "train"), label=[0] * 20)}
    hub["me/test"] = {"test": Rows(text=rows(20, "train"))}
    hub["me/numbers"] = {"train": Rows(label=[0] * 20)}
    hub["me/pick"] = ValueError("Config name is missing.\nPlease pick one")
    hub["me/far"] = ConnectionError("Couldn't reach 'me/far' on the Hub")
    for name, kind, says in [
        ("hub:me/nothing", ValueError, "doesn't exist.*huggingface.co"),
        ("hub:me", ValueError, "write hub:owner/name"),
        ("hub:me/", ValueError, "write hub:owner/name"),
        ("hub:me/set:label", ValueError, "'label' is not one of text; its text columns are text"),
        ("hub:me/numbers", ValueError, "it has no text column"),
        ("hub:me/test", ValueError, "no split called train but test"),
        ("hub:me/pick", ValueError, r"Config name is missing\."),
        ("hub:me/far", ConnectionError, "Couldn't reach .* the network, or use the corpus tales or python"),
    ]:
        with pytest.raises(kind, match=says) as caught:
            load_corpus(name)
        assert "\n" not in str(caught.value)


def test_hub_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        load_corpus("hub:me/set")


def test_hub_with_the_real_package(monkeypatch):
    datasets = pytest.importorskip("datasets")
    real = datasets.DatasetDict(
        train=datasets.Dataset.from_dict({"label": [1] * 30, "text": rows(30, "train")}),
        validation=datasets.Dataset.from_dict({"label": [1] * 3, "text": rows(3, "validation")}),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name: real)
    corpus = load_corpus("hub:me/set")
    assert documents(corpus.train) == rows(30, "train")
    assert documents(corpus.validation) == rows(3, "validation")
