"""From constructor parameters to the values that a fit works with."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neumap._random import RandomState
from neumap._warnings import warn_user
from neumap.callbacks import Callback, Checkpoint, ProgressBar
from neumap.estimators.constraints import short_text
from neumap.estimators.graph import GraphSettings, TargetSettings, check_target_metric
from neumap.estimators.objective import (
    Density,
    Landmarking,
    Objective,
    Reconstruction,
    Similarity,
)
from neumap.estimators.positions import FreePositions, NetworkPositions
from neumap.estimators.positions.presets import Budget
from neumap.keras_bridge import split_fit_kwargs, wrap_callbacks
from neumap.losses import Kernel
from neumap.neighbors import resolve_metric

__all__ = ["Observers", "Recipe", "free_recipe", "parametric_recipe"]

Parameters = Mapping[str, Any]

# Factor on the weight of repulsion of a new row, as in version 0.1, whose models place rows alike.
NEW_ROWS_REPULSION = 0.5

# Parameters that act only while a switch of ParametricUMAP is on, with the values that ask for
# nothing.
BEHIND_A_SWITCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "parametric_reconstruction": {
        "decoder": (None,),
        "parametric_reconstruction_loss_fcn": (None,),
        "autoencoder_loss": (False,),
        "reconstruction_rows": ("auto", None),
    },
    "parametric_embedding": {"encoder": (None,), "guide": (None, "auto")},
}


@dataclass(frozen=True)
class Observers:
    """What follows a training: callbacks, a progress bar, held-out rows for the decoder."""

    callbacks: Any
    verbose: bool
    tqdm_kwds: dict[str, Any] | None
    keras_fit_kwargs: dict[str, Any] | None = None
    reconstruction_validation: Any = None

    def check(self) -> None:
        """Raise for callbacks or arguments of the progress bar that cannot act."""
        for callback in self.all_callbacks:
            if isinstance(callback, ProgressBar):
                _check_bar(callback.tqdm_kwds)

    @cached_property
    def all_callbacks(self) -> tuple[Callback, ...]:
        """The user's callbacks, and a progress bar where one is wanted.

        Those of Keras are wrapped once, when the check of a fit first asks for them.

        Raises
        ------
        TypeError, ValueError
            For a callback of another kind, or a key of `keras_fit_kwargs` that cannot act.
        """
        options = split_fit_kwargs(self.keras_fit_kwargs)
        chosen = list(wrap_callbacks(self.callbacks))
        if self.verbose if options.verbose is None else options.verbose:
            chosen.append(ProgressBar(tqdm_kwds=self.tqdm_kwds))
        return (*chosen, *options.callbacks)


def _check_bar(tqdm_kwds: Mapping[str, Any]) -> None:
    """Open a bar that writes nowhere: tqdm checks its arguments when it begins."""
    from tqdm.std import tqdm

    try:
        tqdm(**{**tqdm_kwds, "total": 1, "file": io.StringIO()}).close()
    except Exception as error:
        raise ValueError(
            f"tqdm_kwds must hold arguments of tqdm.tqdm, got {short_text(dict(tqdm_kwds))} "
            f"({error}). Correct or remove them."
        ) from error


@dataclass(frozen=True)
class Recipe:
    """All settings of a fit, as values.

    Attributes
    ----------
    graph : GraphSettings
        Neighbours and memberships.
    targets : TargetSettings
        How y acts on the graph.
    positions : FreePositions or NetworkPositions
        What gives positions.
    objective : Objective
        What is minimised.
    observers : Observers
        What follows the training.
    n_components : int
        Dimensions of the embedding.
    dims : tuple of int or None
        Shape of one row for the network.
    unique : bool
        Whether to train on distinct rows only.
    stops_at_graph : bool
        Whether the graph is the result.
    keeps_radii : bool
        Whether local radii are part of the result.
    n_epochs : int or None
        0 leaves positions at their start.
    device, random_state
        As given.
    transform_seed : int
        For the negatives of new rows.
    n_anchors : int, "auto" or None
        Rows whose neighbours are searched for.
    column : str or None
        Column of a table with one vector per row.
    idle : tuple of str
        Parameters that have no effect, each with the switch that is off.
    settings : mapping
        The parameters themselves, by name.
    """

    graph: GraphSettings
    targets: TargetSettings
    positions: FreePositions | NetworkPositions
    objective: Objective
    observers: Observers
    n_components: int
    dims: tuple[int, ...] | None
    unique: bool
    stops_at_graph: bool
    keeps_radii: bool
    n_epochs: int | None
    device: str | torch.device
    random_state: RandomState
    transform_seed: int
    n_anchors: int | str | None = None
    column: str | None = None
    idle: tuple[tuple[str, str], ...] = ()
    settings: Parameters = field(default_factory=dict)

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether a callback writes checkpoints."""
        return any(isinstance(called, Checkpoint) for called in self.observers.all_callbacks)

    @property
    def kernel(self) -> Kernel:
        """Similarity in the embedding and weight of repulsion."""
        return self.objective.similarity.kernel(self.positions.forces)

    def for_regression(self) -> Recipe:
        """Return the recipe for learning positions that are given."""
        if not isinstance(self.positions, NetworkPositions):
            return self
        return replace(self, positions=self.positions.for_regression())

    @property
    def kernel_of_new_rows(self) -> Kernel:
        """The kernel under which new rows move between training rows that stay."""
        forces = replace(self.positions.forces, repulsion=NEW_ROWS_REPULSION)
        return self.objective.similarity.kernel(forces)

    def graph_settings_of_the_fit(self) -> GraphSettings:
        """Return the graph settings with the seed of the fit, where that is a number.

        A generator has moved on since the fit.
        """
        state = self.random_state
        return replace(self.graph, seed=int(state) if isinstance(state, int | np.integer) else None)

    def check(self) -> None:
        """Check what depends on more than one parameter.

        Raises
        ------
        ValueError, TypeError
            Naming the parameters, what they may be and what they are.

        Warns
        -----
        UserWarning
            Of parameters that have no effect because a switch is off.
        """
        self.objective.similarity.check()
        self.positions.check()
        self.positions.optimizer_factory()
        self.observers.check()
        check_target_metric(self.targets)
        metric = self.graph.metric
        if not (isinstance(metric, str) and metric == "precomputed"):
            resolve_metric(metric, self.graph.metric_kwds)
        elif self.unique:
            raise ValueError(
                "unique=True finds equal rows, which a matrix of distances does not hold. Set "
                "unique=False, or pass the distances of distinct rows only."
            )
        has_network = isinstance(self.positions, NetworkPositions)
        can_validate = self.objective.reconstruction is not None and has_network
        if self.observers.reconstruction_validation is not None and not can_validate:
            raise ValueError(
                "reconstruction_validation needs an encoder and a decoder to validate. Set "
                "parametric_reconstruction=True, with parametric_embedding=True."
            )
        for name, switch in self.idle:
            warn_user(
                f"{name} has no effect while {switch}=False. Set {switch}=True, or leave "
                f"{name} out."
            )


