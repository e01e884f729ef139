"""One HTML file that holds everything and asks for nothing.

The content policy of the page allows its own script and style, by their hashes, and no request to
anywhere. Texts of the user stand in it as data only: as JSON without ``<``, or inside gzip.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import tempfile
import webbrowser
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from neumap._atomic import replacing
from neumap.explorer.payload import Payload

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Page"]

STATIC = files("neumap.explorer") / "static"
# Ends a script or begins another one, wherever a browser reads markup.
ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Page:
    """An explorer, to be written, opened, or shown by a notebook.

    Attributes
    ----------
    payload : Payload
        What the page carries.
    """

    payload: Payload

    @cached_property
    def html(self) -> str:
        """The whole page."""
        script = _static("explorer.js")
        style = _static("page.css")
        parts = (
            f'<script type="text/plain" data-part="{name}">{content}</script>'
            for name, content in self.payload.packed().items()
        )
        return Template(_static("page.html")).substitute(
            title=html.escape(self.payload.head["title"]),
            script_hash=_hash(script),
            style_hash=_hash(style),
            style=style,
            head=_json(self.payload.head),
            parts="\n".join(parts),
            script=script,
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the page, completely or not at all.

        Parameters
        ----------
        path : path-like
            File to write; must end in ``.html`` or ``.htm``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ValueError
            If the name has another ending.
        """
        target = Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"path must end in .html, got {str(target)!r}. Change the ending.")
        with replacing(target) as draft:
            draft.write_text(self.html, encoding="utf-8")
        return target

    def open(self) -> Path:
        """Write the page to the temporary folder, open it in the browser and return its path."""
        path = self.save(Path(tempfile.mkdtemp(prefix="neumap-explorer-")) / "explorer.html")
        webbrowser.open(path.as_uri())
        return path

    def widget(self, height: str = "640px") -> Any:
        """Return a notebook widget whose ``selection`` holds the numbers of the selected rows.

        Parameters
        ----------
        height : str, default="640px"
            Height in CSS units.

        Raises
        ------
        ImportError
            If the extra ``explorer`` is not installed.
        """
        from neumap.explorer.widget import widget_of

        return widget_of(self.payload, _static("explorer.js"), height)

    def __repr__(self) -> str:
        """Say what it is and what can be done with it."""
        n_points = self.payload.head["n_points"]
        return f"<Page of {n_points:,} points: .save(path) writes it, .open() shows it>"

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own."""
        content = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{content}" style="width:100%;height:640px;border:1px solid #ddd;'
            'border-radius:8px"></iframe>'
        )


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8").rstrip("\n")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _json(head: dict[str, Any]) -> str:
    text = json.dumps(head, ensure_ascii=False, allow_nan=False)
    for letter, escape in ESCAPED.items():
        text = text.replace(letter, escape)
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
