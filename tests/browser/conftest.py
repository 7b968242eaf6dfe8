"""One JupyterLab server and one Chromium for all browser tests, and a network that ends at this machine.

Settings, data and workspaces live in a temporary folder, so that nobody's own JupyterLab is touched.
"""

import base64
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
import pytest
from jupyterlab.commands import get_app_dir
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

TOKEN = "a-token-for-tests"
ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab, or a server like it."""

    url: str
    folder: Path

    def address(self, path: str) -> str:
        return f"{self.url}/{path}?token={TOKEN}"


@dataclass
class Watched:
    """A page, and all that must not happen on it."""

    page: Page
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def artefacts() -> Path:
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not Path(path).exists():
        pytest.fail(f"no Chromium at {path}: install Debian's package `chromium`, or name one by CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def _context(browser: Browser, watched: Watched, **options: Any) -> BrowserContext:
    def only_here(route: Route) -> None:
        url = urlparse(route.request.url)
        if url.hostname in (None, "127.0.0.1", "localhost"):
            route.continue_()
        else:
            watched.outside.append(route.request.url)
            route.abort()

    context = browser.new_context(**options)
    context.route("**/*", only_here)
    return context


@contextmanager
def _pages(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    opened: list[Watched] = []

    def open_one(width: int = 1200, height: int = 900, **options: Any) -> Watched:
        watched = Watched(None)  # type: ignore[arg-type]  # the page is made below, with a context that reports to this
        context = _context(chromium, watched, viewport={"width": width, "height": height}, **options)
        watched.page = context.new_page()
        watched.page.set_default_timeout(30_000)
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        opened.append(watched)
        return watched

    yield open_one
    for watched in opened:
        watched.page.context.close()
    assert [url for watched in opened for url in watched.outside] == []
    assert [error for watched in opened for error in watched.errors] == []


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """`new_page(width=1200, height=900, **context options)`; outside requests and script errors fail the test."""
    with _pages(chromium) as new:
        yield new


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with _serving(tmp_path_factory.mktemp("lab"), "jupyterlab", "LabApp") as server:
        yield server


@pytest.fixture(scope="session")
def notebook7(tmp_path_factory: pytest.TempPathFactory, packages_beside: Callable[..., Path]) -> Iterator[Lab]:
    """Notebook 7, which stands on JupyterLab's parts: 7.6 on those of 4.6, which are here. It comes by pip."""
    overlay = packages_beside("notebook==7.6.5")
    paths = os.pathsep.join(filter(None, [str(overlay), os.environ.get("PYTHONPATH")]))
    home = tmp_path_factory.mktemp("notebook7")
    app = home / "app"  # JupyterLab's files and Notebook's in one folder, as if both had been installed together
    for source in (Path(get_app_dir()), overlay / "share/jupyter/lab"):
        shutil.copytree(source, app, dirs_exist_ok=True)
    more = {"PYTHONPATH": paths, "JUPYTER_PATH": str(overlay / "share/jupyter"), "JUPYTERLAB_DIR": str(app)}
    with _serving(home, "notebook", "JupyterNotebookApp", **more) as server:
        yield server