def free_recipe(p: Parameters) -> Recipe:
    """Return the recipe of :class:`neumap.UMAP`."""
    return Recipe(
        graph=_graph_settings(p),
        targets=TargetSettings(
            metric=p["target_metric"],
            metric_kwds=p["target_metric_kwds"],
            weight=p["target_weight"],
            n_neighbors=_target_neighbors(p),
        ),
        positions=FreePositions(p["init"], p["n_components"], _budget(p), p["optimizer"]),
        objective=Objective(_similarity(p), _density(p)),
        observers=Observers(p["callbacks"], bool(p["verbose"]), p["tqdm_kwds"]),
        n_components=p["n_components"],
        dims=None,
        unique=p["unique"],
        stops_at_graph=p["transform_mode"] == "graph",
        keeps_radii=p["output_dens"],
        n_epochs=p["n_epochs"],
        device=p["device"],
        random_state=p["random_state"],
        transform_seed=p["transform_seed"],
        column=p["column"],
        settings=dict(p),
    )


def parametric_recipe(p: Parameters) -> Recipe:
    """Return the recipe of :class:`neumap.ParametricUMAP`."""
    base = free_recipe(p)
    positions: FreePositions | NetworkPositions = base.positions
    if p["parametric_embedding"]:
        positions = NetworkPositions(
            encoder=p["encoder"],
            n_components=p["n_components"],
            named_preset=p["preset"],
            metric=p["metric"],
            init=p["init"],
            budget=base.positions.budget,
            optimizer=p["optimizer"],
            guide=p["guide"],
        )
    return replace(
        base,
        positions=positions,
        objective=replace(
            base.objective,
            landmarks=Landmarking(p["landmark_loss_weight"], p["landmark_loss_fn"]),
            reconstruction=_reconstruction(p) if p["parametric_reconstruction"] else None,
            correlation_weight=p["global_correlation_loss_weight"],
            classifier_weight=p["classifier_loss_weight"],
        ),
        observers=replace(
            base.observers,
            keras_fit_kwargs=p["keras_fit_kwargs"],
            reconstruction_validation=p["reconstruction_validation"],
        ),
        dims=None if p["dims"] is None else tuple(p["dims"]),
        n_anchors=p["n_anchors"],
        idle=tuple(
            (name, switch)
            for switch, names in BEHIND_A_SWITCH.items()
            for name, neutral in names.items()
            if not p[switch] and not _is_neutral(p[name], neutral)
        ),
    )


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    if isinstance(value, str):
        return value in neutral
    return any(value is one for one in neutral)


