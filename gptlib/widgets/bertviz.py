"""BertViz's head, model and neuron view, of our models and of transformers models, without a network."""

from __future__ import annotations

import base64
import gzip
import html
import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from gptlib.generation import check_ids
from gptlib.interpret import HeadScores, attention_maps, score_maps
from gptlib.model import GPT
from gptlib.plots import Picture, plot_attention_heads, visible
from gptlib.recording import record
from gptlib.widgets.base import STATIC

Kind = Literal["head", "model", "neuron"]
VENDOR = Path(__file__).parent / "vendor"
SCRIPTS = ("jquery.min.js", "d3.min.js")
MOST_NUMBERS = 600_000  # weights (and q, k) that are sent: some 1.5 MB in the notebook
MOST_TOKENS = 128
DECIMALS = 4  # of a weight: a thousandth of a pixel
# In place of RequireJS, which would load both from elsewhere: they are on the page already.
REQUIRE = """
const there = { jquery: window.jQuery, d3: window.d3 };
window.require = window.requirejs = (names, use) => use(...names.map((name) => there[name]));
window.require.config = () => {};
"""
LOADER = """
(async () => {
  const bytes = Uint8Array.from(atob(document.getElementById("scripts").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  for (const text of JSON.parse(await new Response(unpacked).text())) {
    const script = document.createElement("script");
    script.textContent = text;
    document.body.append(script);
  }
})();
"""


# Where the frame is missing (GitHub, a notebook that is not trusted) the picture is shown, and elsewhere it is not.
STILL = (
    "<style>iframe.gl-bertviz ~ img.gl-bertviz { display: none } "
    "iframe.gl-bertviz ~ p.gl-bertviz { display: block }</style>"
)
KEYS = "Tab leads into the view, to its heads and to its tokens; arrow keys move there, Enter does what a click does."