@contextmanager
def _serving(home: Path, module: str, app: str, **more: str) -> Iterator[Lab]:
    """A Jupyter server of `python -m module` with its application class `app`; `more` joins its environment."""
    private = {name: str(home / name) for name in ("config", "data", "runtime", "settings", "workspaces", "ipython")}
    folder = home / "notebooks"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", module, "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
        *(f"--{app}.expose_app_in_browser=True", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": private["config"],
        "JUPYTER_DATA_DIR": private["data"],
        "JUPYTER_RUNTIME_DIR": private["runtime"],
        "JUPYTERLAB_SETTINGS_DIR": private["settings"],
        "JUPYTERLAB_WORKSPACES_DIR": private["workspaces"],
        "IPYTHONDIR": private["ipython"],
        "OMP_NUM_THREADS": "1",
        **more,
    }
    news = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # or a question stands over every page
    log = home / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            if _answers(f"{url}/api/status?token={TOKEN}"):
                break
            try:
                server.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"{module} ended before it answered:\n{log.read_text()[-2000:]}")
        else:
            pytest.fail(f"{module} did not answer within a minute:\n{log.read_text()[-2000:]}")
        yield Lab(url, folder)
    finally:
        server.terminate()
        server.wait(timeout=20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, watched: Watched, path: Path) -> None:
        self.watched, self.page, self.path = watched, watched.page, path

    def command(self, name: str, arguments: dict[str, Any] | None = None, timeout: float = 90_000) -> None:
        """Run one of JupyterLab's commands to its end."""
        self.page.evaluate(
            """([name, arguments]) => {
                window.commandDone = null;
                jupyterapp.commands.execute(name, arguments).then(() => { window.commandDone = "yes"; },
                                                                  (error) => { window.commandDone = String(error); });
            }""",
            [name, arguments or {}],
        )
        self.page.wait_for_function("window.commandDone !== null", timeout=timeout)
        assert self.page.evaluate("window.commandDone") == "yes"

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def cells(self) -> int:
        return int(self.page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length"))

    def outputs(self) -> list[dict[str, Any]]:
        """All outputs, as they are now in the notebook's model."""
        script = """() => jupyterapp.shell.currentWidget.content.widgets
            .filter((cell) => cell.model.type === "code").flatMap((cell) => cell.model.outputs.toJSON())"""
        outputs: list[dict[str, Any]] = self.page.evaluate(script)
        return outputs

    def saved(self) -> nbformat.NotebookNode:
        self.command("docmanager:save")
        return nbformat.read(self.path, as_version=4)

    def theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`."""
        self.command("apputils:change-theme", {"theme": name})
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def assert_no_error(self) -> None:
        assert [output for output in self.outputs() if output["output_type"] == "error"] == []
        assert "Javascript Error" not in self.page.inner_text("body")
        assert self.watched.errors == []
        assert self.watched.outside == []


@pytest.fixture(scope="module")
def open_notebook(lab: Lab, chromium: Browser) -> Iterator[Callable[..., Notebook]]:
    """`open_notebook(name, cells, width=1200, height=1300)`: cells are Python texts, or a whole notebook node.

    Notebooks stay open until the module's last test, because a kernel takes its time to start.
    """
    with _pages(chromium) as new_page:
        yield _opener(lab, new_page)


def _opener(lab: Lab, new_page: Callable[..., Watched]) -> Callable[..., Notebook]:

    def open_one(
        name: str, cells: list[str] | nbformat.NotebookNode, width: int = 1200, height: int = 1300
    ) -> Notebook:
        if isinstance(cells, list):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        else:
            notebook = cells
        path = lab.folder / f"{name}.ipynb"
        nbformat.write(notebook, path)
        watched = new_page(width, height)
        page = watched.page
        page.goto(f"{lab.url}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=60_000)
        page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000
        )
        opened = Notebook(watched, path)
        if page.evaluate("!jupyterapp.shell.leftCollapsed"):
            opened.command("application:toggle-left-area")
        return opened

    return open_one


PAGE = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><title>A view</title><style>{}</style><body><main id='view'>"
)
MOUNT = """async ([source, state]) => {
    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    for (const [name, value] of Object.entries(state)) {
        if (value?.base64 !== undefined) state[name] = bytes(value.base64);
    }
    window.sent = [];
    if (state.kernel) state.send = (request) => sent.push(request);
    window.view = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    window.state = state;
    window.handle = view.mount(document.getElementById("view"), state);
}"""


@pytest.fixture
def mounted(new_page: Callable[..., Watched]) -> Callable[..., Page]:
    """`mounted(widget, width=1200, scheme="light", kernel=True)`: the widget's module on a plain page, no notebook.

    On the page, `view` is the module, `handle` what mount returned, `sent` the requests that a kernel would have got.
    """
    from gptlib.widgets.base import View

    def mount(widget: View, width: int = 1200, scheme: str = "light", kernel: bool = True, **options: Any) -> Page:
        page: Page = new_page(width, 900, color_scheme=scheme, **options).page
        back = "body { margin: 8px; background: %s }" % ("#16181b" if scheme == "dark" else "white")
        page.set_content(PAGE.format(widget._css + back))
        names = [name for name in widget.keys if not name.startswith("_")]
        state = {name: getattr(widget, name) for name in names if name not in ("layout", "step", "tabbable", "tooltip")}
        packed = {
            name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
            for name, value in state.items()
        }
        page.evaluate(MOUNT, [widget._esm, {**packed, "kernel": kernel}])
        page.wait_for_timeout(100)
        return page

    return mount


AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, which finds what keeps people from using a page; from npm, kept in pytest's cache."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("npm") / AXE
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed, and axe-core comes from there; `apt-get install npm` brings it")
        part = folder.with_name(f"{AXE}.{os.getpid()}.part")
        part.mkdir()
        done = subprocess.run([npm, "pack", AXE], cwd=part, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            reason = f"{AXE} could not be fetched: {done.stderr.strip()[-300:]}"
            (pytest.fail if os.environ.get("GPTLIB_FETCH") == "must" else pytest.skip)(reason)
        [archive] = part.glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(part, filter="data")
        part.rename(folder)
    return (folder / "package/axe.min.js").read_text(encoding="utf-8")
