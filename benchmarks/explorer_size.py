"""Size of the explorer's page: `python benchmarks/explorer_size.py`.

Digits with a decoder, then 100,000 and 1,000,000 noisy copies of them, with and without pictures.
With `--open`, Chromium opens each page, without a card, and the seconds to its first picture are
printed as well. They are those of this machine as busy as it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, explorer

TESTS = Path(__file__).resolve().parents[1] / "tests"

# Notes when the page has been drawn; its clock begins when the browser asks for it.
WATCH = """
const look = () => requestAnimationFrame(
  document.getElementById("explorer")?.explorer === undefined
    ? look
    : () => requestAnimationFrame(() => { window.drawn = performance.now(); }));
look();
"""


def described(page: Any, browser: Any, folder: Path) -> str:
    """Return the size of a page and, with a browser, how long it takes to open."""
    parts = {name: len(content) for name, content in page.payload.packed().items()}
    largest = sorted(parts, key=parts.__getitem__, reverse=True)[:3]
    text = f"{len(page.html):>12,} bytes, of them " + ", ".join(
        f"{name} {parts[name]:,}" for name in largest
    )
    return text if browser is None else f"{text}; {seconds_to_open(browser, page, folder):.2f} s"


def seconds_to_open(browser: Any, page: Any, folder: Path) -> float:
    """Return the seconds from the request for a page to its first picture."""
    file = folder / "page.html"
    file.write_text(page.html, encoding="utf-8")
    browser.call("Page.navigate", url="about:blank")
    browser.wait("location.href === 'about:blank'")
    browser.call("Page.navigate", url=file.as_uri())
    browser.wait("location.protocol === 'file:' && window.drawn !== undefined")
    return float(browser.value("window.drawn")) / 1000


def started(folder: Path) -> Any:
    """Return Chromium with a new profile."""
    sys.path.insert(0, str(TESTS))
    from chromium import PROGRAM, Browser

    if PROGRAM is None:
        sys.exit("--open needs Chromium or Chrome on the PATH")
    return Browser(folder, WATCH)


def report(rows: list[int], browser: Any, folder: Path) -> None:
    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    model = ParametricUMAP(preset="fast", parametric_reconstruction=True, random_state=0).fit(X)

    def tell(name: str, some: np.ndarray, labels: np.ndarray, **known: object) -> None:
        page = explorer.show(model, some, labels=labels, **known)
        print(f"{name:<10} {described(page, browser, folder)}", flush=True)

    tell("digits", X, digits.target, image_shape=(8, 8))
    generator = np.random.default_rng(0)
    for n_rows in rows:
        chosen = generator.integers(0, len(X), n_rows)
        noisy = X[chosen] + 0.02 * generator.normal(size=(n_rows, 64)).astype(np.float32)
        tell(f"{n_rows:,}", noisy, digits.target[chosen])
        tell("  pictures", noisy, digits.target[chosen], image_shape=(8, 8))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--open", action="store_true", help="time the opening in Chromium")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser = started(folder / "profile") if given.open else None
        try:
            report(given.rows, browser, folder)
        finally:
            if browser is not None:
                browser.close()


if __name__ == "__main__":
    main()
