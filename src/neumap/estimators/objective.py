"""From parameters to the terms of the objective and the networks that they train.

Networks are built from the rows alone, before the neighbour search, so that a network that does not
fit is refused at once. Terms are built from the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from neumap._labels import Classes
from neumap._random import layers_seeded
from neumap.data import RowStore
from neumap.estimators.graph import Graph
from neumap.estimators.positions.decoding import decoded_rows, some_positions
from neumap.estimators.positions.forces import Forces
from neumap.estimators.positions.losses import try_landmark_loss, try_reconstruction_loss
from neumap.estimators.positions.networks import prepare_decoder
from neumap.estimators.positions.presets import Preset, resolve_preset
from neumap.estimators.positions.reconstruction import (
    choose_loss,
    suited_to,
    warn_of_held_out,
    warn_of_units,
)
from neumap.estimators.radii import map_edges
from neumap.estimators.targets import encode_classes
from neumap.estimators.task import Task
from neumap.losses import Kernel
from neumap.losses.classifier import ClassifierTerm
from neumap.losses.correlation import CorrelationTerm
from neumap.losses.density import DensityTerm, MapDensity
from neumap.losses.landmarks import LandmarkTerm
from neumap.losses.metric_umap import MetricUmapTerm
from neumap.losses.output_metrics import OutputMetric
from neumap.losses.reconstruction import ReconstructionLoss, ReconstructionTerm, validation_loss
from neumap.losses.regularization import regularization_term
from neumap.losses.terms import Term, UmapTerm
from neumap.propagation import spread_labels
from neumap.similarity import find_ab
from neumap.training import Embedder, FreeEmbedder
from neumap.training.loop import Validation
from neumap.training.precision import choose_precision

__all__ = ["Density", "Landmarking", "Networks", "Objective", "Reconstruction", "Similarity"]

# Share of the rows with propagated labels that the classifier does not learn: those nearest to
# other classes. See "Few labels" in docs/decisions.md.
UNSURE_SHARE = 0.1


@dataclass(frozen=True)
class Similarity:
    """The curve ``q = 1 / (1 + a d^(2b))`` as the constructor names it, and what repels."""

    a: float | None
    b: float | None
    min_dist: float
    spread: float
    repulsion: float

    def check(self) -> None:
        """Raise ValueError if the parameters contradict each other."""
        if (self.a is None) != (self.b is None):
            raise ValueError(
                f"a and b describe one curve together, got a={self.a!r} and b={self.b!r}. Give "
                "both, or neither and use min_dist and spread."
            )
        if self.min_dist > self.spread:
            raise ValueError(
                f"min_dist must be at most spread, got min_dist={self.min_dist} with "
                f"spread={self.spread}. Lower min_dist or raise spread."
            )

    def kernel(self, forces: Forces) -> Kernel:
        """Return the kernel with the weight of repulsion for one kind of positions."""
        a, b = self.a, self.b
        if a is None or b is None:
            a, b = _fitted_ab(self.spread, self.min_dist)
        return Kernel(float(a), float(b), self.repulsion * forces.repulsion)


@lru_cache(maxsize=64)
def _fitted_ab(spread: float, min_dist: float) -> tuple[float, float]:
    return find_ab(spread, min_dist)


@dataclass(frozen=True)
class Density:
    """The term of densMAP: its weight before the positions' own factor, share and shift."""

    weight: float
    share: float
    var_shift: float


@dataclass(frozen=True)
class Landmarking:
    """How positions are kept: weight and loss function, None for the distance."""

    weight: float = 1.0
    loss_fn: Any = None


@dataclass(frozen=True)
class Reconstruction:
    """Settings of a decoder, as the constructor names them."""

    decoder: Any
    preset: str | Preset
    loss: Any
    weight: float
    trains_encoder: bool
    rows: str | int | None = "auto"


@dataclass(frozen=True)
class Networks:
    """The networks of a fit, ready to be trained; None for those that were not asked for."""

    encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    reconstruction_loss: ReconstructionLoss | None = None
    classifier: nn.Module | None = None
    classes: Classes | None = None
    n_components: int = 2

    @property
    def modules(self) -> list[nn.Module]:
        """Those that there are."""
        each = (self.encoder, self.decoder, self.classifier)
        return [module for module in each if module is not None]


