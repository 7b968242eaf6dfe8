"""How long a change takes to show in each live view, in Chromium, at the sizes that a course needs.

    python benchmarks/views.py [--changes 60] [--against FOLDER] [--json FILE]

In every view a control is moved so many times by real keys or a real pointer, at uneven distances. For each move
Chromium's own trace says when the event came into being and when the frame that shows its change was presented. That
time has to stay within 16 ms: its median and 95th percentile are given. Beside them stand the time of the page's main
thread that one change takes (script, style, layout, paint) and, as the floor of the measurement, the median for a
change of nothing but the colour of one pixel on the same page: what the browser needs for any event, the wait for the
next frame included. Other programs on the machine lengthen all of it.

With --against, the scripts and style sheets of another folder (such as gptlib/widgets/static of an older checkout) are
measured in turn with these, in the same run.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, Page, sync_playwright

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig
from gptlib.widgets import AttentionSteps, AttentionViewer, PositionExplorer, SamplingLab, TokenizerView
from gptlib.widgets import base as room
from gptlib.widgets.base import View, view_module, view_style

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
    const pixel = document.getElementById("pixel");
    let flips = 0;
    pixel.onkeydown = () => { pixel.style.background = flips++ % 2 ? "black" : "white"; };
}"""
PAGE = """<meta charset='utf-8'><style>%s</style>
<div id='pixel' tabindex='0' style='position: fixed; top: 0; left: 0; width: 1px; height: 1px; outline: 0'></div>
<main id='view'></main>"""


