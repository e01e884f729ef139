"""The methods that are compared, with default settings unless the name says otherwise.

Every interpreter imports this file, so it needs nothing but the standard library. A method imports
its library in `load`, which is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Method(Protocol):
    """One way to fit and transform."""

    packages: tuple[str, ...]  # their versions are recorded
    environment: dict[str, str]  # set before its process starts
    is_peer: bool  # runs in the interpreter with umap-learn

    def load(self) -> None:
        """Import the library."""

    def make(self, random_state: int | None) -> Any:
        """Return an estimator that has not been fitted."""

    def stages(self, fitted: Any) -> dict[str, float]:
        """Return the seconds of `neighbors` and `graph` within the last fit."""


class Neumap:
    """An estimator of neumap."""

    is_peer = False

    def __init__(self, estimator: str, **parameters: Any) -> None:
        self.packages: tuple[str, ...] = (
            "neumap",
            "torch",
            "numpy",
            "scipy",
            "scikit-learn",
            "faiss-cpu",
        )
        self.environment: dict[str, str] = {}
        self.estimator = estimator
        self.parameters = parameters

    def load(self) -> None:
        import neumap

        self.make_estimator = getattr(neumap, self.estimator)

    def make(self, random_state: int | None) -> Any:
        return self.make_estimator(random_state=random_state, **self.parameters)

    def stages(self, fitted: Any) -> dict[str, float]:
        report = fitted.report_
        return {"neighbors": report["neighbor_seconds"], "graph": report["graph_seconds"]}


class UmapLearn:
    """An estimator of umap-learn; its stages are timed by wrapping the functions that run them."""

    is_peer = True

    def __init__(self, *, parametric: bool) -> None:
        self.parametric = parametric
        self.packages: tuple[str, ...] = ("umap-learn", "pynndescent", "numba", "numpy")
        self.environment = {}
        if parametric:
            self.packages += ("keras", "tensorflow-cpu", "tensorflow")
            self.environment = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.seconds: dict[str, float] = {}

    def load(self) -> None:
        import umap.umap_

        self.make_estimator = umap.umap_.UMAP
        if self.parametric:
            from umap.parametric_umap import ParametricUMAP

            self.make_estimator = ParametricUMAP
        for stage, name in (("neighbors", "nearest_neighbors"), ("graph", "fuzzy_simplicial_set")):
            setattr(umap.umap_, name, self._timed(stage, getattr(umap.umap_, name)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            # Up to 4,096 rows the graph function searches the neighbours itself; count them once.
            inside = self.seconds.get("neighbors", 0.0)
            began = time.perf_counter()
            result = function(*arguments, **options)
            spent = time.perf_counter() - began
            if stage == "graph":
                spent -= self.seconds.get("neighbors", 0.0) - inside
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            return result

        return timed

    def make(self, random_state: int | None) -> Any:
        self.seconds.clear()
        return self.make_estimator(random_state=random_state)

    def stages(self, fitted: Any) -> dict[str, float]:
        return {stage: self.seconds.get(stage, 0.0) for stage in ("neighbors", "graph")}


METHODS: dict[str, Method] = {
    "neumap": Neumap("ParametricUMAP"),
    "neumap-fast": Neumap("ParametricUMAP", preset="fast"),
    "neumap-best": Neumap("ParametricUMAP", preset="best"),
    "neumap-free": Neumap("UMAP"),
    "umap": UmapLearn(parametric=False),
    "umap-parametric": UmapLearn(parametric=True),
}
