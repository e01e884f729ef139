"""The explorer in a real browser: rows land and points decode as in Python, nothing is fetched."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import DIALOG, MARKS, OWN, Browser, requested
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, explorer
from neumap.callbacks import Snapshots
from neumap.explorer import page as pages
from neumap.explorer.payload import Payload

pytestmark = MARKS
RUN = "window.ran=1"
HOSTILE = [
    f'<img src=x onerror="{RUN}">',
    f"</script><script>{RUN}</script>",
    f"</title><svg onload={RUN}>",
    '<a href="javascript:window.ran=1">x</a>',
    "<img src=http://evil.example/x.png>",
    "=HYPERLINK(1)",
    "${window.ran=1}",
    "<!--",
    "&lt;b&gt;",
    "\u2028window.ran=1",
]
N_ROWS = 500
APP = "document.getElementById('explorer').explorer"
# Elements inside the explorer, through its shadow root.
FIND = "document.getElementById('explorer').shadowRoot.querySelector"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    return np.asarray(load_digits().data[:N_ROWS] / 16, dtype=np.float32)


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [WORDS[digit] for digit in load_digits().target[:N_ROWS]]


@pytest.fixture(scope="module")
def snapshots() -> Snapshots:
    return Snapshots()


@pytest.fixture(scope="module")
def model(X: NDArray[np.float32], snapshots: Snapshots) -> ParametricUMAP:
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 20, "random_state": 0}
    return ParametricUMAP(parametric_reconstruction=True, callbacks=[snapshots], **settings).fit(X)


@pytest.fixture(scope="module")
def written(
    X: NDArray[np.float32],
    names: list[str],
    model: ParametricUMAP,
    snapshots: Snapshots,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("pages") / "digits.html"
    texts = [HOSTILE[at] if at < len(HOSTILE) else f"digit {at}" for at in range(N_ROWS)]
    explorer.show(
        model,
        X,
        labels=pd.Series(names, name="digit"),
        texts=texts,
        image_shape=(8, 8),
        snapshots=snapshots,
        path=path,
    )
    return path


@pytest.fixture
def opened(browser: Browser, written: Path) -> Browser:
    return visit(browser, written)


def visit(browser: Browser, page: Path) -> Browser:
    browser.call("Page.navigate", url="about:blank")  # the page before is over
    browser.wait("location.href === 'about:blank'")
    browser.events.clear()
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait(f"document.getElementById('explorer')?.explorer !== undefined || {RAN}")
    return browser


RAN = "window.ran !== undefined"


def unwanted(browser: Browser, page: Path) -> list[Any]:
    """What a page asked for, threw, said and ran."""
    time.sleep(0.3)  # an image has to be missed before its script runs
    found: list[Any] = [
        url for url in requested(browser) if not url.startswith((page.as_uri(), *OWN))
    ]
    thrown = browser.seen("Runtime.exceptionThrown")
    found += [event["params"]["exceptionDetails"]["exception"] for event in thrown]
    return found + browser.seen(DIALOG) + ["ran"] * bool(browser.value(RAN))


def spot(browser: Browser, point: int) -> tuple[float, float]:
    """Where a point is in the window."""
    x, y = browser.value(f"{APP}.stage.screenOf({point})")
    box = browser.value(f"{FIND}('.overlay').getBoundingClientRect().toJSON()")
    return box["left"] + x, box["top"] + y


def mouse(browser: Browser, kind: str, place: tuple[float, float]) -> None:
    held = {"button": "left", "buttons": 1, "clickCount": 1} if kind != "mouseMoved" else {}
    browser.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **held)


def press(browser: Browser, key: str) -> None:
    text = {"text": key} if len(key) == 1 else {}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, **text)


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.value(f"{FIND}('{selector}').innerText"))


# ---- placing and decoding -----------------------------------------------------------------------


def test_rows_land_where_transform_says(
    opened: Browser, X: NDArray[np.float32], model: ParametricUMAP
) -> None:
    rows = np.concatenate([X[:20], np.random.default_rng(0).random((20, 64), dtype=np.float32)])
    found = opened.value(f"{json.dumps(rows.tolist())}.map((row) => {APP}.placer.position(row))")
    extent = np.ptp(model.embedding_, axis=0).max()
    assert np.abs(np.array(found) - model.transform(rows)).max() <= 1e-5 * extent


def test_points_decode_as_inverse_transform_says(opened: Browser, model: ParametricUMAP) -> None:
    points = np.random.default_rng(0).uniform(-10, 10, size=(20, 2)).astype(np.float32)
    found = opened.value(f"{json.dumps(points.tolist())}.map((p) => [...{APP}.decode(p)])")
    np.testing.assert_allclose(found, model.inverse_transform(points), atol=1e-5)


def test_a_pasted_line_lands_with_its_known_rows(
    opened: Browser, X: NDArray[np.float32], model: ParametricUMAP
) -> None:
    reference = opened.value(f"[...{APP}.payload.reference.numbers]")
    row = X[reference[3]]
    opened.value(f"{FIND}('textarea').focus()")
    opened.call("Input.insertText", text=", ".join(map(str, row.tolist())))
    press_enter(opened)
    opened.wait(f"{APP}.placing.placed.length === 1")
    frame = opened.value(f"{APP}.payload.head.frame")
    (placed,) = opened.value(f"{APP}.stage.placed.map(({{ u, v }}) => [u, v])")
    expected = (model.transform(row[None])[0] - frame["low"]) / frame["span"]
    np.testing.assert_allclose(placed, expected, atol=1e-5)
    results = text_of(opened, ".results")
    assert f"row {reference[3]}" in results
    assert "Like the known rows" in results
    nearest = opened.value(f"{APP}.placing.placed[0].nearest.map(({{ number }}) => number)")
    distances = np.linalg.norm(X[reference] - row, axis=1)
    assert nearest == np.array(reference)[np.argsort(distances)[:5]].tolist()


def press_enter(browser: Browser) -> None:
    for kind in ("rawKeyDown", "char", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13
        )


def test_a_row_unlike_the_others_is_not_trusted(opened: Browser) -> None:
    opened.value(f"{APP}.placing.paste(Array.from({{ length: 64 }}, (_, at) => at % 2).join())")
    assert "do not rely on this position" in text_of(opened, ".results")


def test_what_is_no_row_is_explained(opened: Browser) -> None:
    opened.value(f"{APP}.placing.paste('1, 2, 3')")
    assert "must have 64 numbers" in text_of(opened, ".error")
    assert opened.value(f"{APP}.placing.placed.length") == 0


def test_a_dropped_array_is_placed(
    opened: Browser, X: NDArray[np.float32], model: ParametricUMAP
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, X[:7].astype(np.float64).reshape(7, 8, 8))
    opened.value(
        f"{APP}.placing.files([new File([new Uint8Array({list(buffer.getvalue())})], 'x.npy')])"
        " && 0"
    )
    opened.wait(f"{APP}.placing.placed.length === 7")
    found = opened.value(f"{APP}.placing.placed.map(({{ position }}) => position)")
    np.testing.assert_allclose(found, model.transform(X[:7]), atol=1e-3)


def test_a_drawing_is_placed(opened: Browser) -> None:
    box = opened.value(f"{FIND}('.pad').getBoundingClientRect().toJSON()")
    across = box["left"] + box["width"] / 2
    mouse(opened, "mousePressed", (across, box["top"] + 20))
    for share in np.linspace(0.2, 0.9, 8):
        moved = {"button": "left", "buttons": 1}
        y = box["top"] + share * box["height"]
        opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=across, y=y, **moved)
    mouse(opened, "mouseReleased", (across, box["bottom"] - 10))
    opened.wait(f"{APP}.placing.placed.length === 1")
    row = np.array(opened.value(f"[...{APP}.placing.placed[0].row]")).reshape(8, 8)
    assert row[:, 3:5].mean() > 0.6  # a stroke from top to bottom, in the middle
    assert row[:, [0, 7]].max() < 0.1


def test_along_a_line_and_everywhere_points_decode(opened: Browser) -> None:
    press(opened, "s")
    mouse(opened, "mousePressed", spot(opened, 0))
    there = spot(opened, 1)
    opened.call(
        "Input.dispatchMouseEvent",
        type="mouseMoved", x=there[0], y=there[1], button="left", buttons=1,
    )  # fmt: skip
    mouse(opened, "mouseReleased", there)
    assert opened.value(f"{FIND}('.strip').querySelectorAll('canvas').length") == 11
    press(opened, "g")
    opened.wait(f"{APP}.stage.lattice.kept.size > 20")
    size = opened.value(f"[...{APP}.stage.lattice.kept.keys()][0].split('/')[0]")
    opened.value(f"{APP}.stage.camera.zoomBy(4); {APP}.stage.moved()")
    opened.wait(
        f"[...{APP}.stage.lattice.kept.keys()].some((k) => Number(k.split('/')[0]) === {size} / 4)"
    )


# ---- seeing -------------------------------------------------------------------------------------


def test_a_point_under_the_cursor_is_described(
    opened: Browser, names: list[str], X: NDArray[np.float32]
) -> None:
    mouse(opened, "mouseMoved", spot(opened, 40))
    opened.wait(f"{APP}.stage.cursor !== null")
    point = opened.value(f"{APP}.stage.cursor.point")
    shown = text_of(opened, ".inspect")
    assert f"Row {point}" in shown
    assert names[point] in shown
    assert f"digit {point}" in shown
    assert "decoded here" in shown
    pixels = opened.value(
        f"[...{FIND}('.inspect canvas').getContext('2d').getImageData(0, 0, 8, 8).data]"
    )
    np.testing.assert_allclose(np.array(pixels)[::4], 255 * X[point], atol=1)


def test_points_are_painted_in_the_colours_of_their_classes(opened: Browser) -> None:
    """What stands on the canvas, read back from the card."""
    opened.value(f"{APP}.stage.paint()")
    found = opened.value(
        f"""(() => {{
          const {{ stage }} = {APP};
          stage.paint();
          const copy = new OffscreenCanvas(stage.points.width, stage.points.height);
          const context = copy.getContext('2d');
          context.drawImage(stage.points, 0, 0);
          const ratio = stage.points.width / stage.camera.width;
          return [...Array(60).keys()].map((at) => {{
            const [x, y] = stage.screenOf(at);
            const pixel = context.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1);
            return [...pixel.data, {APP}.payload.codes[at]];
          }});
        }})()"""
    )
    palette = opened.value(f"{APP}.payload.head.palette.light.classes")
    wanted = [[int(palette[row[4]][at : at + 2], 16) for at in (1, 3, 5)] for row in found]
    off = np.abs(np.array(found)[:, :3] - wanted).max(axis=1)
    assert (off < 30).mean() > 0.7  # others lie under a point of another class
    assert min(row[3] for row in found) > 150


def test_search_finds_texts_labels_and_rows(opened: Browser, names: list[str]) -> None:
    press(opened, "/")
    opened.call("Input.insertText", text="NINE")
    nines = [at for at, name in enumerate(names) if name == "nine"]
    opened.wait(f"{APP}.selection.points.length > 0")
    assert opened.value(f"{APP}.selection.points") == nines
    assert f"{len(nines)} of {N_ROWS}" in text_of(opened, ".selection")
    opened.value(f"{APP}.find('digit 123') && 0")
    opened.wait(f"{APP}.selection.points.length === 1")
    assert opened.value(f"{APP}.selection.points") == [123]
    opened.value(f"{APP}.find('#77') && 0")
    opened.wait(f"{APP}.selection.points[0] === 77")
    press(opened, "Escape")
    assert opened.value(f"{APP}.stage.hasSelection") is False


def test_a_lasso_selects_and_exports(
    opened: Browser, model: ParametricUMAP, names: list[str]
) -> None:
    placed = model.transform(np.asarray(load_digits().data[:N_ROWS] / 16, dtype=np.float32))
    frame = opened.value(f"{APP}.payload.head.frame")
    u, v = ((placed - frame["low"]) / frame["span"]).T
    press(opened, "l")
    corners = [(0.02, 0.02), (0.6, 0.02), (0.6, 0.98), (0.02, 0.98)]
    box = opened.value(f"{FIND}('.overlay').getBoundingClientRect().toJSON()")
    on_screen = opened.value(f"{json.dumps(corners)}.map((c) => {APP}.stage.camera.toScreen(...c))")
    path = [(box["left"] + x, box["top"] + y) for x, y in on_screen]
    mouse(opened, "mousePressed", path[0])
    for x, y in path[1:]:
        opened.call(
            "Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1
        )
    mouse(opened, "mouseReleased", path[-1])
    opened.wait(f"{APP}.stage.hasSelection")
    chosen = opened.value(f"{APP}.selection.points")
    inside = np.flatnonzero((u > 0.02) & (u < 0.6) & (v > 0.02) & (v < 0.98))
    assert len(set(chosen) ^ set(inside.tolist())) <= 3  # whole pixels move the line a little
    exported = list(csv.DictReader(io.StringIO(opened.value(f"{APP}.selection.csv()"))))
    assert [int(row["row"]) for row in exported] == chosen
    assert [row["digit"] for row in exported] == [names[at] for at in chosen]
    found = [[float(row["x"]), float(row["y"])] for row in exported]
    np.testing.assert_allclose(found, placed[chosen], atol=1e-3 * frame["span"])
    formula = HOSTILE.index("=HYPERLINK(1)")
    opened.value(f"{APP}.select([{formula}], 'x')")
    assert "'=HYPERLINK(1)" in opened.value(f"{APP}.selection.csv()")


def test_classes_hide_and_show(opened: Browser, names: list[str]) -> None:
    opened.value(f"{FIND}('.classes button').click()")  # eight, the first by name
    hidden = [at for at, name in enumerate(names) if name == "eight"]
    assert opened.value(f"{APP}.stage.painter.nShown") == N_ROWS - len(hidden)
    assert opened.value(f"{APP}.stage.isShown({hidden[0]})") is False
    u, v = opened.value(f"{APP}.grid.xy.slice({2 * hidden[0]}, {2 * hidden[0] + 2})").values()
    near = f"{APP}.grid.nearest({u / 65535}, {v / 65535}, .001, 9, {APP}.stage.isShown)"
    assert hidden[0] not in opened.value(near)
    opened.value(f"{FIND}('.legend .quiet').click()")
    assert opened.value(f"{APP}.stage.painter.nShown") == N_ROWS


def test_the_film_begins_with_the_first_snapshot(opened: Browser, snapshots: Snapshots) -> None:
    opened.value(f"{APP}.film.show(0)")
    assert text_of(opened, ".film output") == f"step {snapshots.snapshots[0].step}"
    assert opened.value(f"{APP}.stage.isPlaying") is True
    opened.value(f"{FIND}('.film button').click()")
    opened.wait(f"{APP}.film.at > 0.2")
    opened.value(f"{APP}.film.stop(); {APP}.film.show({APP}.film.last)")
    assert text_of(opened, ".film output") == "trained"
    assert opened.value(f"{APP}.stage.isPlaying") is False


def test_keys_move_zoom_and_change_the_theme(opened: Browser) -> None:
    opened.value(f"{FIND}('.overlay').focus()")
    start = opened.value(f"({APP}.stage.camera.u)")
    press(opened, "ArrowRight")
    assert opened.value(f"{APP}.stage.camera.u") > start
    assert opened.value(f"{APP}.stage.cursor") is not None  # the middle is described
    press(opened, "+")
    assert opened.value(f"{APP}.stage.camera.zoom") > 1
    press(opened, "0")
    assert opened.value(f"{APP}.stage.camera.zoom") == 1
    theme = opened.value(f"{APP}.theme")
    press(opened, "d")
    assert opened.value(f"{APP}.theme") != theme


def test_two_fingers_zoom_and_one_moves(opened: Browser) -> None:
    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        opened.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    touch("touchStart", (400, 500), (500, 500))
    touch("touchMove", (350, 500), (550, 500))
    touch("touchEnd")
    zoom = opened.value(f"{APP}.stage.camera.zoom")
    assert zoom == pytest.approx(2, rel=0.1)
    before = opened.value(f"{APP}.stage.camera.u")
    touch("touchStart", (400, 500))
    touch("touchMove", (300, 500))
    touch("touchEnd")
    assert opened.value(f"{APP}.stage.camera.u") > before


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_cut_off_at_the_side(browser: Browser, written: Path, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    try:
        visit(browser, written)
        browser.value(f"{APP}.pinPoint(1); {APP}.select([1, 2, 3], 'Selection')")
        assert browser.value("document.documentElement.scrollWidth") == width
        for part in ("header", ".tools", ".map", "aside"):
            box = browser.value(f"{FIND}('{part}').getBoundingClientRect().toJSON()")
            assert box["left"] >= 0
            assert box["right"] <= width + 0.5
        assert browser.value(f"{APP}.stage.camera.height") > 200
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


# ---- safety -------------------------------------------------------------------------------------


def hostile_page(model: ParametricUMAP, X: NDArray[np.float32], folder: Path) -> Path:
    rows = pd.DataFrame(X[:, :5], columns=HOSTILE[:5])
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "random_state": 0}
    small = ParametricUMAP(parametric_reconstruction=True, **settings).fit(rows)
    labels = pd.Series([HOSTILE[at % len(HOSTILE)] for at in range(len(rows))], name=HOSTILE[0])
    page = folder / "hostile.html"
    explorer.show(small, rows, labels=labels, texts=labels, title=HOSTILE[1], path=page)
    return page


def test_hostile_texts_are_shown_as_they_are(
    browser: Browser, model: ParametricUMAP, X: NDArray[np.float32], tmp_path: Path
) -> None:
    page = hostile_page(model, X, tmp_path)
    visit(browser, page)
    assert browser.value("document.title") == HOSTILE[1]
    assert text_of(browser, "h1") == HOSTILE[1]
    legend = browser.value(
        f"[...{FIND}('.legend').querySelectorAll('.name')].map((n) => n.textContent)"
    )
    assert set(legend) == set(HOSTILE)
    for at in range(len(HOSTILE)):
        browser.value(f"{APP}.pinned = null; {APP}.pinPoint({at})")
        assert browser.value(f"{FIND}('.inspect .text').textContent") == HOSTILE[at]
    columns = browser.value(
        f"[...{FIND}('.inspect').querySelectorAll('dt')].map((n) => n.textContent)"
    )
    assert set(columns) <= set(HOSTILE[:5])
    browser.value(f"{APP}.select({list(range(len(HOSTILE)))}, {json.dumps(HOSTILE[0])})")
    browser.value(f"{APP}.placing.paste('<img src=x onerror={RUN}>,1,2,3,4')")
    assert unwanted(browser, page) == []


def test_a_page_asks_for_nothing(opened: Browser, written: Path) -> None:
    opened.value(f"{APP}.pinPoint(3); {APP}.toggleLattice(); {APP}.film.show(1)")
    assert unwanted(opened, written) == []


@pytest.mark.parametrize(
    "added",
    [
        f"<script>{RUN}</script>",
        f"<img src=x onerror={RUN}>",
        "<script>eval('window.ran=1')</script>",
    ],
)
def test_the_policy_stops_what_gets_into_a_page(
    browser: Browser, written: Path, tmp_path: Path, added: str
) -> None:
    page = tmp_path / "changed.html"
    text = written.read_text("utf-8")
    page.write_text(text.replace('<div id="explorer">', f'{added}<div id="explorer">'), "utf-8")
    visit(browser, page)
    time.sleep(0.3)
    assert browser.value("window.ran") is None


def test_a_page_in_which_a_text_is_markup_is_noticed(
    browser: Browser,
    model: ParametricUMAP,
    X: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the escapes and without the policy the same texts act."""
    monkeypatch.setattr(pages, "ESCAPED", {})
    page = hostile_page(model, X, tmp_path)
    text = page.read_text("utf-8").replace("Content-Security-Policy", "X-None")
    page.write_text(text, "utf-8")
    browser.events.clear()
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait(RAN)


