"""The built site in a browser, opened from the file system: no errors, complete, narrow and interactive."""

import os
import shutil

import pytest
from helpers import ROOT

from dmmd_lite.pages.site import toc_entries

pytestmark = [pytest.mark.site, pytest.mark.slow]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
PHONE = {"width": 390, "height": 844}
LAYOUT = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    const images = [...document.querySelectorAll('img')];
    const undrawn = [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container'));
    const text = (document.querySelector('article') || document.body).cloneNode(true);
    text.querySelectorAll('pre, code, script, style, mjx-container').forEach(e => e.remove());
    return {
        width: document.documentElement.scrollWidth,
        brokenImages: images.filter(m => !m.hidden && !(m.complete && m.naturalWidth)).map(m => m.alt),
        silentImages: images.filter(m => !m.alt.trim()).length,
        undrawn: undrawn.map(m => m.textContent),
        errors: [...document.querySelectorAll('mjx-merror')].map(m => m.textContent),
        tex: text.textContent.match(/\\\\[a-zA-Z]{2,}|\\\\[\\[\\]()]|\\$\\$/g) || [],
    };
}"""


@pytest.fixture(scope="module")
def browser():
    """A headless browser that is installed on this machine; none is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        message = f"no browser found; install one of {', '.join(BROWSERS)} to run these checks"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path)
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A tab as wide as a phone. Afterwards: nothing was asked of the network, nothing is missing, and the
    console heard no warning and no error."""
    context = browser.new_context(viewport=PHONE)
    context.set_default_timeout(180_000)  # milliseconds, because speed is not tested here
    tab, trouble = context.new_page(), []
    tab.on("request", lambda r: r.url.startswith(("file:", "data:")) or trouble.append(f"asked for {r.url}"))
    tab.on("requestfailed", lambda r: trouble.append(f"missing: {r.url}"))
    tab.on("console", lambda m: m.type in ("error", "warning") and trouble.append(f"{m.type}: {m.text}"))
    tab.on("pageerror", lambda e: trouble.append(f"exception: {e}"))
    yield tab
    context.close()
    assert not trouble


@pytest.mark.parametrize("name", toc_entries(ROOT))
def test_page_loads_whole_on_a_phone(page, smoke_site, name):
    page.goto((smoke_site / f"{name}.html").as_uri())
    found = page.evaluate(LAYOUT)
    assert found.pop("width") <= PHONE["width"], "the page is wider than a phone"
    assert not any(found.values()), found


def test_pages_outside_the_table_of_contents_load_whole(page, smoke_site):
    """Index, search and the sources of modules."""
    entries = {(smoke_site / f"{name}.html") for name in toc_entries(ROOT)}
    others = {path for path in smoke_site.rglob("*.html") if "_static" not in path.parts} - entries
    start = smoke_site / "index.html"
    assert {start, smoke_site / "genindex.html", smoke_site / "search.html"} <= others
    assert any("_modules" in path.parts for path in others)
    trouble = {}
    for path in sorted(others - {start}):
        page.goto(path.as_uri())
        found = page.evaluate(LAYOUT)
        if found.pop("width") > PHONE["width"] or any(found.values()):
            trouble[path.name] = found
    assert not trouble
    page.goto(start.as_uri())
    page.wait_for_url(f"**/{toc_entries(ROOT)[0]}.html")


def test_search_finds_temperature(page, smoke_site):
    page.goto((smoke_site / "search.html").as_uri() + "?q=temperature")
    results = page.locator("#search-results ul.search li")
    results.first.wait_for()
    assert "book/fig4_sampling_temperature.html" in " ".join(
        link.get_attribute("href") for link in page.locator("#search-results ul.search a").all()
    )


def test_a_filmstrip_moves_with_the_keyboard(page, smoke_site):
    page.goto((smoke_site / "book" / "fig4_sampling_temperature.html").as_uri())
    strip = page.locator("figure.filmstrip").first
    slider, output = page.get_by_role("slider", name="temperature").first, strip.locator("output")
    values = slider.get_attribute("data-names").split("|")
    frames = [strip.locator(".frame").nth(k) for k in range(len(values))]
    assert len(values) > 1 and frames[-1].is_visible(), "a strip begins with its last frame"

    def check(k):
        assert [frame.is_visible() for frame in frames] == [j == k for j in range(len(values))]
        assert output.text_content() == slider.get_attribute("aria-valuetext") == values[k]
        assert frames[k].locator("img").first.get_attribute("alt")

    slider.focus()
    for key, k in (("Home", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("End", len(values) - 1)):
        page.keyboard.press(key)
        check(k)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_and_tables_can_be_read_in_both_themes(page, smoke_site, theme):
    """Figures are drawn for white paper, which is dimmed in the dark; text stands out from its background."""
    page.emulate_media(color_scheme=theme)
    page.goto((smoke_site / "book" / "fig4_sampling_temperature.html").as_uri())
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).filter]"
    background, filtered = page.locator(".cell_output img").first.evaluate(style)
    if theme == "dark":
        assert background == "rgb(255, 255, 255)" and filtered.startswith("brightness(0.")
    else:
        assert filtered == "none"
    for words in ("article p", "table.dataframe td"):
        assert contrast(page, words) > 4.5


COLOURS = """e => {
    const ink = getComputedStyle(e).color, clear = /, 0\\)$|transparent/;
    while (e.parentElement && clear.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
    const paper = getComputedStyle(e).backgroundColor;
    return [ink, paper].map(colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number));
}"""


def contrast(page, selector: str) -> float:
    """Contrast ratio (WCAG 2) between an element's text and the first opaque background behind it."""

    def luminance(rgb):
        parts = [v / 255 for v in rgb]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, page.locator(selector).first.evaluate(COLOURS)))
    return (high + 0.05) / (low + 0.05)
