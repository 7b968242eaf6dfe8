"""A class on one machine: log in, open a lesson, check an exercise, hand in, be graded, get it back.

JupyterHub and its proxy run on this machine's own addresses, as `classroom/jupyterhub_config.py` sets them up for a
trial. Both come from their package indexes: `pip install -e ".[class]"` and `npm install configurable-http-proxy`.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptlib.grading import sandbox

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PROXY = "configurable-http-proxy@5.3.0"
PASSWORD = "a password for a trial"


def missing(reason: str) -> None:
    (pytest.fail if os.environ.get("GPTLIB_FETCH") == "must" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def proxy(pytestconfig: pytest.Config) -> str:
    npm = shutil.which("npm")
    if npm is None:
        missing("npm is not installed, and configurable-http-proxy comes from there")
    folder = pytestconfig.cache.mkdir("npm") / PROXY
    if not folder.exists():
        done = subprocess.run(
            [npm, "install", "--silent", "--prefix", str(folder), PROXY], capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            missing(f"{PROXY} could not be fetched: {done.stderr[-300:]}")
    return str(folder / "node_modules/.bin/configurable-http-proxy")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture(scope="module")
def hub(proxy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The hub's address and its folder."""
    if importlib.util.find_spec("jupyterhub") is None:
        missing('JupyterHub is not installed; pip install -e ".[class]"')
    folder, port, api, inner = tmp_path_factory.mktemp("class"), free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "CLASSROOM_TRIAL": PASSWORD,
        "CLASSROOM_FOLDER": str(folder),
        "CLASSROOM_URL": f"http://127.0.0.1:{port}",
        "CLASSROOM_PROXY": proxy,
    }
    command = [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "classroom/jupyterhub_config.py")]
    command += [f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{api}", f"--JupyterHub.hub_port={inner}"]
    log = folder / "hub.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/hub/login", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text(encoding="utf-8")[-3000:])
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()  # the hub ends the servers and the proxy that it has started
        process.wait(60)


def log_in(page, address: str, name: str) -> None:
    page.goto(f"{address}/hub/login")
    page.get_by_label("Username:").fill(name)
    page.get_by_label("Password:").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=120_000)


def type_in_terminal(page, line: str) -> None:
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+L")
    page.locator(".jp-LauncherCard[title*='terminal']").click()
    page.wait_for_selector(".jp-Terminal .xterm")
    page.wait_for_timeout(2500)
    page.locator(".jp-Terminal .xterm-helper-textarea").last.focus()
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def wait_for(path: Path) -> None:
    for _ in range(120):
        if path.exists():
            return
        time.sleep(0.5)
    pytest.fail(f"{path} did not come")


def test_from_logging_in_to_the_page_that_comes_back(hub, new_page, artefacts, tmp_path):
    address, folder = hub
    if sandbox.problem():
        pytest.skip(sandbox.problem())
    page = new_page(1300, 900).page
    log_in(page, address, "ada")
    page.get_by_role("heading", name="Ten minutes with a GPT").wait_for(timeout=60_000)
    home = folder / "home/ada/inside-gpt"
    page.screenshot(path=artefacts / "class_lesson.png")

    # Ada answers one exercise, and checks it where she wrote it.
    mine = home / "exercises/00_welcome.ipynb"
    notebook = json.loads(mine.read_text(encoding="utf-8"))
    [cell] = [c for c in notebook["cells"] if c["metadata"].get("gptlib", {}).get("role") == "answer"]
    cell["source"] = "def shift_by_one(ids):\n    return ids[:-1], ids[1:]\n"
    mine.write_text(json.dumps(notebook), encoding="utf-8")
    page.goto(f"{address}/user/ada/lab/tree/exercises/00_welcome.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.wait_for_timeout(3000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").first.click()
    page.get_by_text("Agrees with the reference").first.wait_for(timeout=120_000)
    page.screenshot(path=artefacts / "class_check.png")

    type_in_terminal(page, "gptlib hand-in ~/inside-gpt/exercises/00_welcome.ipynb")
    page.wait_for_timeout(5000)
    page.screenshot(path=artefacts / "class_hand_in.png")
    wait_for(folder / "exchange/inbox/ada/00_welcome.ipynb")

    # The instructor.
    gptlib = str(Path(sys.executable).with_name("gptlib"))
    for arguments in (
        ("grade", str(folder / "exchange/inbox"), "--out", str(tmp_path / "report")),
        ("hand-back", str(tmp_path / "report"), "--exchange", str(folder / "exchange")),
    ):
        done = subprocess.run([gptlib, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
    [entry] = json.loads((tmp_path / "report/grades.json").read_text(encoding="utf-8"))
    assert entry["score"] == entry["max_score"] > 0

    # Ada reads it.
    page.goto(f"{address}/user/ada/lab/tree/feedback/00_welcome.html?reset")
    shown = page.frame_locator(".jp-HTMLViewer iframe")
    shown.get_by_text("shift_by_one").first.wait_for(timeout=60_000)
    page.screenshot(path=artefacts / "class_back.png")


def test_nothing_of_a_learners_is_overwritten_at_the_next_start(hub, new_page):
    address, folder = hub
    home = folder / "home/ben/inside-gpt/notebooks"
    home.mkdir(parents=True)
    (home / "00_welcome.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Mine"}],
                    "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8",
    )  # fmt: skip
    page = new_page().page
    log_in(page, address, "ben")
    page.get_by_role("heading", name="Mine").wait_for()
    assert len(list(home.glob("*.ipynb"))) == len(list((ROOT / "notebooks").glob("*.ipynb")))


def test_a_wrong_password_opens_nothing(hub, new_page):
    address, _ = hub
    page = new_page().page
    page.goto(f"{address}/hub/login")
    page.get_by_label("Username:").fill("eve")
    page.get_by_label("Password:").fill("guessed")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Invalid username or password").wait_for()