# ---- other kinds of data ------------------------------------------------------------------------


def test_rows_that_are_no_images_are_shown_by_their_numbers(
    browser: Browser, X: NDArray[np.float32], tmp_path: Path
) -> None:
    rows = pd.DataFrame(X[:, 18:30] * 100, columns=[f"column {at}" for at in range(12)])
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 3, "random_state": 0}
    model = ParametricUMAP(**settings).fit(rows)
    page = tmp_path / "table.html"
    explorer.show(model, rows, values=rows["column 3"], path=page)
    visit(browser, page)
    browser.value(f"{APP}.pinPoint(7)")
    shown = browser.value(
        f"[...{FIND}('.inspect').querySelectorAll('dt')].map((n) => n.textContent)"
    )
    scores = ((rows - rows.mean()) / rows.std(ddof=0)).iloc[7].abs().sort_values(ascending=False)
    assert shown == scores.index[:6].tolist()
    assert browser.value(f"{APP}.decode") is None
    assert browser.value(f"{FIND}('[data-tool=lattice]')") is None
    header = ",".join(rows.columns[::-1])
    line = ",".join(map(str, rows.iloc[7, ::-1]))
    browser.value(f"{APP}.placing.paste({json.dumps(header + chr(10) + line)})")
    (found,) = browser.value(f"{APP}.placing.placed.map(({{ position }}) => position)")
    np.testing.assert_allclose(found, model.transform(rows.iloc[[7]])[0], atol=1e-3)
    assert unwanted(browser, page) == []


