"""Interactive maps in a real browser: text stays text, nothing runs, nothing is fetched."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.layouts import column
from chromium import DIALOG, MARKS, OWN, Browser, requested

from neumap import plots
from neumap.cli import main
from neumap.plots import files

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"), RECORD)
    yield opened
    opened.close()


# Texts that are drawn on a canvas, as bokeh draws the title of a colour bar.
RECORD = """
window.drawn = [];
const before = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  window.drawn.push(String(text));
  return before.call(this, text, ...rest);
};
"""
# All other text, by the part of the map, through the shadow roots that bokeh makes.
TEXTS = """(() => {
  const found = { Legend: [], Tooltip: [], drawn: window.drawn };
  const read = (node, part) => {
    const inside = ["Legend", "Tooltip"].find((name) => node.classList?.contains(`bk-${name}`));
    for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) {
      if (child.nodeType === Node.TEXT_NODE) found[inside ?? part]?.push(child.data);
      else if (child.nodeName !== "STYLE") read(child, inside ?? part);
    }
  };
  read(document.body);
  return found;
})()"""
# Where the first element with a class is.
BOX = """((name) => {
  const find = (node) => {
    if (node.classList?.contains(name)) return node;
    for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) {
      const found = find(child);
      if (found) return found;
    }
  };
  return document.body && find(document.body)?.getBoundingClientRect().toJSON();
})"""


@dataclass(frozen=True)
class Visit:
    """What a page showed and did."""

    title: str
    texts: dict[str, set[str]]
    ran: Any
    dialogs: list[str]
    requests: list[str]

    @property
    def is_quiet(self) -> bool:
        return self.ran is None and not self.dialogs and not self.requests


def visit(browser: Browser, page: Path, typed: str = "") -> Visit:
    """Open maps whose points lie on each other; write into the first field, hover over points."""
    browser.events.clear()
    browser.call("Page.navigate", url=page.as_uri())
    acts = "window.ran !== undefined"
    browser.wait(f"{acts} || {BOX}('bk-CartesianFrame')?.width > 100")
    if not browser.value(acts):
        use(browser, typed)
    time.sleep(0.3)  # an image has to be missed before its script runs
    texts = browser.value(TEXTS)
    return Visit(
        title=browser.value("document.title"),
        texts={part: {plain(text) for text in found} for part, found in texts.items()},
        ran=browser.value("window.ran"),
        dialogs=[event["params"]["message"] for event in browser.seen(DIALOG)],
        requests=[url for url in requested(browser) if not url.startswith((page.as_uri(), *OWN))],
    )


def use(browser: Browser, typed: str) -> None:
    if typed:
        for kind in ("mousePressed", "mouseReleased"):
            mouse(browser, kind, "bk-input", button="left", clickCount=1)
        browser.call("Input.insertText", text=typed)
    mouse(browser, "mouseMoved", "bk-CartesianFrame")
    browser.wait(f"{BOX}('bk-Tooltip')?.height > 0")


def mouse(browser: Browser, kind: str, over: str, **parameters: Any) -> None:
    box = browser.value(f"{BOX}('{over}')")
    x, y = (box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **parameters)


def plain(text: str) -> str:
    """A text without the mark between signs of TeX and the colon behind a name."""
    return text.replace("\u200b", "").removesuffix(": ")


RUN = "window.ran=1"
HOSTILE = [
    f'<img src=x onerror="{RUN}">',
    f"@label{{safe}}<img src=x onerror={RUN}>",
    f"label}}{{safe}}<img src=x onerror={RUN}>",
    f"</script><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"<svg onload={RUN}>",
    f'" onmousemove="{RUN}',
    f"' onmousemove='{RUN}'",
    f'<a href="javascript:{RUN}">x</a>',
    '<iframe srcdoc="<script>parent.ran=1</script>">',
    "<script>alert(1)</script>",
    "<img src=http://evil.example/x.png>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "$$x^2$$",
    r"\(x^2\)",
    "{{ 7 * 7 }}",
    "${window.ran=1}",
    "<!--",
    "&lt;b&gt;",
    "\u2028window.ran=1",
]
NAME = f"<img src=x onerror={RUN}> & \"'.html"  # a name of a file has no slash
ONE_PLACE = np.zeros((len(HOSTILE), 2))
LOOK = {"width": 600, "height": 300, "point_size": 150}


def columns() -> dict[str, list[str]]:
    """A column for each hostile name, with all hostile texts in its rows."""
    return {name: HOSTILE[at:] + HOSTILE[:at] for at, name in enumerate(HOSTILE)}


def labelled() -> Iterator[Any]:
    """A map with every hostile text as label and column, and a few as titles of a legend."""
    for title in HOSTILE[:3]:
        labels = pd.Series(HOSTILE, name=title)
        yield plots.interactive(
            ONE_PLACE, labels=labels, hover_data=columns(), interactive_text_search=True, **LOOK
        )


def valued() -> Iterator[Any]:
    """Maps with every hostile text as the title of a colour bar."""
    for title in HOSTILE:
        values = pd.Series(np.arange(len(HOSTILE)), name=title)
        yield plots.interactive(ONE_PLACE, values=values, **LOOK)


def page_of(maps: Iterator[Any], folder: Path) -> Path:
    return plots.save(column(*maps), folder / NAME)


def test_hostile_texts_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    found = visit(browser, page_of(labelled(), tmp_path), typed=HOSTILE[0])
    assert found.is_quiet, found
    assert found.title == NAME.removesuffix(".html")
    assert found.texts["Legend"] >= set(HOSTILE)
    assert found.texts["Tooltip"] >= set(HOSTILE)


def test_hostile_titles_of_colour_bars_are_shown_as_they_are(
    browser: Browser, tmp_path: Path
) -> None:
    found = visit(browser, page_of(valued(), tmp_path))
    assert found.is_quiet, found
    assert found.texts["drawn"] >= set(HOSTILE)


def test_a_page_of_the_command_is_as_quiet(browser: Browser, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.zeros(4), "y": np.zeros(4), HOSTILE[1]: HOSTILE[:4]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    page = tmp_path / NAME
    line = ["plot", str(tmp_path / "rows.csv"), "-o", str(page), "--label-column", HOSTILE[1]]
    assert main(line) == 0
    found = visit(browser, page)
    assert found.is_quiet, found
    assert found.texts["Legend"] >= {HOSTILE[1], *HOSTILE[:4]}
    assert found.texts["Tooltip"] >= set(HOSTILE[:4])


# Each escape taken away in turn.
Damage = Callable[[pytest.MonkeyPatch], None]


def with_names_in_tooltips(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("neumap.plots.html.PLAIN_NAME", re.compile(".*", re.DOTALL))


def with_the_title_as_it_is(patch: pytest.MonkeyPatch) -> None:
    in_each_page(patch, lambda page, title: re.sub("<title>.*?</title>", lambda _: title, page))


def with_scripts_that_end_early(patch: pytest.MonkeyPatch) -> None:
    in_each_page(patch, lambda page, _: page.replace("&lt;", "<").replace("&gt;", ">"))


def with_a_library_from_elsewhere(patch: pytest.MonkeyPatch) -> None:
    in_each_page(patch, lambda page, _: page + "<script src=http://cdn.example/more.js></script>")


def in_each_page(patch: pytest.MonkeyPatch, change: Callable[[str, str], str]) -> None:
    write = files._html_page
    patch.setattr(files, "_html_page", lambda plot, title: change(write(plot, title), title))


@pytest.mark.parametrize(
    "damage",
    [
        with_names_in_tooltips,
        with_the_title_as_it_is,
        with_scripts_that_end_early,
        with_a_library_from_elsewhere,
    ],
)
def test_a_page_in_which_text_acts_is_noticed(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    damage(monkeypatch)
    assert not visit(browser, page_of(labelled(), tmp_path)).is_quiet


def test_a_formula_instead_of_a_title_is_noticed(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neumap.plots.html._without_tex", str)
    drawn = visit(browser, page_of(valued(), tmp_path)).texts["drawn"]
    assert not drawn >= {"$$x^2$$", r"\(x^2\)"}