class BertVizView:
    """A BertViz view as a notebook shows it: a frame that holds all it needs, a sentence, and its heads as a table.

    Where no frame is shown, as on GitHub, a picture of all heads stands in its place.

    Attributes:
        html: the whole of it, for a page of one's own.
        sentence: what it shows, in words.
        picture: all heads as a static figure.
    """

    def __init__(self, page: str, sentence: str, height: int, picture: Picture, heads: list[list[str]]) -> None:
        self.sentence, self.picture = sentence, picture
        png = base64.b64encode(picture.png()).decode("ascii")
        columns = ("layer", "head", "pattern", "strongest link beyond the first row")
        cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in heads]
        # The frame has an origin of its own and only scripts are allowed: nothing in it reaches the notebook.
        self.html = (
            f"<p>{html.escape(sentence)}</p>{STILL}"
            f'<iframe class="gl-bertviz" title="{html.escape(sentence)}" sandbox="allow-scripts" '
            f'srcdoc="{html.escape(page)}" '
            f'style="width: 100%; height: {height}px; border: 0; background: white; color-scheme: light"></iframe>'
            f'<p class="gl-bertviz" hidden>{KEYS}</p>'
            f'<img class="gl-bertviz" alt="{html.escape(picture.alt)}" src="data:image/png;base64,{png}">'
            f'<details><summary data-lm-suppress-shortcuts="true">All heads as a table</summary><table><thead><tr>'
            f"{''.join(f'<th>{column}</th>' for column in columns)}</tr></thead>"
            f"<tbody><tr>{'</tr><tr>'.join(cells)}</tr></tbody></table></details>"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": f"{self.sentence} {self.picture.alt}"}


def bertviz_view(
    model: Any, tokenizer: Any, text: str, view: Kind = "head", *, max_tokens: int | None = None
) -> BertVizView:
    """Attention in BertViz's views, which need no network here.

    BertViz gets every weight as text, so a long text of a model with many heads would make a notebook of many
    megabytes: only as many tokens are shown as make 600,000 numbers, and the sentence above the view says so.

    Args:
        model: a GPT of this library, or a causal transformers model, whose attention is switched to the plain
            implementation while it reads, since the others give no weights.
        tokenizer: the model's.
        text: at least one token.
        view: "head" (lines between tokens, coloured by head), "model" (all layers and heads), or "neuron" (queries and
            keys feature by feature; of our models, not of transformers models).
        max_tokens: show no more than this; BertViz becomes slow beyond 128, the limit if None.

    Raises:
        ImportError: if BertViz is not installed.
        ValueError: for an empty text, an unknown view, or a model that gives no weights.

    Source: Vig, "A Multiscale Visualization of Attention in the Transformer Model" (2019).
    """
    if importlib.util.find_spec("bertviz") is None:
        raise ImportError(
            "BertViz is not installed; run `pip install bertviz`, or use AttentionViewer, which needs nothing"
        )
    if view not in ("head", "model", "neuron"):
        raise ValueError(f"view={view!r} is unknown; choose one of head, model, neuron")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens} must be at least 1")
    if view == "neuron" and not isinstance(model, GPT):
        raise ValueError("the neuron view reads queries and keys by this library's names; load the model by load_model")
    ids, pieces = _read(model, tokenizer, text)
    layers, heads, head_dim = _shape(model)
    limit = min(max_tokens or MOST_TOKENS, _most_tokens(layers * heads, head_dim if view == "neuron" else 0))
    tokens = [visible(piece) for piece in pieces[:limit]]
    data: Any = _queries_and_keys(model, ids[:, :limit]) if view == "neuron" else _weights(model, ids[:, :limit])
    page = _page(_rendered(view, data, len(tokens)), tokens)
    whole = (
        f"{len(tokens)} tokens" if len(tokens) == len(pieces) else f"the first {len(tokens)} of {len(pieces)} tokens"
    )
    sentence = f"BertViz, {view} view: {layers} layers of {heads} heads on {whole}; {len(page) / 1e6:.1f} MB."
    tall = {"head": 24 * len(tokens) + 110, "neuron": 26 * len(tokens) + 220, "model": 970 * layers // heads + 120}
    maps = torch.cat([layer["attn"] if view == "neuron" else layer for layer in data]).float()  # (L, H, T, T)
    scores = score_maps(maps[:, None], ids[:, :limit])
    labels = [scores.label(n, head).name for n in range(layers) for head in range(heads)]
    picture = plot_attention_heads(maps, title=f"Attention of all heads on {whole}", labels=labels)
    table = _heads(maps, tokens, scores)
    return BertVizView(page, sentence, min(900, max(360, tall[view])), picture, table)


def _heads(maps: Tensor, tokens: list[str], scores: HeadScores) -> list[list[str]]:
    """A row for each head: layer, head, pattern with its score, and the largest weight beyond the first query."""
    rows = []
    for layer, head in torch.cartesian_prod(*map(torch.arange, maps.shape[:2])).tolist():
        name, _, score = scores.label(layer, head)
        weights = maps[layer, head]  # (T, T)
        q, k = divmod(int(weights[1:].argmax()) + len(tokens) if len(tokens) > 1 else 0, len(tokens))
        link = f"{tokens[q]} at {q} looks at {tokens[k]} at {k}: {weights[q, k]:.2f}"
        rows.append([str(layer), str(head), name if name == "mixed" else f"{name} {score:.2f}", link])
    return rows


def _read(model: Any, tokenizer: Any, text: str) -> tuple[Tensor, list[str]]:
    if tokenizer is None:
        raise ValueError("tokenizer=None: this model came without one; pass the tokenizer that it was trained with")
    ids = list(tokenizer.encode(text))
    if not text or not ids:
        raise ValueError("the text is empty; give at least one character")
    if isinstance(model, GPT):
        check_ids(torch.tensor([ids]), model.config.vocab_size)
        if len(ids) > model.config.n_positions and model.config.position == "learned":
            ids = ids[: model.config.n_positions]
    own = getattr(tokenizer, "tokens", None)
    return torch.tensor([ids]), own(ids) if callable(own) else [tokenizer.decode([token]) for token in ids]


def _shape(model: Any) -> tuple[int, int, int]:
    if isinstance(model, GPT):
        return model.config.n_layer, model.config.n_head, model.config.head_dim
    config = getattr(model, "config", None)
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    if layers is None or heads is None:
        raise ValueError(
            f"{type(model).__name__} is neither a GPT of this library nor a transformers model with attention"
        )
    return layers, heads, 0


def _most_tokens(heads: int, features: int) -> int:
    # heads · (T · T + 2 · features · T) ≤ MOST_NUMBERS, solved for T
    return max(1, int(math.sqrt(features**2 + MOST_NUMBERS / heads) - features))


def _weights(model: Any, ids: Tensor) -> list[Tensor]:
    """Each layer's weights, (1, H, T, T)."""
    if isinstance(model, GPT):
        return [_rounded(layer) for layer in attention_maps(model, ids)]
    before, training = getattr(model.config, "_attn_implementation", None), model.training
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            attentions = model.eval()(ids.to(model.device), output_attentions=True).attentions
    finally:
        model.train(training)
        if before is not None:
            model.set_attn_implementation(before)
    if not attentions or attentions[0] is None:
        raise ValueError(f"{type(model).__name__} gives no attention weights, so there is nothing to show")
    return [_rounded(layer) for layer in attentions]


def _queries_and_keys(model: GPT, ids: Tensor) -> list[dict[str, Tensor]]:
    """Each layer's weights with queries and keys, (1, H, T, D), a shared key once for each of its heads."""
    training, layers = model.training, []
    with torch.no_grad(), record(model.eval()) as run:
        model(ids.to(model.token_embedding.weight.device))
    model.train(training)
    for i in range(model.config.n_layer):
        q, k, w = (run[f"blocks.{i}.attention.{name}"] for name in ("q", "k", "weights"))
        shared = k.repeat_interleave(q.size(1) // k.size(1), dim=1)  # (1, n_kv_head, T, D) -> (1, H, T, D)
        layers.append({"attn": _rounded(w), "queries": _rounded(q), "keys": _rounded(shared)})
    return layers


def _rounded(values: Tensor) -> Tensor:
    return values.detach().cpu().double().round(decimals=DECIMALS)  # in fp32 the text would have all digits again


def _placeholders(length: int) -> list[str]:
    return [f"@{i}@" for i in range(length)]


def _rendered(view: Kind, data: Any, length: int) -> str:
    """What BertViz writes for a page, with placeholders for tokens."""
    names = _placeholders(length)
    if view == "head":
        from bertviz import head_view

        returned = head_view(attention=data, tokens=names, html_action="return")
    elif view == "model":
        from bertviz import model_view

        returned = model_view(attention=data, tokens=names, display_mode="light", html_action="return")
    else:
        from bertviz.neuron_view import show

        # It asks its own model classes and a tokenizer for three things, which are answered here.
        reader = SimpleNamespace(tokenize=lambda text: names, convert_tokens_to_ids=lambda tokens: [0] * length)
        answer: Callable[..., Any] = _Answer(data)
        returned = show(answer, "gpt2", reader, "text", display_mode="light", html_action="return")
    text: str = returned.data
    return text


class _Answer:
    """A model for BertViz's neuron view that has computed already."""

    def __init__(self, data: list[dict[str, Tensor]]) -> None:
        self.data = data

    def eval(self) -> None:
        """It has no modes."""

    def __call__(self, ids: Tensor) -> tuple[list[dict[str, Tensor]]]:
        return (self.data,)


def _page(rendered: str, tokens: list[str]) -> str:
    """BertViz's page with its scripts inside, packed, so that no token can end a script."""
    rendered = re.sub(r'<script src="[^"]*"></script>', "", rendered)
    rendered = re.sub(r"bertviz-[0-9a-f]{32}", "bertviz", rendered)  # a random name would change a notebook at each run
    body, *parts = re.split(r'<script type="text/javascript">', rendered)
    own = [re.sub(r"// HACK: .*", "", part.split("</script>")[0]) for part in parts]  # the data stands there once more
    listed = json.dumps(_placeholders(len(tokens)))
    own = [script.replace(listed, json.dumps(tokens)) for script in own]
    keys = (STATIC / "bertviz_keys.js").read_text(encoding="utf-8")
    scripts = [*((VENDOR / name).read_text(encoding="utf-8") for name in SCRIPTS), REQUIRE, *own, keys]
    packed = base64.b64encode(gzip.compress(json.dumps(scripts).encode(), mtime=0)).decode()
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>BertViz</title>'
        "<style>body { margin: 8px; background: white; color: #1f2328; }</style>"
        f'<body>{body}<script type="text/plain" id="scripts">{packed}</script><script>{LOADER}</script></body></html>'
    )