def test_a_network_that_the_page_cannot_run_is_named(
    browser: Browser, X: NDArray[np.float32], tmp_path: Path
) -> None:
    images = X.reshape(-1, 8, 8)
    settings: dict[str, Any] = {"n_epochs": 1, "random_state": 0, "preset": "fast"}
    model = ParametricUMAP(encoder="conv", **settings).fit(images)
    page = tmp_path / "conv.html"
    explorer.show(model, images, path=page)
    visit(browser, page)
    assert "cannot run in a page" in text_of(browser, ".place")
    assert browser.value(f"{APP}.pictures.isImage") is True


def test_a_notebook_mounts_the_widget(
    browser: Browser, model: ParametricUMAP, X: NDArray[np.float32]
) -> None:
    """The module that anywidget loads, with a model that only keeps what is set."""
    payload = explorer.show(model, X).payload
    traits = {"head": payload.head, "parts": payload.packed(), "height": "400px"}
    browser.call("Page.navigate", url="about:blank")
    browser.wait("location.href === 'about:blank'")
    browser.value(
        f"""(async () => {{
          const traits = {json.dumps(traits)};
          const model = {{
            get: (name) => traits[name],
            set: (name, value) => {{ window[name] = value; }},
            save_changes: () => {{ window.saved = true; }},
          }};
          const source = new Blob([{json.dumps(pages._static("explorer.js"))}],
                                  {{ type: "text/javascript" }});
          const {{ default: widget }} = await import(URL.createObjectURL(source));
          await widget.render({{ model, el: document.body }});
          window.app = document.body.firstChild.explorer;
          window.app.select([3, 5], "Selection");
        }})() && 0"""
    )
    browser.wait("window.saved === true")
    assert browser.value("window.selection") == [3, 5]
    assert browser.value("document.body.firstChild.getBoundingClientRect().height") == 400


