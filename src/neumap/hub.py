"""Maps on the Hugging Face Hub: share a fitted model, and take one that others share.

A repository holds ``model.neumap`` and a README with what the map says about itself. The file holds
no code, so reading a stranger's map can do nothing but read (see SECURITY.md).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from neumap._optional import require
from neumap.archive import ArchiveError
from neumap.estimators import UMAP, load

__all__ = ["from_pretrained", "push_to_hub"]

MODEL, README, PICTURE = "model.neumap", "README.md", "map.png"


def push_to_hub(
    model: UMAP,
    repo_id: str,
    *,
    keep: Literal["network", "map", "data"] = "network",
    card: Mapping[str, Any] | None = None,
    picture: str | os.PathLike[str] | None = None,
    private: bool | None = None,
) -> str:
    """Put a fitted model into a repository of the Hugging Face Hub, in one commit.

    The repository is created if it is missing. You must be logged in (``hf auth login``, or the
    environment variable ``HF_TOKEN``).

    Parameters
    ----------
    model : UMAP or ParametricUMAP
        Fitted.
    repo_id : str
        ``"user/name"``.
    keep : {"network", "map", "data"}, default="network"
        As in :meth:`neumap.ParametricUMAP.save`. ``"map"`` and ``"data"`` publish the positions,
        and the rows, of your data.
    card : mapping of str to value, optional
        Notes for those who use the map, as in :meth:`neumap.ParametricUMAP.save`.
    picture : path-like, optional
        A PNG for the README.
    private : bool, optional
        Whether a new repository is private. By default that of your account.

    Returns
    -------
    str
        Address of the repository.

    Raises
    ------
    ImportError
        If the extra ``hub`` is not installed.
    NotFittedError
        Before ``fit``.
    ValueError
        As :meth:`neumap.ParametricUMAP.save`.
    OSError
        If the Hub cannot be reached or refuses, as huggingface_hub says it.

    Notes
    -----
    A README that is in the repository stays, so that you can edit it there.
    """
    hub = require("huggingface_hub", "hub")
    model._model()  # raises before anything is created
    api = hub.HfApi(library_name="neumap")
    with tempfile.TemporaryDirectory(prefix="neumap-hub-") as name:
        folder = Path(name)
        file = model.save(folder / MODEL, keep=keep, card=card)
        if picture is not None:
            shutil.copyfile(picture, folder / PICTURE)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if not api.file_exists(repo_id, README):
            text = _readme(load(file), repo_id, has_picture=picture is not None)
            (folder / README).write_text(text, encoding="utf-8")
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload of a map")
    return str(address)


def from_pretrained(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> UMAP:
    """Take a map from a repository of the Hugging Face Hub.

    Parameters
    ----------
    repo_id : str
        ``"user/name"``.
    revision : str, optional
        Branch, tag or commit. A commit is the same map for ever; the default is the newest one.
    cache_dir : path-like, optional
        Where downloads are kept, by default the Hub's own cache. What is there needs no network:
        set ``HF_HUB_OFFLINE=1``.
    **options
        ``encoder``, ``decoder``, ``classes`` and ``device`` of :func:`neumap.load`.

    Returns
    -------
    UMAP or ParametricUMAP
        ``card_`` says what rows it expects.

    Raises
    ------
    ImportError
        If the extra ``hub`` is not installed.
    ArchiveError
        If the repository holds no ``model.neumap``, and as :func:`neumap.load`.
    OSError
        If there is no such repository, or neither a network nor the file in the cache, as
        huggingface_hub says it.
    """
    hub = require("huggingface_hub", "hub")
    try:
        path = hub.hf_hub_download(
            repo_id, MODEL, revision=revision, cache_dir=cache_dir, library_name="neumap"
        )
    except hub.errors.RemoteEntryNotFoundError as error:
        raise ArchiveError(
            f"repo_id must be a repository with {MODEL}, got {repo_id!r} without one. Check the "
            "name and the revision, or put a map there with neumap.hub.push_to_hub."
        ) from error
    return load(path, **options)


def _readme(model: UMAP, repo_id: str, *, has_picture: bool) -> str:
    card = getattr(model, "card_", {"notes": {}, "rows": {}})
    n_features = model.n_features_in_
    columns = card.get("columns") or []
    expected = [f"- shape of a row: {tuple(model.input_shape_)}, {n_features} numbers"]
    if columns:
        more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
        expected.append(f"- columns: {', '.join(map(_plain, columns[:20]))}{more}")
    for what, measures in card["rows"].items():
        listed = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        expected.append(f"- {what} of the rows of the fit: {listed}")
    notes = [f"| {_plain(name)} | {_plain(value)} |" for name, value in card["notes"].items()]
    parts = [
        "---\nlibrary_name: neumap\ntags:\n- neumap\n- umap\n- dimensionality-reduction\n---",
        f"# {repo_id}",
        f"A map of {card.get('n_rows', 'some')} rows in {model.n_components} dimensions, "
        "which places new rows. It was made with neumap.",
        f"![The map]({PICTURE})" if has_picture else "",
        "\n".join(["| | |", "|---|---|", *notes]) if notes else "",
        "## Rows it expects",
        "\n".join(expected),
        "## Use",
        '```console\n$ pip install "neumap[hub]"\n```',
        f"```python\nimport neumap\n\nmodel = neumap.hub.from_pretrained({repo_id!r})\n"
        f"positions = model.transform(X)  # X of shape (n, {n_features})\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(value: Any) -> str:
    """Return text that neither ends a cell of a table nor is markup."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    signs: dict[str, int | str | None] = {
        "|": "\\|",
        "<": "&lt;",
        "[": "\\[",
        "`": "\\`",
        "\n": " ",
        "\r": " ",
    }
    return text.translate(str.maketrans(signs))
