"""The explorer as a widget of Jupyter, VS Code, Colab or marimo, through anywidget."""

from __future__ import annotations

from typing import Any

from neumap._optional import require
from neumap.explorer.payload import Payload

__all__ = ["widget_of"]


def widget_of(payload: Payload, script: str, height: str) -> Any:
    """Return a widget.

    Parameters
    ----------
    payload : Payload
        Its content.
    script : str
        The front end, an ES module with anywidget's ``render``.
    height : str
        In CSS units.

    Returns
    -------
    anywidget.AnyWidget
        With ``selection``, a list of row numbers that follows the lasso and the search.
    """
    anywidget = require("anywidget", extra="explorer")
    traitlets = require("traitlets", extra="explorer")
    traits = {
        "_esm": script,
        "head": traitlets.Dict().tag(sync=True),
        "parts": traitlets.Dict().tag(sync=True),
        "height": traitlets.Unicode().tag(sync=True),
        "selection": traitlets.List().tag(sync=True),
    }
    kind = type("Explorer", (anywidget.AnyWidget,), traits)
    return kind(head=payload.head, parts=payload.packed(), height=height)
