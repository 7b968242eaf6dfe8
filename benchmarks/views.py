"""How long a change takes to show in each live view, in Chromium, at the sizes that a course needs.

    python benchmarks/views.py [--changes 60] [--json FILE]

For every view a key or a pointer moves a control so many times. Three numbers each, in milliseconds: the time of the
page's main thread that one change takes (script, style, layout, paint), and median and 95th percentile of the time from
the event to the frame that shows it, which other programs on the machine lengthen. The aim is 16.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Page, sync_playwright

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig
from gptlib.widgets import AttentionSteps, AttentionViewer, SamplingLab, TokenizerView
from gptlib.widgets.base import View

AIM = 16.0
LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
SENTENCE = "the cat sat on the mat and saw a bird. "
MOUNT = """async ([source, state]) => {
    for (const [name, value] of Object.entries(state)) {
        if (value?.base64 !== undefined) state[name] = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
    }
    state.send = () => {};
    const view = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    view.mount(document.getElementById("view"), state);
}"""
CHANGES = """async ([selector, kind, n]) => {
    const node = document.querySelectorAll(selector[0])[selector[1]];
    const box = node.getBoundingClientRect();
    const shown = () => new Promise((done) => requestAnimationFrame(() => {
        const channel = new MessageChannel(); // its message comes after the frame was painted
        channel.port1.onmessage = () => done(performance.now());
        channel.port2.postMessage(0);
    }));
    const times = [];
    for (let i = 0; i < n; i++) {
        const [x, y] = [box.left + box.width * (0.2 + 0.6 * ((i * 7) % n) / n), box.top + box.height * 0.9];
        const start = performance.now();
        if (kind === "slide") { node.value = 3 + (i % 40); node.dispatchEvent(new Event("input")); }
        if (kind === "type") { node.value += "abcde "[i % 6]; node.dispatchEvent(new Event("input")); }
        if (kind === "click") node.click();
        if (kind === "key") node.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowDown" : "ArrowUp" }));
        const at = { clientX: x, clientY: y, bubbles: true };
        if (kind === "hover") node.dispatchEvent(new PointerEvent("pointermove", at));
        times.push(await shown() - start);
        await shown();
    }
    return times;
}"""


@dataclass(frozen=True)
class Case:
    """A view at a size, and the control that is moved."""

    name: str
    make: Callable[[], View]
    selector: str
    which: int
    kind: str


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one change."""

    name: str
    thread: float
    median: float
    p95: float


def gpt(vocab_size: int, *, n_layer: int = 2, n_head: int = 4, n_positions: int = 128) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=vocab_size, n_positions=n_positions, n_embd=8 * n_head, n_layer=n_layer, n_head=n_head
    )
    model = GPT(config)
    for parameter in model.parameters():
        parameter.data.mul_(5)  # an untrained model attends evenly
    return model.eval()


def cases() -> list[Case]:
    letters = CharTokenizer.train(LETTERS)
    text = (SENTENCE * 4)[:128]
    viewer = AttentionViewer(gpt(letters.vocab_size, n_layer=30, n_head=9), letters, text)
    lab = SamplingLab(gpt(50_257), letters, "the cat")
    steps = AttentionSteps(gpt(letters.vocab_size), letters, text[:48])
    bpe = BPETokenizer.train(SENTENCE * 50 + LETTERS * 9, 400)
    tokenizers = {"letters": letters, "bytes": BPETokenizer.train(LETTERS, 257), "pairs": bpe}
    long = TokenizerView((SENTENCE * 60)[:2000], tokenizers)
    return [
        Case("attention viewer, 30 × 9 heads × 128 tokens: cursor", lambda: viewer, "canvas.gl-map", 0, "key"),
        Case("attention viewer, 30 × 9 heads × 128 tokens: pointer", lambda: viewer, "canvas.gl-map", 0, "hover"),
        Case("sampling lab, 50,257 tokens: temperature", lambda: lab, "input[type=range]", 0, "slide"),
        Case("sampling lab, 50,257 tokens: top-p", lambda: lab, "input[type=range]", 2, "slide"),
        Case("sampling lab, 50,257 tokens: penalty", lambda: lab, "input[type=range]", 4, "slide"),
        Case("attention steps, 48 tokens: query", lambda: steps, "input[type=range]", 0, "slide"),
        Case("attention steps, 48 tokens: a step off and on", lambda: steps, "input[type=checkbox]", 2, "click"),
        Case("tokenizer view, 2,000 characters, three tokenizers: typing", lambda: long, "textarea", 0, "type"),
    ]


def opened(page: Page, view: View) -> None:
    page.set_content(f"<meta charset='utf-8'><style>{view._css}</style><main id='view'></main>")
    names = [name for name in view.keys if not name.startswith("_")]
    skipped = ("layout", "step", "tabbable", "tooltip")
    state: dict[str, Any] = {name: getattr(view, name) for name in names if name not in skipped}
    packed = {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in state.items()
    }
    page.evaluate(MOUNT, [view._esm, packed])
    page.wait_for_timeout(2500)  # thumbnails are drawn a few in a frame


def measured(page: Page, case: Case, changes: int) -> Timing:
    opened(page, case.make())
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

    arguments = [[case.selector, case.which], case.kind, changes]
    page.evaluate(CHANGES, [*arguments[:2], 20])  # compiled and warm
    before = spent()
    times = sorted(page.evaluate(CHANGES, arguments))
    thread = 1000 * (spent() - before) / changes
    return Timing(case.name, thread, statistics.median(times), times[int(0.95 * (len(times) - 1))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=60, help="of each control (default 60)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    arguments = parser.parse_args()
    timings = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        print(f"{'a change of':<62}{'thread':>8}{'median':>8}{'p95':>8}  ms")
        for case in cases():
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            timing = measured(page, case, arguments.changes)
            page.close()
            timings.append(timing)
            over = "  over the aim" if timing.thread > AIM else ""
            print(f"{timing.name:<62}{timing.thread:>8.1f}{timing.median:>8.1f}{timing.p95:>8.1f}{over}")
        browser.close()
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
