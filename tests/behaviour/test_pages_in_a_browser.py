"""Interactive maps in a real browser: text stays text, nothing runs, nothing is fetched.

The browser is a Chromium or Chrome of this machine. It is driven through a pipe by its own
protocol (https://chromedevtools.github.io/devtools-protocol), which needs no other package.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.layouts import column

from neumap import plots
from neumap.cli import main
from neumap.plots import files

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the pipes are those of POSIX"),
    pytest.mark.skipif(PROGRAM is None, reason="needs Chromium or Chrome on the PATH"),
]
SECONDS = 60.0
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root has none; the pages are the tests' own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # requests are seen and go nowhere
    "--window-size=1200,1000",
)
# The protocol is read from file descriptor 3 and written to 4.
START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One tab of a browser, and what happened in it."""

    def __init__(self, folder: Path) -> None:
        its_input, self.output = os.pipe()
        self.input, its_output = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(its_input), str(its_output)]
            + [str(PROGRAM), *OPTIONS, f"--user-data-dir={folder}"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder)},
        )
        os.close(its_input)
        os.close(its_output)
        self.rest, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Network", "Runtime"):
            self.call(f"{part}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=RECORD)

    def close(self) -> None:
        self.session = None
        self.call("Browser.close")
        self.process.wait(SECONDS)
        os.close(self.input)
        os.close(self.output)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self.send(method, **parameters)
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)
            if answer.get("method") == DIALOG:  # the page waits until it is closed
                self.send("Page.handleJavaScriptDialog", accept=False)

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") == method]

    def send(self, method: str, **parameters: Any) -> int:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        return self.number

    def receive(self) -> dict[str, Any]:
        """The next message; they end in a zero byte."""
        until = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            assert select.select([self.input], [], [], until - time.monotonic())[0], "no answer"
            received = os.read(self.input, 1 << 20)
            assert received, "the browser has ended"
            self.rest += received
        message, self.rest = self.rest.split(b"\0", 1)
        return dict(json.loads(message))

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        until = time.monotonic() + SECONDS
        while not self.value(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
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


DIALOG = "Page.javascriptDialogOpening"
OWN = ("data:", "blob:")  # addresses of what a page itself holds


def mouse(browser: Browser, kind: str, over: str, **parameters: Any) -> None:
    box = browser.value(f"{BOX}('{over}')")
    x, y = (box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **parameters)


def plain(text: str) -> str:
    """A text without the mark between signs of TeX and the colon behind a name."""
    return text.replace("\u200b", "").removesuffix(": ")


def requested(browser: Browser) -> list[str]:
    """Every address that was asked for, as the browser and as the page itself saw it."""
    sent = [event["params"]["request"]["url"] for event in browser.seen(REQUEST)]
    return sent + browser.value("performance.getEntriesByType('resource').map((e) => e.name)")


REQUEST = "Network.requestWillBeSent"
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
