"""What every view shares: loading its module, its static picture, and a kernel side that answers in sentences."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from torch import Tensor

from gptlib.generation import check_ids
from gptlib.model import GPT
from gptlib.plots import Picture
from gptlib.tokenizers import BPETokenizer, CharTokenizer

STATIC = Path(__file__).parent / "static"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', flags=re.MULTILINE)


def view_module(name: str) -> str:
    """The ES module of a view as one text: the files that it imports stand in front of it, each once.

    A notebook loads the module from a blob, where a relative import finds nothing.
    """
    texts: dict[str, str] = {}
    _collect(name, texts)
    if "base" not in texts:
        raise ValueError(f"{name}.js imports nothing from base.js; `import {{…}} from './base.js'` is expected")
    return "".join(texts.values())


def _collect(name: str, texts: dict[str, str]) -> None:
    text = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    for part in _IMPORT.findall(text):
        if part not in texts:
            _collect(part, texts)
    texts[name] = _IMPORT.sub("", text)


def view_style(*names: str) -> str:
    """The style sheet of all views, and after it those that a view has of its own, by name."""
    return "".join((STATIC / f"{name}.css").read_text(encoding="utf-8") for name in ("views", *names))


class View(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget has no types
    """A live view. A subclass has `_esm`, synchronised values, `_picture`, `_sentence`, and `_answer` if it asks.

    Args:
        values: of the synchronised traits.
    """

    _css = view_style()
    step = traitlets.Int(0).tag(sync=True)  # counts answers: the browser redraws when it changes
    problem = traitlets.Unicode("").tag(sync=True)  # one sentence when a request could not be met

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(self._on_request)

    def _on_request(self, _: Any, request: dict[str, Any], buffers: Any) -> None:
        with self.hold_sync():
            try:
                self._answer(request)
                self.problem = ""
            except ValueError as error:
                self.problem = str(error)
            except Exception as error:  # in a callback it would vanish into a log that nobody reads
                self.problem = f"the kernel could not answer: {type(error).__name__}: {error}"
            self.step += 1

    def _answer(self, request: dict[str, Any]) -> None:
        """Do what the browser asks for, by changing synchronised values; raise ValueError with a sentence."""
        raise ValueError(f"the view asked for {sorted(request)}, and there is nothing that it can ask for")

    def _picture(self) -> Picture:
        """The static form of what the view shows now."""
        raise NotImplementedError

    def _sentence(self) -> str:
        """The same in words."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # GitHub, a notebook that is not trusted and nbconvert run no script: they take the picture, or the sentence.
        bundle: tuple[dict[str, Any], dict[str, Any]] = super()._repr_mimebundle_()
        data, metadata = bundle
        picture = self._picture()
        data["text/plain"] = self._sentence()
        data["image/png"] = base64.b64encode(picture.png()).decode("ascii")
        return data, {**metadata, "image/png": {"alt": picture.alt}}

    if int(ipywidgets.__version__.split(".")[0]) < 8:

        def _ipython_display_(self, **arguments: Any) -> None:
            # ipywidgets 7 displays by this method, which would leave the picture out.
            from IPython.display import display

            data, metadata = self._repr_mimebundle_()
            display(data, metadata=metadata, raw=True)
            self._handle_displayed(**arguments)


class ModelView(View):
    """A live view of what a model does.

    Args:
        model: the GPT that computes.
        tokenizer: the one it was trained with.
        values: of the synchronised traits.
    """

    def __init__(self, model: GPT, tokenizer: BPETokenizer | CharTokenizer, **values: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        super().__init__(**values)


def require_tokenizer(tokenizer: BPETokenizer | CharTokenizer | None) -> BPETokenizer | CharTokenizer:
    """The tokenizer itself, or ValueError where a model came without one."""
    if tokenizer is None:
        raise ValueError("tokenizer=None: this model came without one; pass the tokenizer that it was trained with")
    return tokenizer


@contextmanager
def evaluating(model: GPT) -> Iterator[None]:
    """Without dropout and without a graph; afterwards the model is in the mode it was in."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def ids_of(model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str) -> Tensor:
    """The text's ids (1, T) on the model's device.

    Raises:
        ValueError: for an empty text, one that the tokenizer cannot encode, or ids that the model does not have.
    """
    if not text:
        raise ValueError("the text is empty; give at least one character")
    ids = torch.tensor([tokenizer.encode(text)], dtype=torch.long)
    check_ids(ids, model.config.vocab_size)
    return ids.to(model.token_embedding.weight.device)


def names_of(tokenizer: BPETokenizer | CharTokenizer, ids: list[int]) -> list[str]:
    """Readable text of each id; a model may have more ids than its tokenizer uses, and those are called `id 1007`."""
    return [tokenizer.tokens([i])[0] if i < tokenizer.vocab_size else f"id {i}" for i in ids]
