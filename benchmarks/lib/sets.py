"""The data sets of the yard: generated, or shipped with an installed package.

Each set is drawn by a seed and divided into training, validation and test rows. Settings are chosen
on validation rows; test rows are for reports. `SETS` maps a name to the function that draws it.
MNIST alone needs a file.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lib.data import mnist

Rows = Literal["validation", "test"]

MOST_HELD_OUT = 1_000
MNIST_SIZES = (300, 1_000, 2_000, 5_000, 10_000, 60_000)


@dataclass(frozen=True)
class Drawn:
    """All rows of a set in random order, before they are divided.

    Attributes
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The rows; or, if `vectorise` is given, one text each.
    labels : int array of shape (n_samples,)
        Class, cluster or branch of each row.
    has_clusters : bool
        Whether the labels are classes whose centres mean something.
    has_extents : bool
        Whether the labels are clusters of a generator, whose extents mean something.
    n_siblings : int
        Labels in a row that form a group of clusters, if more than one.
    """

    X: Any
    labels: NDArray[np.int64]
    metric: str = "euclidean"
    has_clusters: bool = True
    has_extents: bool = False
    n_siblings: int = 1


@dataclass(frozen=True)
class YardSet:
    """Training rows and one group of held-out rows for each purpose."""

    name: str
    seed: int
    X_train: Any
    y_train: NDArray[np.int64]
    held_out: dict[str, tuple[Any, NDArray[np.int64]]]
    metric: str = "euclidean"
    has_clusters: bool = True
    has_extents: bool = False
    n_siblings: int = 1

    def fingerprint(self) -> list[float]:
        """Return mean size and standard deviation, by which results on other rows are told apart.

        Texts and cells depend on the version of a package; a hash would also tell apart rows that
        differ by rounding on another machine.
        """
        X = self.X_train.toarray() if scipy.sparse.issparse(self.X_train) else self.X_train
        values = np.asarray(X, dtype=np.float64)
        return [float(np.abs(values).mean()), float(values.std())]


@dataclass(frozen=True)
class Sources:
    """Files that some sets need: MNIST, and a folder that keeps what packages ship."""

    mnist: Path | None = None
    shipped: Path | None = None


def load(name: str, seed: int, sources: Sources) -> YardSet:
    """Return a set of the yard by its name."""
    if name.startswith("mnist-"):
        return _mnist(int(name.partition("-")[2]), seed, sources)
    rng = np.random.default_rng([seed, sum(name.encode())])
    drawn = SETS[name](rng, sources)
    n_rows = drawn.X.shape[0] if hasattr(drawn.X, "shape") else len(drawn.X)
    order = rng.permutation(n_rows)
    n_held_out = min(n_rows // 7, MOST_HELD_OUT)
    parts = {
        "test": order[:n_held_out],
        "validation": order[n_held_out : 2 * n_held_out],
        "train": order[2 * n_held_out :],
    }
    prepare = PREPARE.get(name, _as_float32)
    X = prepare({part: drawn.X[rows] for part, rows in parts.items()})
    y = {part: drawn.labels[rows] for part, rows in parts.items()}
    held_out = {part: (X[part], y[part]) for part in ("validation", "test")}
    traits = (drawn.metric, drawn.has_clusters, drawn.has_extents, drawn.n_siblings)
    return YardSet(name, seed, X["train"], y["train"], held_out, *traits)


def available(sources: Sources) -> list[str]:
    """Return the names of the sets for which everything is there."""
    names = [f"mnist-{n}" for n in MNIST_SIZES] if sources.mnist is not None else []
    usable = [name for name in SETS if name != "pbmc" or _pbmc_file(sources) is not None]
    return usable + names


def _as_float32(parts: dict[str, Any]) -> dict[str, Any]:
    return {part: np.asarray(X, dtype=np.float32) for part, X in parts.items()}


def _mnist(n_train: int, seed: int, sources: Sources) -> YardSet:
    if sources.mnist is None:
        raise SystemExit(f"--mnist must be an .npz file for mnist-{n_train}, got none. Pass it.")
    held_out = {}
    for rows in ("validation", "test"):
        split = mnist(sources.mnist, n_train, seed, rows)
        held_out[rows] = (split.X_test[:MOST_HELD_OUT], split.y_test[:MOST_HELD_OUT])
    return YardSet(f"mnist-{n_train}", seed, split.X_train, split.y_train, held_out)


# Rows that a package ships


def _digits(rng: np.random.Generator, sources: Sources) -> Drawn:
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    return Drawn(X / 16, labels)


TEXT_PACKAGES = ("numpy", "scipy", "sklearn")
N_TEXTS = 1_680
MOST_PER_LABEL = 120
FEWEST_PER_LABEL = 30
FEWEST_WORDS = 40


def _text(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Docstrings of numpy, scipy and scikit-learn; the label is the subpackage."""
    kept = _shipped(sources, "texts", _docstrings)
    labels, texts = kept["labels"], kept["rows"]
    order = rng.permutation(len(texts))
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for row in order:
        seen[labels[row]] = seen.get(labels[row], 0) + 1
        if seen[labels[row]] <= MOST_PER_LABEL:
            chosen.append(row)
    chosen = [row for row in chosen if seen[labels[row]] >= FEWEST_PER_LABEL][:N_TEXTS]
    X = np.array([texts[row] for row in chosen], dtype=object)
    names = [labels[row] for row in chosen]
    return Drawn(X, np.unique(names, return_inverse=True)[1], "cosine")


