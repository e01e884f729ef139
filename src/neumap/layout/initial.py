"""Where a free layout starts: the word or array given as ``init`` becomes positions.

Computed positions keep the ratio of their axes; the longest spans 0 to 20. They get noise of 1e-5
of it, so that no two rows coincide: coincident points exert no force on each other. umap-learn
(``simplicial_set_embedding``) stretches every axis to 0..10, which bends what is long and thin.
Random positions, and an array that is given, are stretched in this way here too. An array gets
noise only if it has equal rows, a thousandth of the mean distance between nearest rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from neumap._random import numpy_generator
from neumap._warnings import warn_user
from neumap.fuzzy import FuzzyGraph
from neumap.layout.components import spectral_positions
from neumap.layout.principal import flat_rows, principal_positions

__all__ = ["check_initial", "initial_positions"]

EXTENT = 20.0
NOISE = 1e-5  # relative to the largest coordinate
EXTENT_OF_OTHERS = 10.0
WORDS = ("spectral", "pca", "tswspectral", "random")


def initial_positions(
    init: Any, *, graph: FuzzyGraph, X_matrix: Any | None, n_components: int, seed: int
) -> NDArray[np.float32]:
    """Return the positions a free layout starts from.

    Parameters
    ----------
    init : {"spectral", "pca", "tswspectral", "random"} or array of shape (n, n_components)
        * ``"spectral"``: smoothest functions on the graph; keeps the global shape and is the
          best start in general.
        * ``"tswspectral"``: the same, with an iteration that starts from principal components
          (in umap-learn from a truncated SVD of the Laplacian). Worth a try where ``"spectral"``
          is slow.
        * ``"pca"``: principal components of `X_matrix`; keeps large distances.
        * ``"random"``: uniform.
        * an array: these positions, copied. Only the relative positions along each axis matter,
          since all axes are stretched to the same extent.
    graph : FuzzyGraph
        The graph to be laid out, of n vertices.
    X_matrix : array of shape (n, ...), sparse matrix or None
        The rows; None where only distances are known.
    n_components : int
        Dimension of the layout.
    seed : int
        Same seed, same positions.

    Returns
    -------
    array of shape (n, n_components), float32
        The longest axis spans 0 to 20; of an array or random positions each axis spans 0 to 10.

    Raises
    ------
    ValueError
        If `init` is an unknown word, or an array of another shape or with values that are not
        finite, or is ``"pca"`` without `X_matrix`.

    Warns
    -----
    UserWarning
        If a spectral start is not possible (no edge, or a solver that fails) and principal
        components or random positions replace it.

    Examples
    --------
    >>> path = FuzzyGraph(np.arange(5), np.arange(1, 6), np.ones(5, dtype=np.float32), 6)
    >>> line = initial_positions("spectral", graph=path, X_matrix=None, n_components=1, seed=0)
    >>> [round(float(x), 1) for x in line.ravel()]
    [20.0, 18.1, 13.1, 6.9, 1.9, 0.0]
    """
    generator = numpy_generator(seed, "layout")
    shape = (graph.n_vertices, n_components)
    if not isinstance(init, str):
        return _stretch(_separate_duplicates(check_initial(init, shape), generator))
    if init == "random":
        return _stretch(generator.uniform(size=shape))
    if init == "pca":
        if X_matrix is None:
            raise ValueError(
                "init must not be 'pca' where only distances are known, since it needs the rows of "
                "X, got 'pca'. Use init='spectral' or 'random', or pass an array of positions."
            )
        rough = _principal(X_matrix, graph, n_components, generator)
    elif init in ("spectral", "tswspectral"):
        rough = _spectral_or_next_best(init, graph, X_matrix, n_components, generator)
    else:
        raise ValueError(
            f"init must be one of {WORDS} or an array of shape {shape}, got {init!r}. Choose "
            "one of these."
        )
    return _scaled(_with_noise(rough, generator))


def check_initial(init: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """Return given positions as float64.

    Raises
    ------
    ValueError
        If they have another shape or are not finite.
    """
    given = init.detach().cpu() if isinstance(init, torch.Tensor) else init
    try:
        positions = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"init must be an array of numbers of shape {shape}, got {type(init).__name__} "
            f"({error}). Pass one row of coordinates per row of X."
        ) from error
    if positions.shape != shape:
        raise ValueError(
            f"init must have one row per row of X and one column per component, shape {shape}, "
            f"got {positions.shape}. Pass the positions of exactly these rows."
        )
    n_bad = int((~np.isfinite(positions)).any(axis=1).sum())
    if n_bad:
        raise ValueError(
            f"init must be finite, got NaN or infinity in {n_bad} of {len(positions)} rows. Fill "
            "them, for example with the mean position of their neighbours."
        )
    return positions


def _spectral_or_next_best(
    init: str,
    graph: FuzzyGraph,
    X: Any | None,
    n_components: int,
    generator: np.random.Generator,
) -> NDArray[Any]:
    """Spectral layout; principal components or random positions, with a warning, if it fails."""
    reason = "the graph has no edges"
    if len(graph.weights):
        start = None
        if init == "tswspectral" and X is not None:
            start = principal_positions(X, n_components, generator=generator)
        try:
            rough = spectral_positions(graph, n_components, X=X, generator=generator, start=start)
        except np.linalg.LinAlgError as error:
            reason = str(error)
        else:
            if np.isfinite(rough).all():
                return rough
            reason = "the eigenvectors are not finite"
    other = "random positions" if X is None else "principal components"
    warn_user(
        f"A spectral start is not possible: {reason}. The layout starts from {other}. Pass "
        "init='pca', 'random' or an array to choose the start.",
    )
    if X is None:
        return generator.uniform(size=(graph.n_vertices, n_components))
    return _principal(X, graph, n_components, generator)


def _principal(
    X: Any, graph: FuzzyGraph, n_components: int, generator: np.random.Generator
) -> NDArray[Any]:
    """Principal components of the rows with an edge; the other rows get the middle.

    A row that is far enough from all others to be cut off would be an axis of its own.
    """
    isolated = graph.isolated()
    if len(isolated) in (0, graph.n_vertices):
        return principal_positions(X, n_components, generator=generator)
    connected = np.delete(np.arange(graph.n_vertices), isolated)
    positions = np.zeros((graph.n_vertices, n_components), dtype=np.float32)
    rows = flat_rows(X)[connected]
    positions[connected] = principal_positions(rows, n_components, generator=generator)
    return positions


def _with_noise(rough: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    """Largest coordinate 1, plus noise that separates coincident rows."""
    largest = float(np.abs(rough).max(initial=0.0)) or 1.0
    return rough.astype(np.float64) / largest + generator.normal(scale=NOISE, size=rough.shape)


def _separate_duplicates(positions: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    """Add noise of a thousandth of the mean distance to the nearest row, if any rows are equal."""
    if len(np.unique(positions, axis=0)) == len(positions):
        return positions
    spacing = float(np.asarray(KDTree(positions).query(positions, k=2)[0])[:, 1].mean())
    if spacing == 0.0:  # every row has a twin
        spacing = float(np.abs(positions).max()) or 1.0
    return positions + generator.normal(scale=1e-3 * spacing, size=positions.shape)


def _scaled(positions: NDArray[Any]) -> NDArray[np.float32]:
    """Move the smallest coordinate of each axis to 0, and scale all by one factor."""
    from_zero = positions - positions.min(axis=0)
    return np.ascontiguousarray(EXTENT / from_zero.max() * from_zero, dtype=np.float32)


def _stretch(positions: NDArray[Any]) -> NDArray[np.float32]:
    """Map every axis to 0..10; an axis without extent to 5."""
    low, extent = positions.min(axis=0), np.ptp(positions, axis=0)
    has_extent = extent > 0
    share = np.where(has_extent, (positions - low) / np.where(has_extent, extent, 1.0), 0.5)
    return np.ascontiguousarray(EXTENT_OF_OTHERS * share, dtype=np.float32)
