"""`llms.txt`: a table of contents in plain text, for programs that read the documentation.

See https://llmstxt.org. Each line points at the source of a page, which is Markdown.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

__all__ = ["setup"]

START = """# neumap

> Parametric UMAP in PyTorch. A neural network learns the map from data to a UMAP embedding, so that
> new rows are placed at once. Scikit-learn estimators with the parameter names of umap-learn.

Import `ParametricUMAP` (a network) or `UMAP` (free positions) from `neumap`. Both have `fit`,
`transform`, `inverse_transform`, `save`; `neumap.load` reads a saved model.
"""
GROUPS = {
    "Pages": lambda name: "/" not in name and name not in ("index", "search", "genindex"),
    "Examples": lambda name: name.startswith("auto_examples/") and "plot_" in name,
    "Reference": lambda name: name.startswith("api/"),
}


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the file beside the first page."""
    if error is not None or app.builder.format != "html":
        return
    lines = [START]
    for group, belongs in GROUPS.items():
        lines.append(f"## {group}\n")
        for name in sorted(filter(belongs, app.env.found_docs)):
            title = app.env.titles[name].astext()
            suffix = Path(app.env.doc2path(name)).suffix
            lines.append(f"- [{title}](_sources/{name}{suffix}.txt)")
        lines.append("")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the file after the pages."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