def _docstrings() -> dict[str, list[str]]:
    """Return subpackages and docstrings, read from the sources without importing them."""
    found: dict[str, str] = {}
    for package in TEXT_PACKAGES:
        root = _package_folder(package)
        for file in sorted(root.rglob("*.py")):
            place = file.relative_to(root).parts
            if "tests" in place or len(place) < 2:
                continue
            label = f"{package}.{place[0].lstrip('_')}"
            for text in _docstrings_of(file):
                found.setdefault(text, label)
    return {"labels": list(found.values()), "rows": list(found)}


def _docstrings_of(file: Path) -> list[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    texts = [ast.get_docstring(node) or "" for node in nodes if not node.name.startswith("_")]
    return [text for text in texts if len(text.split()) >= FEWEST_WORDS]


def _tf_idf(parts: dict[str, Any]) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(
        sublinear_tf=True,
        min_df=2,
        max_features=6_000,
        stop_words="english",
        token_pattern=r"[A-Za-z_]{3,}",
        dtype=np.float32,
    )
    vectoriser.fit(parts["train"])
    return {part: vectoriser.transform(texts) for part, texts in parts.items()}


def _pbmc(rng: np.random.Generator, sources: Sources) -> Drawn:
    """700 blood cells that scanpy ships, 50 principal components, with ten cell types."""

    def read() -> dict[str, Any]:
        import anndata

        cells = anndata.read_h5ad(_pbmc_file(sources))
        labels = cells.obs["bulk_labels"].cat.codes
        return {"labels": labels.tolist(), "rows": cells.obsm["X_pca"].tolist()}

    kept = _shipped(sources, "pbmc", read)
    return Drawn(np.array(kept["rows"]), np.array(kept["labels"], dtype=np.int64))


def _pbmc_file(sources: Sources) -> Path | None:
    kept = None if sources.shipped is None else sources.shipped / "pbmc.json"
    if kept is not None and kept.is_file():
        return kept
    if find_spec("scanpy") is None:
        return None
    found = sorted(_package_folder("scanpy").rglob("10x_pbmc68k_reduced.h5ad"))
    return found[0] if found else None


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} must be installed for this set. Install it.")
    return Path(spec.origin).parent


