"""The pages in a browser, wide and narrow: nothing complains, every picture is there, nothing sticks out."""

from __future__ import annotations

import pytest
from made_results import load_image, made, noisy

from flows.benchmark import page
from flows.benchmark.comparing import compare
from flows.benchmark.tables import Figures

pytestmark = pytest.mark.browser
GAINS = {
    "one-shot": 0.0,
    "best-of-n": 0.1,
    "rewriting": 0.1,
    "regeneration": 0.3,
    "regeneration-inpainting": 0.3,
    "oracle": 0.4,
}
LONG = "a very long prompt of one word: " + "antidisestablishmentarianism" * 12


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """Addresses of a benchmark's page and of a comparison's."""
    folder = tmp_path_factory.mktemp("pages")
    texts = [LONG, *(f"gray wall number {p}" for p in range(39))]
    first, second = (made(noisy(40, GAINS, seed=seed), texts=texts) for seed in (0, 1))
    written = {
        "benchmark": page.render(Figures.of(first), load_image),
        "comparison": page.render_comparison(compare(first, second), "first", "second"),
    }
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in written}


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(("name", "pictures"), [("benchmark", 5 * 3 * 2), ("comparison", 0)])
def test_a_page_is_readable(chromium, pages, name, pictures, width) -> None:
    tab = chromium.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if not local(request.url) else None)
    tab.goto(pages[name])
    tab.wait_for_load_state("load")
    tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    loaded = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(loaded) == pictures and all(loaded)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert not tab.evaluate(OUTSIDE), "text that no scroll bar leads to"
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('p, td, th, h1, h2, h3, figcaption')]"
        ".map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 12
    assert not said
    tab.close()


OUTSIDE = """[...document.querySelectorAll('h1, h2, h3, p, li, figcaption, summary')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.textContent)"""


def local(address: str) -> bool:
    """Whether a page may ask for it: itself, and what it carries."""
    return address.startswith(("file:", "data:"))
