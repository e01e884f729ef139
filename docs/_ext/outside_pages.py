"""Links of the pages to files that the site shows in another place.

In the repository the pages link to `../SECURITY.md` and to the scripts of the examples, and so they
stay readable there.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

__all__ = ["setup"]

PLACES = {
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmark_scripts.md",
}
EXAMPLE = re.compile(r"\]\(examples/([\w/]+)\.py\)")


def redirect(app: Sphinx, name: str, source: list[str]) -> None:
    """Rewrite the links of one page before it is parsed."""
    text = source[0]
    depth = name.count("/")
    for outside, page in PLACES.items():
        text = text.replace(f"]({'../' * (depth + 1)}{outside}", f"]({'../' * depth}{page}")
    text = text.replace("](examples/GALLERY_HEADER.rst)", "](auto_examples/index.rst)")
    source[0] = EXAMPLE.sub(r"](auto_examples/\1.rst)", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite every page as it is read."""
    app.connect("source-read", redirect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