def _shipped(sources: Sources, name: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return lists of labels and rows, from the folder of kept sets if they are there."""
    if sources.shipped is None:
        return read()
    file = sources.shipped / f"{name}.json"
    if not file.is_file():
        sources.shipped.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(read()), encoding="utf-8")
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


# Generated clusters


def _clusters(
    rng: np.random.Generator,
    centres: NDArray[np.float64],
    spreads: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return Gaussian clusters and the index of each row's cluster."""
    labels = np.repeat(np.arange(len(centres)), counts)
    noise = rng.normal(size=(len(labels), centres.shape[1]))
    return centres[labels] + noise * spreads[labels, None], labels


def _density(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Ten Gaussians in ten dimensions, equal counts, standard deviations from .05 to 3."""
    centres = rng.normal(scale=8.0, size=(10, 10))
    X, labels = _clusters(rng, centres, np.geomspace(0.05, 3.0, 10), np.full(10, 280))
    return Drawn(X, labels, has_extents=True)


def _unequal(rng: np.random.Generator, sources: Sources) -> Drawn:
    """A blob of 2,000 rows and twelve of 20 to 130 rows around it, in 50 dimensions."""
    centres = np.vstack([np.zeros(50), rng.normal(scale=1.4, size=(12, 50))])
    counts = np.array([2_000, *np.linspace(20, 130, 12).astype(int)])
    X, labels = _clusters(rng, centres, np.array([1.0, *np.full(12, 0.4)]), counts)
    return Drawn(X, labels, has_extents=True)


def _hierarchy(rng: np.random.Generator, sources: Sources) -> Drawn:
    """125 clusters: five groups of five groups of five."""
    centres = np.zeros((1, 20))
    for scale in (10.0, 3.0, 1.0):
        steps = rng.normal(scale=scale / np.sqrt(10), size=(len(centres), 5, 20))
        centres = (centres[:, None] + steps).reshape(-1, 20)
    X, labels = _clusters(rng, centres, np.full(125, 0.1), np.full(125, 44))
    return Drawn(X, labels, has_extents=True, n_siblings=5)


def _binary(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Fifteen prototypes of 256 bits, each bit flipped with a probability of .08 to .2."""
    labels = rng.choice(15, size=2_800, p=rng.dirichlet(np.full(15, 3.0)))
    prototypes = rng.random((15, 256)) < 0.5
    flips = rng.random((len(labels), 256)) < np.linspace(0.08, 0.2, 15)[labels, None]
    return Drawn(prototypes[labels] ^ flips, labels, "hamming", has_extents=True)


def _unit_vectors(rng: np.random.Generator, sources: Sources) -> Drawn:
    """30 clusters of unit vectors in 512 dimensions, in six groups."""
    groups = rng.normal(size=(6, 1, 512))
    centres = (groups + 0.8 * rng.normal(size=(6, 5, 512))).reshape(-1, 512)
    low_rank = rng.normal(size=(20, 512))
    labels = rng.choice(30, size=3_500, p=rng.dirichlet(np.full(30, 4.0)))
    X = 0.6 * centres[labels] + rng.normal(size=(len(labels), 20)) @ low_rank / np.sqrt(20)
    X = X + 0.8 * rng.normal(size=X.shape)
    return Drawn(X / np.linalg.norm(X, axis=1, keepdims=True), labels, "cosine", has_extents=True)


def _spoken(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Like ISOLET: 26 letters in 617 correlated columns, speakers shared by all letters."""
    smooth = _smooth_profiles(rng, 60, 617)
    letters = 0.75 * rng.normal(size=(26, 12)) @ smooth[:12]
    speakers = rng.normal(size=(60, 40)) @ smooth[12:52] * 0.35
    labels = np.tile(np.arange(26), 80)
    speaker = rng.integers(60, size=len(labels))
    X = letters[labels] + speakers[speaker]
    X += rng.normal(size=(len(labels), 60)) @ smooth * 0.25 + 0.3 * rng.normal(size=X.shape)
    return Drawn(np.tanh(X / 2), labels)


def _smooth_profiles(rng: np.random.Generator, n: int, width: int) -> NDArray[np.float64]:
    """Return n random functions of the column, smooth over about 15 columns, variance 1."""
    window = np.hanning(31)
    noise = rng.normal(size=(n, width + 30))
    window /= np.linalg.norm(window)
    return np.array([np.convolve(row, window, "valid") for row in noise])


def _cells(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Negative-binomial counts of 3,500 cells and 1,500 genes along a tree of seven branches."""
    parents = (-1, 0, 0, 1, 1, 2, 2)
    n_genes, n_knots = 1_500, 20
    baseline = rng.normal(-1.5, 1.2, size=n_genes)
    courses: list[NDArray[np.float64]] = []
    for parent in parents:
        start = np.zeros(n_genes) if parent < 0 else courses[parent][-1]
        active = rng.random(n_genes) < 0.15
        walk = np.cumsum(rng.normal(0.0, 0.35, size=(n_knots, n_genes)) * active, axis=0)
        courses.append(start + walk)
    labels = rng.integers(len(parents), size=3_500)
    knots = rng.integers(n_knots, size=len(labels))
    logs = baseline + np.array([courses[b][k] for b, k in zip(labels, knots, strict=True)])
    share = np.exp(logs)
    depth = rng.lognormal(np.log(3_000), 0.4, size=(len(labels), 1))
    expected = share / share.sum(1, keepdims=True) * depth
    return Drawn(rng.poisson(expected * rng.gamma(4.0, 0.25, size=expected.shape)), labels)


def _normalised_components(parts: dict[str, Any]) -> dict[str, Any]:
    """Return 50 principal components of log1p of counts per 10,000; PCA of the training rows."""
    from sklearn.decomposition import PCA

    logs = {
        part: np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
        for part, counts in parts.items()
    }
    pca = PCA(50, random_state=0).fit(logs["train"])
    return _as_float32({part: pca.transform(rows) for part, rows in logs.items()})


# Generated shapes


def _swiss_roll(rng: np.random.Generator, sources: Sources) -> Drawn:
    from sklearn.datasets import make_swiss_roll

    X, along = make_swiss_roll(2_800, noise=0.1, hole=True, random_state=int(rng.integers(2**31)))
    return Drawn(X, _eighths(along), has_clusters=False)


def _s_curve(rng: np.random.Generator, sources: Sources) -> Drawn:
    from sklearn.datasets import make_s_curve

    X, along = make_s_curve(2_800, noise=0.03, random_state=int(rng.integers(2**31)))
    return Drawn(X, _eighths(along), has_clusters=False)


def _eighths(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the eighth of the values in which each lies, as a label."""
    return np.searchsorted(np.quantile(values, np.arange(1, 8) / 8), values)


def _tree(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Twelve branches in 60 dimensions, each beginning on an earlier one."""
    ends = [(np.zeros(60), np.zeros(60))]
    rows, labels = [], []
    for branch in range(12):
        first, last = ends[rng.integers(max(branch, 1))] if branch else ends[0]
        begin = first + rng.uniform(0.5, 1.0) * (last - first)
        direction = rng.normal(size=60)
        end = begin + direction / np.linalg.norm(direction) * rng.uniform(4.0, 9.0)
        ends = [(begin, end)] if branch == 0 else [*ends, (begin, end)]
        t = rng.random((420, 1))
        rows.append(begin + t * (end - begin))
        labels.append(np.full(420, branch))
    X = np.vstack(rows)
    return Drawn(X + rng.normal(scale=0.08, size=X.shape), np.hstack(labels), has_clusters=False)


def _rings(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Two linked rings and two concentric ones, thin, in three dimensions."""
    t = rng.uniform(0, 2 * np.pi, size=(4, 700))
    zero = np.zeros(700)
    parts = [
        np.column_stack([3 * np.cos(t[0]), 3 * np.sin(t[0]), zero]),
        np.column_stack([3 + 3 * np.cos(t[1]), zero, 3 * np.sin(t[1])]),
        np.column_stack([14 + 2 * np.cos(t[2]), 2 * np.sin(t[2]), zero]),
        np.column_stack([14 + 4 * np.cos(t[3]), 4 * np.sin(t[3]), zero]),
    ]
    X = np.vstack(parts) + rng.normal(scale=0.1, size=(2_800, 3))
    return Drawn(X, np.repeat(np.arange(4), 700), has_clusters=False)


def _loops(rng: np.random.Generator, sources: Sources) -> Drawn:
    """Like COIL-20: 20 closed curves of 100 rows in 128 dimensions, of unequal size."""
    turn = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    rows = []
    for size in rng.permutation(np.geomspace(0.4, 2.5, 20)):
        curve = rng.normal(scale=0.5, size=128)[None]
        for harmonic in (1, 2, 3, 4):
            waves = rng.normal(size=(2, 128)) / np.sqrt(128) / harmonic
            angle = harmonic * turn[:, None]
            curve = curve + size * (np.cos(angle) * waves[0] + np.sin(angle) * waves[1])
        rows.append(curve)
    X = np.vstack(rows)
    return Drawn(X + rng.normal(scale=0.003, size=X.shape), np.repeat(np.arange(20), 100))


def _mammoth(rng: np.random.Generator, sources: Sources) -> Drawn:
    """A thin animal in three dimensions: trunk, tusks, head, body, ribs, four legs and a tail."""
    tubes: list[tuple[list[tuple[float, float, float]], float, int]] = [
        ([(-4, 0, 0), (0, 0, 1.2), (4, 0, 0.8)], 0.18, 900),  # spine
        ([(4, 0, 0.8), (5.2, 0, 2.0)], 0.3, 300),  # neck
        ([(6.3, 0, 1.6), (7.2, 0, 0.5), (7.4, 0, -2.0), (8.2, 0, -3.2)], 0.18, 700),  # trunk
        ([(6.2, 0.5, 1.2), (7.6, 0.9, -0.4), (9.2, 0.7, 0.6)], 0.1, 350),  # tusks
        ([(6.2, -0.5, 1.2), (7.6, -0.9, -0.4), (9.2, -0.7, 0.6)], 0.1, 350),
        ([(-4, 0, 0), (-5.0, 0, -0.6), (-5.2, 0, -2.2)], 0.08, 250),  # tail
    ]
    for x in (-3.2, 3.2):
        for side in (-1.0, 1.0):
            hip = (x, 0.2 * side, 0.5)
            knee, foot = (x + 0.3, 1.1 * side, -2.2), (x, 1.1 * side, -4.8)
            tubes.append(([hip, (x, side, -0.4), knee, foot], 0.22, 1_000))
    for x in np.linspace(-2.2, 2.2, 8):
        for side in (-1.0, 1.0):
            top = 1.0 - 0.05 * x * x
            arch = [(x, 0.0, top), (x, 1.3 * side, 0.3), (x, 1.1 * side, -1.2), (x, 0.3 * side, -2)]
            tubes.append((arch, 0.05, 220))
    rows = [_tube(rng, np.array(path, dtype=float), radius, n) for path, radius, n in tubes]
    skull = rng.normal(size=(1_000, 3))
    skull = np.array([5.8, 0, 2.0]) + 0.8 * skull / np.linalg.norm(skull, axis=1, keepdims=True)
    parts = [0, 1, 3, 3, 3, 4, 5, 6, 7, 8, *([9] * 16), 2]
    counts = [len(part) for part in [*rows, skull]]
    return Drawn(np.vstack([*rows, skull]), np.repeat(parts, counts), has_clusters=False)


def _tube(
    rng: np.random.Generator, path: NDArray[np.float64], radius: float, n: int
) -> NDArray[np.float64]:
    """Return n points around a smooth curve through the points of a path."""
    from scipy.interpolate import make_interp_spline

    along = np.linspace(0, 1, len(path))
    curve = make_interp_spline(along, path, k=min(3, len(path) - 1))
    offset = rng.normal(size=(n, 3))
    offset /= np.linalg.norm(offset, axis=1, keepdims=True)
    return curve(rng.random(n)) + radius * offset


SETS: dict[str, Callable[[np.random.Generator, Sources], Drawn]] = {
    "digits": _digits,
    "text": _text,
    "pbmc": _pbmc,
    "cells": _cells,
    "density": _density,
    "unequal": _unequal,
    "hierarchy": _hierarchy,
    "binary": _binary,
    "unit-vectors": _unit_vectors,
    "spoken": _spoken,
    "swiss-roll": _swiss_roll,
    "s-curve": _s_curve,
    "tree": _tree,
    "rings": _rings,
    "loops": _loops,
    "mammoth": _mammoth,
}

PREPARE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "text": _tf_idf,
    "cells": _normalised_components,
}