def test_a_million_points_are_drawn(browser: Browser, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    xy = generator.integers(0, 65536, size=(1_000_000, 2)).astype("<u2")
    codes = generator.integers(0, 10, size=1_000_000).astype("<u2")
    small = explorer.show(_Line(), np.zeros((3, 2)), labels=list("abcdefghij")[:3]).payload
    labels = {"kind": "classes", "title": "", "names": list("abcdefghij")}
    head = small.head | {"n_points": len(xy), "n_rows": len(xy), "labels": labels}
    page = pages.Page(Payload(head, {"xy": xy.tobytes(), "codes": codes.tobytes()}))
    visit(browser, page.save(tmp_path / "million.html"))
    assert browser.value(f"{APP}.stage.painter.nShown") == 1_000_000
    assert text_of(browser, "header .count") == "1,000,000 points"
    browser.value(f"{APP}.stage.camera.zoomBy(30); {APP}.stage.moved()")
    browser.wait(f"!{APP}.stage.isMoving")
    near = browser.value(f"{APP}.grid.closest(0.5, 0.5, 1)[0]")
    squared = ((xy / 65535.0 - 0.5) ** 2).sum(1)
    assert squared[near] == squared.min()


class _Line:
    """Places three rows on a line."""

    n_features_in_ = 2

    def transform(self, X: Any) -> NDArray[Any]:
        return np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])


def test_the_benchmark_opens_pages(
    script: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    script("explorer_size").main(["--rows", "3000", "--open"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["digits", "3,000", "pictures"]
    for line in lines:
        found = re.fullmatch(r"\s*\S+ +([\d,]+) bytes, of them .*; (\d+\.\d\d) s", line)
        assert found is not None
        assert 900_000 < int(found[1].replace(",", "")) < 3_000_000
        assert 0.0 < float(found[2]) < 60.0
