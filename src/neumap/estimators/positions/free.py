"""Free positions: one parameter per row and dimension, as in plain UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neumap.estimators.graph import Graph
from neumap.estimators.positions.forces import Forces
from neumap.estimators.positions.optimizers import resolve_optimizer
from neumap.estimators.positions.presets import Budget, free_plan
from neumap.estimators.task import Task
from neumap.layout import check_initial, initial_positions
from neumap.losses.output_metrics import OutputMetric
from neumap.losses.terms import Softening
from neumap.training import Embedder, FreeEmbedder, Plan
from neumap.training.optimizers import OptimizerFactory

__all__ = ["FreePositions"]

FORCES = Forces(
    # Free positions move one by one, so the exact kernel is safe from the start.
    softening=Softening(start=0.01, end=0.001, hold=0.0),
    n_negatives=10,
    # umap-learn pushes one end of a negative pair. Here both ends move, so 0.5 is its balance. At
    # 0.7 maps keep more neighbours; above, what is long and thin meanders.
    repulsion=0.7,
    # The gradient of umap-learn has the balance of 2, but it clips the contribution of each edge.
    # At a quarter the embedding keeps densities as well as its own; see "densMAP" in
    # docs/decisions.md.
    density=0.25,
)


@dataclass(frozen=True)
class FreePositions:
    """Settings of free positions.

    Attributes
    ----------
    init : str or array
        See the parameter `init` of :class:`neumap.UMAP`.
    n_components : int
        Dimensions of the embedding.
    budget : Budget
        Length of the training.
    optimizer : object
        See the parameter `optimizer`.
    output_metric : OutputMetric or None
        Of the embedding; None for Euclidean distance.
    """

    init: Any
    n_components: int
    budget: Budget
    optimizer: Any
    output_metric: OutputMetric | None = None

    @property
    def forces(self) -> Forces:
        """Balance of the objective."""
        return FORCES

    def check(self) -> None:
        """Raise for settings that cannot act; there are none besides those of single parameters."""

    def network(self, task: Task) -> None:
        """Return None: there is no network. Initial positions must fit the rows.

        Raises
        ------
        ValueError
            If `init` is an array for another number of rows or dimensions, or is not finite.
        """
        if not isinstance(self.init, str):
            check_initial(self.init, (task.rows.n_rows, self.n_components))

    def build(self, task: Task, network: nn.Module | None, graph: Graph) -> FreeEmbedder:
        """Return the positions to train, at their start."""
        start = task.warm_start
        if start is not None and start.initial is not None:
            initial = start.initial
        else:
            initial = self._start(task, graph)
        return FreeEmbedder(initial).to(task.device)

    def _start(self, task: Task, graph: Graph) -> NDArray[np.float32]:
        metric = self.output_metric
        if metric is not None and not isinstance(self.init, str):
            # Stretched to other lengths, coordinates of a sphere would be other places on it.
            return check_initial(self.init, (task.rows.n_rows, self.n_components)).astype("f4")
        is_auto = isinstance(self.init, str) and self.init == "auto"
        n_planar = None if metric is None else metric.n_planar
        flat = initial_positions(
            "spectral" if is_auto else self.init,
            graph=graph.fuzzy,
            X_matrix=task.rows.to_matrix(),
            n_components=n_planar or self.n_components,
            seed=task.seed,
        )
        return flat if metric is None else metric.start(flat, self.n_components)

    def plan(self, n_rows: int, total_weight: float, embedder: Embedder | None = None) -> Plan:
        """Return the course of the training."""
        return free_plan(
            self.budget,
            n_rows,
            total_weight,
            has_user_optimizer=self.optimizer is not None,
            starts_in_order=isinstance(self.init, str) and self.init != "random",
        )

    def optimizer_factory(self, *networks: nn.Module | None) -> OptimizerFactory:
        """Return a function from parameters to an optimiser."""
        return resolve_optimizer(self.optimizer)
