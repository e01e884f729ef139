"""Make the pictures of docs/explorer.md: `python docs/figures/explorer.py`. Needs Chromium."""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from chromium import Browser

from neumap import ParametricUMAP, explorer
from neumap.callbacks import Snapshots

HERE = Path(__file__).parent
APP = "document.getElementById('explorer').explorer"
FIND = "document.getElementById('explorer').shadowRoot.querySelector"


def digits_page(folder: Path) -> Path:
    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    film = Snapshots()
    model = ParametricUMAP(parametric_reconstruction=True, random_state=0, callbacks=[film]).fit(X)
    path = folder / "digits.html"
    explorer.show(
        model,
        X,
        labels=digits.target,
        image_shape=(8, 8),
        snapshots=film,
        title="Handwritten digits",
        path=path,
    )
    print(f"{path.stat().st_size:,} bytes")
    return path


def opened(browser: Browser, page: Path, width: int, height: int, scale: float) -> None:
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=scale,
        mobile=width < 600,
    )
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait("document.getElementById('explorer')?.explorer !== undefined")


def draw_a_three(browser: Browser) -> None:
    box = browser.value(f"{FIND}('.pad').getBoundingClientRect().toJSON()")
    turns = np.linspace(-0.75 * np.pi, 0.6 * np.pi, 14)
    upper = [(0.48 + 0.17 * np.cos(t), 0.32 + 0.17 * np.sin(t)) for t in turns]
    lower = [(0.48 + 0.2 * np.cos(t), 0.67 + 0.19 * np.sin(t)) for t in turns - 0.1 * np.pi]
    places = [
        (box["left"] + x * box["width"], box["top"] + y * box["height"])
        for x, y in [*upper, *lower, (0.3, 0.78)]
    ]
    kinds = ["mousePressed", *["mouseMoved"] * len(places), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [places[0], *places, places[-1]], strict=True):
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)


def picture(browser: Browser, name: str) -> None:
    time.sleep(1.5)
    shot = browser.call("Page.captureScreenshot", format="png")["data"]
    image = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    print(f"{name}: {(HERE / name).stat().st_size:,} bytes")


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    page = digits_page(folder)
    browser = Browser(folder / "profile")
    opened(browser, page, 1440, 900, 1)
    draw_a_three(browser)
    browser.value(f"{APP}.pinPoint(4)")
    browser.value(f"{APP}.stage.segment = [[0.2, 0.75], [0.8, 0.3]]")
    browser.value(f"{APP}.showStrip([0.2, 0.75], [0.8, 0.3])")
    picture(browser, "explorer_wide.png")
    opened(browser, page, 390, 844, 2)
    browser.value(f"{APP}.setTheme('dark'); {APP}.toggleLattice(); {APP}.pinPoint(4)")
    picture(browser, "explorer_narrow.png")
    browser.close()


if __name__ == "__main__":
    main()