@dataclass(frozen=True)
class Case:
    """A view at a size, and what is done to it: `keys` one after another, or the pointer led over it."""

    name: str
    view: View
    module: str
    selector: str
    which: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one change."""

    name: str
    thread: float
    median: float
    p95: float
    floor: float


def gpt(vocab_size: int, *, n_layer: int = 2, n_head: int = 4, head_dim: int = 8, n_positions: int = 128) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=vocab_size, n_positions=n_positions, n_embd=head_dim * n_head, n_layer=n_layer, n_head=n_head
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
    steps = AttentionSteps(gpt(letters.vocab_size, head_dim=32), letters, text[:48])
    bpe = BPETokenizer.train(SENTENCE * 50 + LETTERS * 9, 400)
    tokenizers = {"letters": letters, "bytes": BPETokenizer.train(LETTERS, 257), "pairs": bpe}
    long = TokenizerView((SENTENCE * 60)[:2000], tokenizers)
    left, up = ("ArrowLeft",) * 9 + ("ArrowRight",) * 9, ("ArrowUp",) * 9 + ("ArrowDown",) * 9
    big = "attention viewer, 30 × 9 heads × 128 tokens"
    return [
        Case(f"{big}: cursor", viewer, "attention_viewer", "canvas.gl-map", 0, up),
        Case(f"{big}: pointer", viewer, "attention_viewer", "canvas.gl-map", 0, ()),
        Case(
            f"{big}: another head", viewer, "attention_viewer", "canvas.gl-map", 0, ("PageDown",) * 9 + ("PageUp",) * 9
        ),
        Case("sampling lab, 50,257 tokens: temperature", lab, "sampling_lab", "input[type=range]", 0, left),
        Case("sampling lab, 50,257 tokens: top-p", lab, "sampling_lab", "input[type=range]", 2, left),
        Case("sampling lab, 50,257 tokens: penalty", lab, "sampling_lab", "input[type=range]", 4, left[9:] + left[:9]),
        Case("attention steps, 48 tokens, width 32: query", steps, "attention_steps", "input[type=range]", 0, left),
        Case(
            "attention steps, 48 tokens, width 32: a step off and on",
            steps,
            "attention_steps",
            "input[type=checkbox]",
            2,
            ("Space",),
        ),
        Case(
            "tokenizer view, 2,000 characters, three tokenizers: typing",
            long,
            "tokenizer_view",
            "textarea",
            0,
            tuple("abcde "),
        ),
        Case(
            "position explorer: first slider",
            PositionExplorer(),
            "position_explorer",
            "input[type=range]",
            0,
            left[9:] + left[:9],
        ),
    ]


def opened(page: Page, case: Case, source: str, style: str) -> None:
    page.set_content(PAGE % style)
    names = [name for name in case.view.keys if not name.startswith("_")]
    skipped = ("layout", "step", "tabbable", "tooltip")
    state: dict[str, Any] = {name: getattr(case.view, name) for name in names if name not in skipped}
    packed = {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in state.items()
    }
    page.evaluate(MOUNT, [source, packed])
    page.wait_for_timeout(2500)  # thumbnails are drawn a few in a frame


def pauses(changes: int) -> list[float]:
    drawn = random.Random(0)
    return [drawn.uniform(40, 75) for _ in range(changes)]  # another moment of the screen's 16.7 ms each time


def moved(page: Page, case: Case, changes: int) -> None:
    node = page.locator(case.selector).nth(case.which)
    box = node.bounding_box()
    assert box is not None
    node.focus()
    if not case.keys:
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8)
    for i, pause in enumerate(pauses(changes)):
        if case.keys:
            page.keyboard.press(case.keys[i % len(case.keys)])
        else:
            page.mouse.move(box["x"] + box["width"] * (0.2 + 0.6 * ((i * 7) % 60) / 60), box["y"] + box["height"] * 0.9)
        page.wait_for_timeout(pause)


def flipped(page: Page, changes: int) -> None:
    page.locator("#pixel").focus()
    for pause in pauses(changes):
        page.keyboard.press("F9")
        page.wait_for_timeout(pause)


def latencies(browser: Browser, page: Page, act: Callable[[], None]) -> list[float]:
    """Milliseconds from event to presented frame, of every event of `act` that led to a frame."""
    browser.start_tracing(page=page, categories=["-*", "cc", "benchmark", "input"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    begun: dict[str, list[dict[str, Any]]] = defaultdict(list)
    times = []
    for event in sorted((e for e in events if e["ph"] in "be" and "input" in e.get("cat", "")), key=lambda e: e["ts"]):
        stack = begun[f"{event['pid']} {event.get('id2')}"]
        if event["ph"] == "b":
            stack.append(event)
        elif stack:
            start = stack.pop()
            if "surface_frame_trace_id" in start.get("args", {}).get("event_latency", {}):  # it led to a frame
                times.append((event["ts"] - start["ts"]) / 1000)
    return times


def measured(browser: Browser, case: Case, source: str, style: str, changes: int) -> Timing:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    opened(page, case, source, style)
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

    moved(page, case, 20)  # compiled and warm
    before = spent()
    moved(page, case, changes)
    thread = 1000 * (spent() - before) / changes
    times = sorted(latencies(browser, page, lambda: moved(page, case, changes)))
    floor = latencies(browser, page, lambda: flipped(page, changes))
    page.close()
    assert len(times) > 0.8 * changes, f"{case.name}: {len(times)} of {changes} moves led to a frame"
    return Timing(
        case.name, thread, statistics.median(times), times[int(0.95 * (len(times) - 1))], statistics.median(floor)
    )


def parts(case: Case, folder: Path | None) -> tuple[str, str]:
    """The view's script and style sheet, from another folder if one is named."""
    own = room.STATIC
    if folder:
        room.STATIC = folder
    try:
        sheets = [case.module] if (room.STATIC / f"{case.module}.css").exists() else []
        return view_module(case.module), view_style(*sheets)
    finally:
        room.STATIC = own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=60, help="of each control (default 60)")
    parser.add_argument("--only", default="", help="views whose line contains this")
    parser.add_argument("--against", type=Path, help="another folder of scripts and style sheets, measured in turn")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    arguments = parser.parse_args()
    timings = []
    folders = [*([arguments.against] if arguments.against else []), None]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        print(f"{'a change of':<62}{'thread':>8}{'median':>8}{'p95':>8}{'floor':>8}  ms")
        for case in cases():
            if arguments.only not in case.name:
                continue
            for folder in folders:
                timing = measured(browser, case, *parts(case, folder), arguments.changes)
                timings.append(asdict(timing) | {"folder": str(folder or room.STATIC)})
                name = f"  in {folder}"[:60] if folder else timing.name
                over = "  over the aim" if timing.median > AIM else ""
                print(
                    f"{name:<62}{timing.thread:>8.1f}{timing.median:>8.1f}{timing.p95:>8.1f}{timing.floor:>8.1f}{over}"
                )
        browser.close()
    if arguments.json:
        arguments.json.write_text(json.dumps(timings, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