@dataclass(frozen=True)
class Objective:
    """Everything that is minimised.

    Attributes
    ----------
    similarity : Similarity
        Of the UMAP term.
    density : Density or None
        Of the densMAP term.
    landmarks : Landmarking
        For fits that keep positions.
    reconstruction : Reconstruction or None
        Of the decoder.
    correlation_weight : float
        Of the global correlation term.
    classifier_weight : float
        Of the classifier.
    metric : OutputMetric or None
        Of the embedding; None for Euclidean distance.
    """

    similarity: Similarity
    density: Density | None = None
    landmarks: Landmarking = Landmarking()
    reconstruction: Reconstruction | None = None
    correlation_weight: float = 0.0
    classifier_weight: float = 0.0
    metric: OutputMetric | None = None

    def networks(
        self, task: Task, encoder: nn.Module | None, n_components: int, *, learns: bool = True
    ) -> Networks:
        """Return the networks to train, next to the encoder.

        With ``learns=False`` the fit trains nothing.

        Raises
        ------
        ValueError, TypeError
            If a decoder does not fit, the loss does not suit the data, or labels are missing.
        """
        decoder = loss = classifier = classes = None
        if self.reconstruction is not None:
            given = self.reconstruction
            hidden = resolve_preset(given.preset).hidden
            decoder = prepare_decoder(
                given.decoder, task.rows, n_components, hidden, task.seed, learns=learns
            )
            loss = choose_loss(given.loss, task.rows)
            if given.decoder is not None and not isinstance(given.decoder, str):
                loss = suited_to(loss, decoder, n_components, task.device)
            elif learns:
                warn_of_units(loss, task.rows, task.seed)
            try_reconstruction_loss(loss, task.rows)
        kept = task.warm_positions()
        if kept is not None and self.landmarks.loss_fn is not None:
            try_landmark_loss(self.landmarks.loss_fn, kept)
        if self.classifier_weight:
            classes = _classes(task)
            with layers_seeded(task.seed, "classifier"):
                classifier = nn.Linear(n_components, len(classes.labels)).to(task.device)
        return Networks(encoder, decoder, loss, classifier, classes, n_components)

    def terms(
        self, task: Task, networks: Networks, graph: Graph, embedder: Embedder, forces: Forces
    ) -> list[Term]:
        """Return the terms of the objective, those that were asked for."""
        kernel = self.similarity.kernel(forces)
        terms: list[Term] = []
        if task.warm_start is None or not task.warm_start.only_landmarks:
            terms.append(_umap_term(kernel, self.metric, forces))
        if self.density is not None:
            terms.append(_density_term(self.density, kernel, forces, graph, embedder, task.device))
        if task.warm_start is not None:
            terms.append(self._landmark_term(task))
        if networks.decoder is not None:
            terms.append(self._reconstruction_term(networks, task.rows, embedder))
        if self.correlation_weight:
            terms.append(CorrelationTerm(self.correlation_weight, rows=task.rows))
        penalty = regularization_term([networks.encoder, networks.decoder])
        if penalty is not None:
            terms.append(penalty)  # before the classifier, which runs the encoder once more
        if networks.classifier is not None:
            terms.append(self._classifier_term(networks, graph, embedder, task.device))
        return terms

    def validation(self, networks: Networks, held_out: RowStore) -> Validation:
        """Return a function that gives the reconstruction loss of held-out rows."""
        assert self.reconstruction is not None
        weight = self.reconstruction.weight
        encoder, decoder, loss = networks.encoder, networks.decoder, networks.reconstruction_loss
        assert encoder is not None
        assert decoder is not None
        assert loss is not None
        warn_of_held_out(loss, held_out)

        def validate() -> dict[str, float]:
            value = validation_loss(encoder, decoder, loss, held_out)
            return {"val_loss": weight * value, "val_reconstruction_loss": value}

        return validate

    def _landmark_term(self, task: Task) -> LandmarkTerm:
        positions, start = task.warm_positions(), task.warm_start
        assert positions is not None
        assert start is not None
        weight = self.landmarks.weight if start.loss_weight is None else start.loss_weight
        targets = torch.from_numpy(positions).to(task.device)
        return LandmarkTerm(targets, weight, self.landmarks.loss_fn)

    def _reconstruction_term(
        self, networks: Networks, rows: RowStore, embedder: Embedder
    ) -> ReconstructionTerm:
        given = self.reconstruction
        assert given is not None
        assert networks.decoder is not None
        assert networks.reconstruction_loss is not None
        hidden = resolve_preset(given.preset).hidden
        positions = some_positions(networks.n_components, rows.device)
        return ReconstructionTerm(
            networks.decoder,
            networks.reconstruction_loss,
            weight=given.weight,
            joint=given.trains_encoder,
            rows=rows,
            decoded=decoded_rows(
                given.rows, rows, embedder.flops, networks.decoder, positions, hidden
            ),
            mixed=choose_precision(networks.decoder, positions),
        )

    def _classifier_term(
        self, networks: Networks, graph: Graph, embedder: Embedder, device: torch.device
    ) -> ClassifierTerm:
        assert networks.classifier is not None
        assert networks.classes is not None
        codes, anchors = networks.classes.codes, None
        if (codes < 0).any():
            anchors = torch.from_numpy(np.flatnonzero(codes >= 0)).to(device)
            codes = spread_labels(graph.fuzzy, codes, leave_out=UNSURE_SHARE)
        return ClassifierTerm(
            networks.classifier,
            torch.from_numpy(codes).to(device),
            weight=self.classifier_weight,
            embed=None if anchors is None else embedder.embed,
            anchors=anchors,
        )


def _classes(task: Task) -> Classes:
    if task.targets is None:
        raise ValueError(
            "classifier_loss_weight needs labels: call fit(X, y), with -1 for rows without one. It "
            "requires y to be passed, but the target y is None."
        )
    return encode_classes(task.targets)


def _umap_term(kernel: Kernel, metric: OutputMetric | None, forces: Forces) -> Term:
    if metric is None:
        return UmapTerm(kernel, forces.softening, forces.n_negatives)
    return MetricUmapTerm(kernel, metric, forces.softening, forces.n_negatives)


def _density_term(
    density: Density,
    kernel: Kernel,
    forces: Forces,
    graph: Graph,
    embedder: Embedder,
    device: torch.device,
) -> Term:
    weight, start = forces.density * density.weight, 1.0 - density.share
    radii = torch.from_numpy(graph.radii()).to(device)
    if isinstance(embedder, FreeEmbedder):
        assert graph.neighbors is not None  # or there are no radii
        n_neighbors = graph.neighbors.indices.shape[1]
        return MapDensity(
            embedder.positions,
            radii,
            lambda positions: map_edges(positions, n_neighbors),
            weight=weight,
            var_shift=density.var_shift,
            start=start,
        )
    return DensityTerm(radii, weight, kernel.a, kernel.b, density.var_shift, start)
