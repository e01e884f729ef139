"""Write pictures to files and show them. A file is written completely or not at all."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from neumap._atomic import replacing
from neumap._optional import require

__all__ = ["output", "output_file", "output_notebook", "save", "show"]

# Without dates and versions the same picture gives the same bytes
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(plot: Any, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a picture to a file, chosen by its ending.

    Parameters
    ----------
    plot : matplotlib Axes or Figure, or what `interactive` returns
        The picture. Axes stand for their whole figure.
    path : str or Path
        ``.png``, ``.svg`` or ``.pdf`` for matplotlib, ``.html`` for `interactive`. An existing
        file is replaced in one step; after an error it is unchanged.
    dpi : int, default=200
        Dots per inch, for PNG and for rasterised parts of the others.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If the ending does not fit the kind of picture.
    """
    target = Path(path)
    ending = target.suffix.lower()
    figure = _figure_of(plot)
    if figure is not None:
        if ending not in METADATA:
            raise ValueError(
                f"path must end in {', '.join(METADATA)}, got {str(path)!r}. Change the ending."
            )
        content = _render(figure, ending, dpi)
    elif ending in (".html", ".htm"):
        content = _html_page(plot, target.stem).encode()
    else:
        raise ValueError(
            f"path must end in .html for an interactive picture, got {str(path)!r} for "
            f"{type(plot).__name__}. Change the ending, or pass matplotlib axes."
        )
    with replacing(target) as draft:
        draft.write_bytes(content)
    return target


output = save  # the name in umap.plot's documentation


def show(plot: Any) -> None:
    """Show a picture: in matplotlib's window, or in the browser for `interactive`."""
    if _figure_of(plot) is not None:
        require("matplotlib.pyplot", extra="plot").show()
    else:
        require("bokeh.io", extra="interactive").show(plot)


def output_notebook() -> None:
    """Let `show` draw what `interactive` returns in the notebook, as ``umap.plot`` does.

    Raises
    ------
    ImportError
        Outside of a notebook.
    """
    if importlib.util.find_spec("IPython") is None:
        raise ImportError(
            "output_notebook must be called in a notebook, got a Python without IPython. Call "
            "output_file(name), or leave it out: show opens a browser."
        )
    require("bokeh.io", extra="interactive").output_notebook(hide_banner=True)


def output_file(filename: str | Path, title: str | None = None) -> None:
    """Let `show` write what `interactive` returns to this HTML file and open it.

    Parameters
    ----------
    filename : str or Path
        An existing file is replaced when something is shown.
    title : str, optional
        Of the page; by default the name of the file.
    """
    path = Path(filename)
    require("bokeh.io", extra="interactive").output_file(str(path), title or path.stem)


def _figure_of(plot: Any) -> Any:
    """Return the figure of matplotlib axes or the figure itself; None for anything else."""
    if hasattr(plot, "savefig"):
        return plot
    get_figure = getattr(plot, "get_figure", None)
    return get_figure() if callable(get_figure) else None


def _render(figure: Any, ending: str, dpi: int) -> bytes:
    matplotlib = require("matplotlib", extra="plot")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "neumap"}):
        figure.savefig(
            buffer,
            format=ending[1:],
            dpi=dpi,
            bbox_inches="tight",
            facecolor=figure.get_facecolor(),
            metadata=METADATA[ending],
        )
    return buffer.getvalue()


def _html_page(plot: Any, title: str) -> str:
    embed = require("bokeh.embed", extra="interactive")
    inline = require("bokeh.resources", extra="interactive").INLINE
    page: str = embed.file_html(plot, inline, title)
    return page
