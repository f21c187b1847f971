"""The built site: complete, readable without a network, and without paths of the machine that built it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import ROOT

from dmmd_lite.pages.site import MAX_PAGE_BYTES, MAX_SITE_BYTES, toc_entries, toc_pages

pytestmark = [pytest.mark.site, pytest.mark.slow]

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADED = {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}
TEX = re.compile(r"\\[a-zA-Z]{2,}|\\[\[\]()]|\$\$|\$(?!DMMD_)[^$]+\$")  # $DMMD_... is a variable


class Page(HTMLParser):
    """One HTML file: its elements, its anchors, and the text that a reader sees outside code and formulas."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.elements, self.text, self._open = path, [], [], []
        self.feed(path.read_text())
        self.anchors = {value for _, attrs in self.elements for key, value in attrs.items() if key == "id"}

    def handle_starttag(self, tag, attrs):
        attrs = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attrs))
        if tag not in VOID:
            skipped = tag in ("script", "style", "pre", "code") or "math" in attrs.get("class", "").split()
            self._open.append((tag, skipped))

    def handle_endtag(self, tag):
        while any(name == tag for name, _ in self._open) and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if not any(skipped for _, skipped in self._open):
            self.text.append(data)

    def references(self):
        """(tag, attributes, address) of every href and src that is not inline data."""
        for tag, attrs in self.elements:
            for key in ("src", "href"):
                if key in attrs and not attrs[key].startswith(("data:", "mailto:")):
                    yield tag, attrs, attrs[key]


@pytest.fixture(scope="module")
def html(smoke_site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(smoke_site.rglob("*.html")) if "_static" not in path.parts}


def test_every_page_of_the_table_of_contents_is_built(smoke_site):
    for name in toc_entries(ROOT):
        assert (smoke_site / f"{name}.html").is_file()
    assert (smoke_site / "index.html").is_file()


def test_the_site_is_small(smoke_site):
    sizes = {path: path.stat().st_size for path in smoke_site.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= MAX_SITE_BYTES == 60_000_000
    assert max(size for path, size in sizes.items() if path.suffix == ".html") <= MAX_PAGE_BYTES == 4_000_000


def test_every_page_ends_with_its_footer(html, smoke_site):
    for source in toc_pages(ROOT):
        page = html[(smoke_site / source).with_suffix(".html")]
        assert "how-this-page-was-made" in page.anchors
        assert any("_modules/dmmd_lite/" in address for _, _, address in page.references())


def test_every_committed_record_lies_on_the_site(smoke_site):
    for path in (ROOT / "data" / "results").glob("*.json"):
        assert (smoke_site / "data" / "results" / path.name).read_bytes() == path.read_bytes()


def test_equations_have_the_papers_numbers(html, smoke_site):
    text = (smoke_site / "book" / "theory.html").read_text()
    for number in range(6, 13):
        assert f"eq-{number}" in html[smoke_site / "book" / "theory.html"].anchors
        assert f"\\tag{{{number}}}" in text


def test_local_references_exist(html):
    broken = []
    for page in html.values():
        for _, _, address in page.references():
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            anchor = parts.fragment in html[target].anchors if target in html and parts.fragment else True
            if not target.exists() or not anchor:
                broken.append(f"{page.path.name}: {address}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(html, smoke_site):
    external = []
    for page in html.values():
        for tag, attrs, address in page.references():
            loads = tag in LOADED or (tag == "link" and attrs.get("rel") != "canonical")
            if loads and urlsplit(address).netloc:
                external.append(f"{page.path.name}: <{tag}> {address}")
    for sheet in smoke_site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", sheet.read_text())
        external += [f"{sheet.name}: {address}" for address in found]
    assert not external


def test_no_formula_is_left_as_tex(html):
    raw = [(page.path.name, text) for page in html.values() for text in page.text if TEX.search(text)]
    assert not raw


def test_every_image_has_alternative_text(html):
    """The alternative text is not the image's address, which a figure without a text gets."""
    images = [(name, attrs) for name, page in html.items() for tag, attrs in page.elements if tag == "img"]
    texts = [(name.name, attrs.get("alt", "").strip(), attrs.get("src", "")) for name, attrs in images]
    assert not [(name, src[:60]) for name, alt, src in texts if not alt or alt == src]


def test_the_site_does_not_name_the_machine(smoke_site):
    files = [path for path in smoke_site.rglob("*") if path.is_file() and "_static" not in path.parts]
    for path in files:
        text = path.read_bytes().decode(errors="ignore")
        for folder in (str(ROOT), f"{Path.home()}/"):
            assert folder not in text, f"{path.name} names a folder of this machine"
