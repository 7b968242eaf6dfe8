"""The site that `make site` has built: whole, without a kernel or another host, live, searchable, for everyone.

The pages are those of build/site. Where nobody has built them the tests are skipped, and fail where GPTLIB_FETCH=must
says that they must be there, as in CI.
"""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site, below a folder as on a host that serves several."""
    if not (SITE / "index.html").exists():
        (pytest.fail if os.environ.get("GPTLIB_FETCH") == "must" else pytest.skip)("no build/site; run make site")
    serve = functools.partial(Quiet, directory=str(SITE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/site"
        server.shutdown()


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets, self.places = list[str](), set[str]()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value is not None and tag != "math":
                self.targets.append(value)
            if name in ("id", "name") and value:
                self.places.add(value)


@functools.cache
def read(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def test_every_link_inside_leads_somewhere_and_nothing_is_loaded_from_outside(site):
    pages = sorted(SITE.rglob("*.html"))
    assert len(pages) > 10
    lost = []
    for page in pages:
        for target in read(page).targets:
            url = urlparse(target)
            if url.scheme or url.netloc:
                assert url.scheme in ("https", "mailto", "data"), f"{page}: {target}"
                continue
            there = page if not url.path else (page.parent / unquote(url.path)).resolve()
            part = unquote(url.fragment) if there.suffix == ".html" else ""
            if not there.is_file() or (part and part not in read(there).places):
                lost.append(f"{page.relative_to(SITE)}: {target}")
    assert lost == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_lesson_is_alive_without_a_kernel(site, new_page, artefacts, scheme):
    page = new_page(1300, 1000, color_scheme=scheme).page
    page.goto(f"{site}/notebooks/03_attention.html")
    place = page.locator(".gl-live").first
    assert place.locator("img").count() == 1
    place.scroll_into_view_if_needed()
    page.wait_for_selector(".gl-live[data-live=yes] .gl-view")
    assert place.locator("img").count() == 0
    assert page.locator(".gl-view").first.get_attribute("data-gl-theme") == scheme
    layer = place.locator("select").first
    layer.focus()
    before = place.locator("canvas").nth(-1).evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    assert layer.input_value() == "1"
    assert place.locator("canvas").nth(-1).evaluate("canvas => canvas.toDataURL()") != before
    assert page.locator(".gl-view").inner_text().count("Layer 1, head 0") >= 1
    page.screenshot(path=artefacts / f"site_lesson_{scheme}.png")


def test_every_view_of_every_lesson_comes_to_life(site, new_page):
    lessons = [page for page in sorted((SITE / "notebooks").glob("*.html")) if "gl-live" in page.read_text("utf-8")]
    assert lessons
    for lesson in lessons:
        watched = new_page()
        said = []
        watched.page.on("console", lambda m, said=said: said.append((m.type, m.text, m.location["url"])))
        watched.page.goto(f"{site}/notebooks/{lesson.name}")
        for place in watched.page.locator(".gl-live").all():
            place.scroll_into_view_if_needed()
            place.locator(".gl-view").first.wait_for()
            assert place.get_attribute("data-live") == "yes", lesson.name
        bad = [text for kind, text, url in said if kind in ("warning", "error") and not url.endswith("/favicon.ico")]
        assert bad == [], lesson.name


def test_without_scripts_the_pictures_stay(site, new_page):
    page = new_page(java_script_enabled=False).page
    page.goto(f"{site}/notebooks/03_attention.html")
    assert page.locator(".gl-live img").first.get_attribute("alt")
    assert page.locator(".gl-view").count() == 0


def test_search_finds_a_lesson_by_what_it_says(site, new_page, artefacts):
    page = new_page().page
    page.goto(f"{site}/search.html?q=softmax")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li a[href*='notebooks/']").count() > 0
    page.screenshot(path=artefacts / "site_search.png")


def test_an_answer_is_behind_a_click(site, new_page):
    page = new_page().page
    page.goto(f"{site}/solutions/03_attention.html")
    answer = page.locator("details.hide").first
    assert not answer.evaluate("details => details.open")
    assert not answer.locator("pre").first.is_visible()
    answer.locator("summary").click()
    assert "def " in answer.locator("pre").first.inner_text()


def test_the_theme_can_be_chosen(site, new_page, artefacts):
    page = new_page(color_scheme="light").page
    page.goto(f"{site}/index.html")
    dark = "() => getComputedStyle(document.body).backgroundColor"
    first = page.evaluate(dark)
    page.locator(".theme-toggle:visible").first.click()
    assert page.evaluate(dark) != first
    page.screenshot(path=artefacts / "site_home.png")
    page.goto(f"{site}/notebooks/03_attention.html")  # the choice is kept, and a view follows it
    page.locator(".gl-live").first.scroll_into_view_if_needed()
    view = page.locator(".gl-view").first
    view.wait_for()
    chosen = view.get_attribute("data-gl-theme")
    page.evaluate("() => scrollTo(0, 0)")
    page.locator(".theme-toggle:visible").first.click()
    page.wait_for_function("was => document.querySelector('.gl-view').dataset.glTheme !== was", arg=chosen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["index", "notebooks/03_attention", "solutions/03_attention", "api/gptlib.attention", "search"]
)
def test_nothing_keeps_anybody_from_a_page(site, new_page, axe, path, scheme):
    page = new_page(color_scheme=scheme).page
    page.goto(f"{site}/{path}.html")
    for place in page.locator(".gl-live").all():
        place.scroll_into_view_if_needed()
    page.wait_for_timeout(600)
    page.evaluate(axe)
    found = page.evaluate("() => axe.run()")["violations"]
    serious = [
        f"{each['id']} ({len(each['nodes'])}): {each['nodes'][0]['html'][:160]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
