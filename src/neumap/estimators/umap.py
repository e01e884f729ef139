"""``UMAP``: free positions, and the path of a fit that ``ParametricUMAP`` shares."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from neumap._device import resolve_device
from neumap._random import RandomState, resolve_seed
from neumap.callbacks import Callback, ProgressBar
from neumap.data import RowStore, Validated, as_rows, check_input
from neumap.estimators.checks import check_parameters
from neumap.estimators.graphs import Graph, GraphSettings, build_graph
from neumap.estimators.presets import Budget, table_plan
from neumap.losses import Kernel
from neumap.losses.terms import Softening, Term, UmapTerm
from neumap.sampling import EdgeSampler
from neumap.similarity import find_ab
from neumap.training import Embedder, Plan, TableEmbedder, optimizer_factory, train
from neumap.training.loop import History

__all__ = ["UMAP"]

logger = logging.getLogger(__name__)

# Free positions move one by one, so the exact kernel is safe from the start.
TABLE_SOFTENING = Softening(start=0.01, end=0.001, hold=0.0)
TABLE_PARTNERS = 5


@dataclass(frozen=True)
class _Fit:
    """What one fit works on, handed from step to step."""

    rows: RowStore
    graph: Graph
    seed: int
    device: torch.device


class UMAP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """placeholder."""

    def __init__(
        self,
        n_neighbors: int = 15,
        n_components: int = 2,
        *,
        metric: Any = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        output_metric: str = "euclidean",
        output_metric_kwds: dict[str, Any] | None = None,
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        init: str | ArrayLike = "spectral",
        min_dist: float = 0.1,
        spread: float = 1.0,
        low_memory: bool = True,
        n_jobs: int | None = -1,
        set_op_mix_ratio: float = 1.0,
        local_connectivity: float = 1.0,
        repulsion_strength: float = 1.0,
        negative_sample_rate: float = 5,
        transform_queue_size: float = 4.0,
        a: float | None = None,
        b: float | None = None,
        random_state: RandomState = None,
        angular_rp_forest: bool = False,
        target_n_neighbors: int = -1,
        target_metric: Any = "categorical",
        target_metric_kwds: dict[str, Any] | None = None,
        target_weight: float = 0.5,
        transform_seed: int = 42,
        transform_mode: Literal["embedding", "graph"] = "embedding",
        force_approximation_algorithm: bool = False,
        verbose: bool | int = False,
        tqdm_kwds: dict[str, Any] | None = None,
        unique: bool = False,
        densmap: bool = False,
        dens_lambda: float = 2.0,
        dens_frac: float = 0.3,
        dens_var_shift: float = 0.1,
        output_dens: bool = False,
        disconnection_distance: float | None = None,
        precomputed_knn: Any = None,
        batch_size: int | None = None,
        n_training_epochs: int = 1,
        loss_report_frequency: int = 10,
        optimizer: Any = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        max_time: float | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.metric = metric
        self.metric_kwds = metric_kwds
        self.output_metric = output_metric
        self.output_metric_kwds = output_metric_kwds
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.init = init
        self.min_dist = min_dist
        self.spread = spread
        self.low_memory = low_memory
        self.n_jobs = n_jobs
        self.set_op_mix_ratio = set_op_mix_ratio
        self.local_connectivity = local_connectivity
        self.repulsion_strength = repulsion_strength
        self.negative_sample_rate = negative_sample_rate
        self.transform_queue_size = transform_queue_size
        self.a = a
        self.b = b
        self.random_state = random_state
        self.angular_rp_forest = angular_rp_forest
        self.target_n_neighbors = target_n_neighbors
        self.target_metric = target_metric
        self.target_metric_kwds = target_metric_kwds
        self.target_weight = target_weight
        self.transform_seed = transform_seed
        self.transform_mode = transform_mode
        self.force_approximation_algorithm = force_approximation_algorithm
        self.verbose = verbose
        self.tqdm_kwds = tqdm_kwds
        self.unique = unique
        self.densmap = densmap
        self.dens_lambda = dens_lambda
        self.dens_frac = dens_frac
        self.dens_var_shift = dens_var_shift
        self.output_dens = output_dens
        self.disconnection_distance = disconnection_distance
        self.precomputed_knn = precomputed_knn
        self.batch_size = batch_size
        self.n_training_epochs = n_training_epochs
        self.loss_report_frequency = loss_report_frequency
        self.optimizer = optimizer
        self.callbacks = callbacks
        self.max_time = max_time
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Self:
        """Learn the map of X.

        Parameters
        ----------
        X : array-like, sparse matrix, table, Tensor, Dataset or AnnData, (n_samples, n_features)
            Training rows; distances (n_samples, n_samples) if ``metric="precomputed"``.
        y : array-like of shape (n_samples,), optional
            Labels (-1 for unlabelled rows) or values; see `target_metric`.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not as they should be.
        TrainingDivergedError
            If the loss is no longer finite.
        """
        self._fit(self._check_X(X, ensure_all_finite), y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn the map of X and return the positions of its rows.

        Parameters
        ----------
        X, y, **fit_params
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions. With ``output_dens=True`` a tuple with the original and the embedded local
            radii; with ``transform_mode="graph"`` the fuzzy graph as a sparse matrix.
        """
        self.fit(X, y, **fit_params)
        return self._fit_result()

    def _fit_result(self) -> Any:
        if self.transform_mode == "graph":
            return self.graph_
        if self.output_dens:
            return self.embedding_, self.rad_orig_, self.rad_emb_
        return self.embedding_

    def transform(
        self, X: Any, *, ensure_all_finite: bool | Literal["allow-nan"] = True
    ) -> NDArray[np.float32]:
        """Place rows on the learned map.

        Each row is placed on its own: near its neighbours among the training rows, then moved by
        the forces of UMAP while the training rows stay. A training row goes to its own position.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to place.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions; the same for a row whatever rows come with it.
        """
        check_is_fitted(self, "graph_")
        new = self._check_X(X, ensure_all_finite, fitted=True)
        return self._place(new)

    def _check_X(
        self, X: Any, ensure_all_finite: bool | Literal["allow-nan"], *, fitted: bool = False
    ) -> Validated:
        """Check data; while fitting, remember their width and column names."""
        checked = check_input(
            X,
            ensure_all_finite=ensure_all_finite,
            n_features=self.n_features_in_ if fitted else None,
            feature_names=getattr(self, "feature_names_in_", None) if fitted else None,
            min_rows=1 if fitted else 2,
            estimator_name=type(self).__name__,
        )
        if not fitted:
            self.n_features_in_ = checked.n_features
            if checked.feature_names is not None:
                self.feature_names_in_ = checked.feature_names
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return checked

    def _fit(self, data: Validated, y: Any) -> None:
        """Run the path of a fit on checked data."""
        began = time.perf_counter()
        check_parameters(self.get_params(deep=False))
        fit = self._start(data, y)
        self.graph_ = fit.graph.fuzzy.to_csr()
        self._n_features_out = self.n_components
        self.history_: History = {}
        embedder, terms = self._trained_parts(fit)
        plan = self._plan(fit)
        trained = time.perf_counter()
        self.history_ = self._train(fit, embedder, terms, plan)
        self._keep(fit, embedder)
        now = time.perf_counter()
        self.report_ = {
            "neighbors": fit.graph.neighbors.backend,
            "neighbor_recall": fit.graph.neighbors.recall,
            "neighbor_seconds": fit.graph.neighbor_seconds,
            "graph_seconds": fit.graph.fuzzy_seconds,
            "training_seconds": now - trained,
            "total_seconds": now - began,
            "n_steps": plan.n_steps,
            "n_edges": len(fit.graph.fuzzy.weights),
            "device": str(fit.device),
        }

    def _start(self, data: Validated, y: Any) -> _Fit:
        device = resolve_device(self.device)
        seed = resolve_seed(self.random_state)
        rows = as_rows(data.X, dims=self._dims(), device=device)
        graph = build_graph(rows.to_matrix(), self._graph_settings(), seed=seed, device=device)
        return _Fit(rows, graph, seed, device)

    def _dims(self) -> tuple[int, ...] | None:
        return None

    def _graph_settings(self) -> GraphSettings:
        return GraphSettings(
            n_neighbors=self.n_neighbors,
            metric=self.metric,
            metric_kwds=self.metric_kwds,
            set_op_mix_ratio=self.set_op_mix_ratio,
            local_connectivity=self.local_connectivity,
            disconnection_distance=self.disconnection_distance,
            precomputed_knn=self.precomputed_knn,
            force_approximation_algorithm=self.force_approximation_algorithm,
            n_jobs=self.n_jobs,
            verbose=bool(self.verbose),
        )

    def _kernel(self) -> Kernel:
        a, b = (self.a, self.b) if self.a is not None else find_ab(self.spread, self.min_dist)
        assert b is not None
        return Kernel(a, b, self.negative_sample_rate * self.repulsion_strength)

    def _budget(self) -> Budget:
        return Budget(
            n_epochs=self.n_epochs,
            n_training_epochs=self.n_training_epochs,
            batch_size=self.batch_size,
            n_reports=self.loss_report_frequency * self.n_training_epochs,
            learning_rate=self.learning_rate,
            max_time=self.max_time,
        )

    def _trained_parts(self, fit: _Fit) -> tuple[Embedder, list[Term]]:
        """Return what gives positions and the terms it is trained on."""
        from neumap.layout import initial_positions

        initial = initial_positions(
            self.init,
            graph=fit.graph.fuzzy,
            X_matrix=fit.rows.to_matrix(),
            n_components=self.n_components,
            seed=fit.seed,
        )
        embedder = TableEmbedder(initial).to(fit.device)
        return embedder, [UmapTerm(self._kernel(), TABLE_SOFTENING, TABLE_PARTNERS)]

    def _plan(self, fit: _Fit) -> Plan:
        total_weight = float(fit.graph.fuzzy.weights.sum(dtype=np.float64))
        return table_plan(
            self._budget(), fit.rows.n_rows, total_weight, own_optimizer=self.optimizer is not None
        )

    def _train(
        self, fit: _Fit, embedder: Embedder, terms: Sequence[Term], plan: Plan
    ) -> History:
        return train(
            embedder,
            terms,
            EdgeSampler(fit.graph.fuzzy, seed=fit.seed, device=fit.device),
            plan,
            seed=fit.seed,
            optimizer=optimizer_factory(self.optimizer),
            callbacks=self._watchers(),
        )

    def _watchers(self) -> list[Callback]:
        """Return the user's callbacks, and a progress bar where one is wanted."""
        given = self.callbacks
        chosen = [given] if isinstance(given, Callback) else list(given or ())
        if self.verbose:
            chosen.append(ProgressBar(**(self.tqdm_kwds or {})))
        return chosen

    def _keep(self, fit: _Fit, embedder: Embedder) -> None:
        """Set the learned attributes."""
        self.embedding_ = embedder.embed()

    def _place(self, new: Validated) -> NDArray[np.float32]:
        raise NotImplementedError