def _graph_settings(p: Parameters) -> GraphSettings:
    return GraphSettings(
        n_neighbors=p["n_neighbors"],
        metric=p["metric"],
        metric_kwds=p["metric_kwds"],
        set_op_mix_ratio=p["set_op_mix_ratio"],
        local_connectivity=p["local_connectivity"],
        disconnection_distance=p["disconnection_distance"],
        precomputed_knn=p["precomputed_knn"],
        force_approximation_algorithm=p["force_approximation_algorithm"],
        angular_rp_forest=p["angular_rp_forest"],
        low_memory=p["low_memory"],
        n_jobs=p["n_jobs"],
        transform_queue_size=p["transform_queue_size"],
        seed=p["transform_seed"],  # for questions after the fit; a fit searches with its own
        verbose=bool(p["verbose"]),
    )


def _target_neighbors(p: Parameters) -> int:
    own: int = p["target_n_neighbors"]
    return p["n_neighbors"] if own == -1 else own


def _similarity(p: Parameters) -> Similarity:
    repulsion = p["negative_sample_rate"] * p["repulsion_strength"]
    return Similarity(p["a"], p["b"], p["min_dist"], p["spread"], repulsion)


def _density(p: Parameters) -> Density | None:
    if not p["densmap"]:
        return None
    return Density(p["dens_lambda"], p["dens_frac"], p["dens_var_shift"])


def _budget(p: Parameters) -> Budget:
    return Budget(
        n_epochs=p["n_epochs"],
        n_training_epochs=p["n_training_epochs"],
        batch_size=p["batch_size"],
        n_reports=p["loss_report_frequency"] * p["n_training_epochs"],
        learning_rate=p["learning_rate"],
        max_time=p["max_time"],
    )


def _reconstruction(p: Parameters) -> Reconstruction:
    return Reconstruction(
        decoder=p["decoder"],
        preset=p["preset"],
        loss=p["parametric_reconstruction_loss_fcn"],
        weight=p["parametric_reconstruction_loss_weight"],
        trains_encoder=p["autoencoder_loss"],
        rows=p["reconstruction_rows"],
    )
