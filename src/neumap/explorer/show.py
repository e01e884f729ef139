"""Make an explorer from a fitted model and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from neumap.explorer.page import Page
from neumap.explorer.payload import Inputs, payload_of

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["show"]


def show(  # noqa: PLR0913 - what can be known about the rows
    model: Any,
    X: Any,
    *,
    labels: Any = None,
    values: Any = None,
    texts: Sequence[Any] | None = None,
    images: ArrayLike | None = None,
    image_shape: Sequence[int] | None = None,
    snapshots: Any = None,
    title: str | None = None,
    path: str | PathLike[str] | None = None,
) -> Page:
    """Make a page that shows a map, places new rows on it and decodes any point.

    The page is one HTML file that works offline. It carries all positions, the labels and texts,
    up to 2,000 of the rows and the weights of the networks: do not pass it on if these are secret.

    Parameters
    ----------
    model : fitted ParametricUMAP or UMAP
        With two components. New rows can be placed with an encoder of neumap's own kind
        (``MLP``, the default) or a ``nn.Sequential`` of linear layers and ReLU. Any point decodes
        with such a decoder (``parametric_reconstruction=True``). With other networks the page
        shows the points and says what it cannot do.
    X : array-like of shape (n_samples, ...)
        Rows to show, as `model.transform` takes them; usually the training rows. Of more than a
        million rows a random sample is drawn.
    labels : sequence of length n_samples, optional
        Class of each row. Fractions, and more than 256 different numbers, count as `values`.
    values : sequence of float of length n_samples, optional
        Value of each row, shown by colour.
    texts : sequence of str of length n_samples, optional
        Text of each row, for hovering and searching.
    images : array of shape (n_samples, height, width) or (n_samples, height, width, 3), optional
        Picture of each row; uint8, or scaled from the smallest to the largest value. If rows are
        images, these are shown by default.
    image_shape : sequence of int, optional
        Shape of an image in a flat row, ``(height, width)`` or ``(height, width, channels)``. By
        default the shape of the rows that the model was fitted to. Images can be placed by
        drawing.
    snapshots : Snapshots or list of (step, embedding), optional
        Copies of the embedding during the training of the same rows, played as a film.
    title : str, optional
        Heading of the page.
    path : path-like, optional
        Also write the page to this file, which must end in ``.html``.

    Returns
    -------
    Page
        A notebook shows it; ``.save(path)`` writes it, ``.open()`` opens it in the browser,
        ``.widget()`` makes a widget.

    Raises
    ------
    ValueError
        If the model has not two components, both labels and values are given, or something does
        not have one entry per row.

    Examples
    --------
    >>> import numpy as np
    >>> from neumap import ParametricUMAP, explorer
    >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> model = ParametricUMAP(preset="fast", n_epochs=2, random_state=0).fit(X)
    >>> explorer.show(model, X, labels=X[:, 0] > 0)
    <Page of 60 points: .save(path) writes it, .open() shows it>
    """
    inputs = Inputs(labels, values, texts, images, image_shape, snapshots, title)
    page = Page(payload_of(model, X, inputs))
    if path is not None:
        page.save(path)
    return page
