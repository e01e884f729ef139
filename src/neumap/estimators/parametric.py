"""``ParametricUMAP``: a network that gives positions."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import nn

from neumap._random import RandomState, numpy_generator, resolve_seed, torch_seeded
from neumap.callbacks import Callback
from neumap.data import RowStore, Validated, as_rows
from neumap.estimators.checks import check_batch_size, check_switches
from neumap.estimators.confidence import Confidence, Signs, compare, measure_signs, steepness
from neumap.estimators.encoders import (
    input_noise,
    prepare_decoder,
    prepare_encoder,
    spare_dimensions,
)
from neumap.estimators.fitting import (
    Fit,
    check_positions,
    device_of,
    encode_classes,
    reached_correlation,
    row_count,
)
from neumap.estimators.landmarks import (
    Landmarks,
    Memory,
    SampleMode,
    check_landmark_positions,
    choose_landmarks,
)
from neumap.estimators.pipeline import export_part
from neumap.estimators.presets import PRESETS, Preset, encoder_plan
from neumap.estimators.queries import neighbors_of_sample
from neumap.estimators.reconstruction import choose_loss
from neumap.estimators.umap import UMAP
from neumap.fuzzy import FuzzyGraph
from neumap.keras_bridge import split_fit_kwargs
from neumap.losses.classifier import ClassifierTerm
from neumap.losses.correlation import CorrelationTerm
from neumap.losses.reconstruction import ReconstructionTerm, validation_loss
from neumap.losses.regularization import regularization_term
from neumap.losses.terms import Term, UmapTerm
from neumap.networks import MLP, ConvEncoder
from neumap.propagation import spread_labels
from neumap.training import AuxiliaryDimensions, Embedder, EncoderEmbedder, Muon, Plan
from neumap.training.embedders import encode_rows
from neumap.training.loop import Validation
from neumap.training.optimizers import OptimizerFactory

__all__ = ["ParametricUMAP"]


# Of the rows that few labels are spread to, the share nearest to other classes: the classifier does
# not learn it. See "Few labels" in docs/decisions.md.
UNSURE_SHARE = 0.3


def _has_classifier(model: ParametricUMAP) -> bool:
    """Whether `predict` has something to ask; scikit-learn looks for the method."""
    if model.classifier_loss_weight or hasattr(model, "classifier_"):
        return True
    raise AttributeError(
        "There is no classifier. Fit with classifier_loss_weight=1.0 and labels y to train one "
        "with the map."
    )


class ParametricUMAP(UMAP):
    r"""Parametric UMAP: a network learns the map, so that new rows land on it at once.

    Names, meanings and defaults are those of ``umap.parametric_umap.ParametricUMAP`` and its
    documentation; ``docs/from_umap_learn.md`` goes through them one by one.

    Parameters
    ----------
    n_neighbors, n_components, metric, metric_kwds, min_dist, spread, set_op_mix_ratio
        As in :class:`UMAP`.
    local_connectivity, disconnection_distance, precomputed_knn, unique, a, b
        As in :class:`UMAP`.
    low_memory, n_jobs, angular_rp_forest, force_approximation_algorithm, transform_queue_size
        As in :class:`UMAP`: the search for neighbours.
    target_metric, target_metric_kwds, target_weight, target_n_neighbors
        As in :class:`UMAP`: how labels reshape the graph. A network parts rows that look alike
        only as far as it can tell them apart; see `classifier_loss_weight`.
    densmap, dens_lambda, dens_frac, dens_var_shift, output_dens
        As in :class:`UMAP`.
    repulsion_strength, negative_sample_rate, transform_mode, random_state, device, max_time
        As in :class:`UMAP`.
    verbose, tqdm_kwds, callbacks, loss_report_frequency, n_training_epochs
        As in :class:`UMAP`.
    optimizer : str, torch.optim class or instance, Keras optimizer or callable, optional
        By default the package's networks train with Muon (orthogonal steps for the square matrices
        of hidden layers, Adam for the rest), others with Adam; the step size falls to zero along
        a cosine. ``"muon"`` chooses it for any network. An optimiser that is given keeps its own
        learning rate.
    output_metric, output_metric_kwds
        As in :class:`UMAP`: Euclidean only.
    transform_seed : int, default=42
        Acts with ``parametric_embedding=False`` only; an encoder draws nothing.
    init : "auto", or as in :class:`UMAP`
        An encoder starts from its weights, so anything but ``"auto"`` raises for it. Free
        positions (``parametric_embedding=False``) start as in :class:`UMAP`.
    n_epochs : int, optional
        Length of the training in UMAP's epochs, each of which draws every edge as often as it
        weighs. By default the preset decides, which takes far fewer steps; see Notes. 0 leaves
        the weights as they are.
    learning_rate : float, default=1.0
        Factor on the preset's step size. 0.3 to 3; lower it where the loss diverges. An
        `optimizer` of your own brings its own instead.
    batch_size : int, optional
        Edges per step, each of which is two rows for the encoder. By default the preset's 512, or
        a quarter of the rows (but 64) where there are fewer than 2,048. Larger batches average
        more and step less often per row seen; 128 to 4,096.
    dims : tuple of int, optional
        Shape of one row for the network, such as ``(28, 28, 1)``; X may be flat or shaped, in
        :meth:`fit` and in :meth:`transform` alike.
    encoder : torch.nn.Module, Keras model or {"mlp", "residual", "conv"}, optional
        The network from rows to positions, `n_components` wide at its end. It is copied, never
        trained in place. None and ``"mlp"`` build the preset's layers, ``"residual"`` the same
        with skip connections, ``"conv"`` a small convolutional one for images. The package's own
        networks standardise their input; one of yours sees the rows as they are.
    decoder : torch.nn.Module, Keras model or "conv", optional
        The network back, with ``parametric_reconstruction=True``. By default an MLP like the
        encoder.
    parametric_embedding : bool, default=True
        False learns free positions instead, as :class:`UMAP` does, in the same loop.
    parametric_reconstruction : bool, default=False
        Train a decoder, which :meth:`inverse_transform` uses.
    parametric_reconstruction_loss_fcn : str, callable or Keras loss, optional
        ``"bce"``, ``"mse"``, ``"mae"``, ``"huber"`` or ``f(truth, reconstruction)``. By default
        cross entropy for data in [0, 1] and squared error for others.
    parametric_reconstruction_loss_weight : float, default=1.0
        Weight of the reconstruction. Matters with `autoencoder_loss`; 0.1 to 10.
    autoencoder_loss : bool, default=False
        Let the reconstruction train the encoder too. Otherwise the map is as without a decoder.
    reconstruction_validation : array-like, optional
        Held-out rows, whose reconstruction loss joins each report as ``val_loss``.
    global_correlation_loss_weight : float, default=0.0
        Weight of a term that correlates far distances on the map with those in the data. 0.01 to
        1; larger trades neighbourhoods for the arrangement of clusters.
    landmark_loss_fn : callable, optional
        ``f(targets, positions)`` for rows with a given position; by default the mean distance.
    landmark_loss_weight : float, default=1.0
        Weight of that loss, for ``landmark_positions`` in :meth:`fit`.
    classifier_loss_weight : float, default=0.0
        Weight of a classifier trained on the map, for y with a label per row (-1 without). Labels
        then reach the encoder directly, and :meth:`predict` exists. 0.1 to 10.
    keras_fit_kwargs : dict, optional
        ``{"callbacks": [...], "verbose": 0}`` as for Keras's ``fit``. Other keys raise and name
        what to use.
    preset : {"fast", "default", "best"} or Preset, default="default"
        Network and length of the training in one, from a narrow network trained briefly to a wide
        one; their numbers are in ``neumap.estimators.PRESETS``.

    Attributes
    ----------
    embedding_, graph_, history_, report_, rad_orig_, rad_emb_
        As in :class:`UMAP`. Rows without any neighbour are where the encoder puts them. ``report_``
        has ``landmark_drift`` after a fit with landmarks.
    n_features_in_, feature_names_in_, input_shape_
        As in :class:`UMAP`.
    encoder_ : torch.nn.Module
        The trained network, in evaluation mode; absent with ``parametric_embedding=False``.
    decoder_ : torch.nn.Module
        The trained way back, with ``parametric_reconstruction=True``.
    reconstruction_loss_ : ReconstructionLoss
        Its loss, and the activation that leads to data space.
    classifier_ : torch.nn.Module
        From positions to logits, with `classifier_loss_weight`.
    classes_ : ndarray
        Labels in the order of ``predict_proba``.
    row_shape_ : tuple of int
        Shape of one row for the network.

    See Also
    --------
    UMAP : Free positions, and the parameters that both share.

    Notes
    -----
    The objective is UMAP's [1]_, see :class:`UMAP`, with ``d`` the distance of the encoder's
    outputs [2]_, plus each further term times its weight,

    .. math::

        L = L_\text{umap} + \lambda_r L_\text{reconstruction} - \lambda_g \, \rho_\text{far}
        + \lambda_l L_\text{landmark} + \lambda_c L_\text{classifier}.

    umap-learn since 0.5.4 takes ``log q`` as a logit, which is another objective; here it is the
    cross entropy itself, softened at the start of the training (``eps`` in :mod:`neumap.losses`).

    *Budget.* Without `n_epochs` the preset's steps are taken, `Preset.steps` of the number of rows.
    With `n_epochs` as many edges are drawn as umap-learn draws in these epochs: the steps are
    ``n_epochs * graph_.sum() / batch_size``. Both are multiplied by `n_training_epochs`. A report
    is due ``loss_report_frequency * n_training_epochs`` times, and never changes the steps.
    `max_time` and callbacks may end it earlier.

    A row's position depends on that row only, up to the last digits: matrix products add up in
    another order for batches of another size.

    References
    ----------
    .. [1] L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and
       Projection for Dimension Reduction", arXiv:1802.03426, 2018.
    .. [2] T. Sainburg, L. McInnes and T. Q. Gentner, "Parametric UMAP Embeddings for Representation
       and Semisupervised Learning", Neural Computation 33 (11), 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from neumap import ParametricUMAP
    >>> X = load_digits().data
    >>> model = ParametricUMAP(preset="fast", n_epochs=5, random_state=0).fit(X[:400])
    >>> model.transform(X[400:405]).shape
    (5, 2)
    >>> sorted(model.history_)
    ['loss', 'umap_loss']

    A network of your own, and a way back:

    >>> import torch
    >>> encoder = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(),
    ...                               torch.nn.Linear(32, 2))
    >>> model = ParametricUMAP(encoder=encoder, parametric_reconstruction=True, n_epochs=5,
    ...                        random_state=0).fit(X[:400])
    >>> model.inverse_transform(model.embedding_[:3]).shape
    (3, 64)
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 15,
        n_components: int = 2,
        metric: Any = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        output_metric: str = "euclidean",
        output_metric_kwds: dict[str, Any] | None = None,
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        init: str | ArrayLike = "auto",
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
        dims: Sequence[int] | None = None,
        encoder: Any = None,
        decoder: Any = None,
        parametric_embedding: bool = True,
        parametric_reconstruction: bool = False,
        parametric_reconstruction_loss_fcn: Any = None,
        parametric_reconstruction_loss_weight: float = 1.0,
        autoencoder_loss: bool = False,
        reconstruction_validation: Any = None,
        global_correlation_loss_weight: float = 0.0,
        landmark_loss_fn: Any = None,
        landmark_loss_weight: float = 1.0,
        classifier_loss_weight: float = 0.0,
        keras_fit_kwargs: dict[str, Any] | None = None,
        preset: str | Preset = "default",
    ) -> None:
        super().__init__(
            n_neighbors=n_neighbors,
            n_components=n_components,
            metric=metric,
            metric_kwds=metric_kwds,
            output_metric=output_metric,
            output_metric_kwds=output_metric_kwds,
            n_epochs=n_epochs,
            learning_rate=learning_rate,
            init=init,
            min_dist=min_dist,
            spread=spread,
            low_memory=low_memory,
            n_jobs=n_jobs,
            set_op_mix_ratio=set_op_mix_ratio,
            local_connectivity=local_connectivity,
            repulsion_strength=repulsion_strength,
            negative_sample_rate=negative_sample_rate,
            transform_queue_size=transform_queue_size,
            a=a,
            b=b,
            random_state=random_state,
            angular_rp_forest=angular_rp_forest,
            target_n_neighbors=target_n_neighbors,
            target_metric=target_metric,
            target_metric_kwds=target_metric_kwds,
            target_weight=target_weight,
            transform_seed=transform_seed,
            transform_mode=transform_mode,
            force_approximation_algorithm=force_approximation_algorithm,
            verbose=verbose,
            tqdm_kwds=tqdm_kwds,
            unique=unique,
            densmap=densmap,
            dens_lambda=dens_lambda,
            dens_frac=dens_frac,
            dens_var_shift=dens_var_shift,
            output_dens=output_dens,
            disconnection_distance=disconnection_distance,
            precomputed_knn=precomputed_knn,
            batch_size=batch_size,
            n_training_epochs=n_training_epochs,
            loss_report_frequency=loss_report_frequency,
            optimizer=optimizer,
            callbacks=callbacks,
            max_time=max_time,
            device=device,
        )
        self.dims = dims
        self.encoder = encoder
        self.decoder = decoder
        self.parametric_embedding = parametric_embedding
        self.parametric_reconstruction = parametric_reconstruction
        self.parametric_reconstruction_loss_fcn = parametric_reconstruction_loss_fcn
        self.parametric_reconstruction_loss_weight = parametric_reconstruction_loss_weight
        self.autoencoder_loss = autoencoder_loss
        self.reconstruction_validation = reconstruction_validation
        self.global_correlation_loss_weight = global_correlation_loss_weight
        self.landmark_loss_fn = landmark_loss_fn
        self.landmark_loss_weight = landmark_loss_weight
        self.classifier_loss_weight = classifier_loss_weight
        self.keras_fit_kwargs = keras_fit_kwargs
        self.preset = preset

    # ---------------------------------------------------------------- fit

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        precomputed_distances: Any = None,
        landmark_positions: Any = None,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Self:
        """Learn a network that maps X.

        A fit starts from fresh weights (or from a copy of `encoder` as it was passed), however
        often it is called. It goes on from the fitted encoder only where landmarks are to be kept:
        with `landmark_positions`, or after :meth:`add_landmarks`; ``history_`` goes on with it.

        Parameters
        ----------
        X : array-like, sparse matrix, table, Tensor, Dataset or AnnData, (n_samples, ...)
            Training rows; flat rows may be reshaped for the network by `dims`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Labels (-1 for unlabelled rows) or values; see `target_metric`.
        precomputed_distances : array or sparse matrix (n_samples, n_samples), optional
            Distances that decide the graph, with ``metric="precomputed"``; the network reads X.
        landmark_positions : array of shape (n_samples, n_components), optional
            Positions some rows should keep; rows of NaN are free.
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
        data = self._check_X(X, ensure_all_finite)
        n_rows = row_count(data.X)
        given = check_landmark_positions(landmark_positions, n_rows, self.n_components)
        memory = None if given is None else Memory(given, encoder=self._fitted_encoder())
        pending = self._pending_landmarks
        if memory is None and pending is not None:
            y = None if y is None else pending.extend_targets(y, n_rows)
            data, positions = pending.append_to(data)
            memory = Memory(positions, pending.loss_weight, self._fitted_encoder())
        distances = self._distances(precomputed_distances, memory, n_rows)
        self._fit(data, y, distances=distances, memory=memory)
        self._cut_to(n_rows)
        return self

    def _fitted_encoder(self) -> nn.Module | None:
        return getattr(self, "encoder_", None)

    def _fit_joined(self, data: Validated, memory: Memory) -> None:
        super()._fit_joined(data, replace(memory, encoder=self._fitted_encoder()))

    def _distances(self, given: Any, memory: Memory | None, n_rows: int) -> Any:
        """Return the distances that replace rows in the graph, or None."""
        if given is None:
            return None
        if self.metric != "precomputed":
            raise ValueError(
                f"precomputed_distances need metric='precomputed', got metric={self.metric!r}. "
                "Set the metric, or leave the distances out."
            )
        if memory is not None and len(memory.positions) != n_rows:
            raise ValueError(
                "add_landmarks appends rows, for which precomputed_distances has no entries. Pass "
                "landmark_positions for rows of X instead."
            )
        return given

    def _cut_to(self, n_rows: int) -> None:
        """Drop what belongs to landmark rows that were appended to X."""
        if self.graph_.shape[0] > n_rows:
            self.graph_ = self.graph_[:n_rows, :n_rows]
            self._raw_data = self._raw_data[:n_rows]
            if hasattr(self, "embedding_"):
                self.embedding_ = self.embedding_[:n_rows]

    @property
    def _pending_landmarks(self) -> Landmarks | None:
        return self.__dict__.get("_landmarks")

    def _preset(self) -> Preset:
        if isinstance(self.preset, Preset):
            return self.preset
        if self.preset not in PRESETS:
            raise ValueError(
                f"preset must be one of {list(PRESETS)} or a neumap.estimators.Preset, "
                f"got {self.preset!r}."
            )
        return PRESETS[self.preset]

    def _repulsion_factor(self) -> float:
        return (
            self._preset().repulsion if self.parametric_embedding else super()._repulsion_factor()
        )

    def _density_factor(self) -> float:
        # A network cannot move rows one by one, and follows less.
        return 0.5 if self.parametric_embedding else super()._density_factor()

    def _dims(self) -> tuple[int, ...] | None:
        return None if self.dims is None else tuple(self.dims)

    def _trained_parts(self, fit: Fit) -> tuple[Embedder, list[Term]]:
        check_switches(self.get_params(deep=False))
        if self.parametric_embedding:
            preset = self._preset()
            network = self._network(fit)
            noise = input_noise(network, preset.noise(fit.rows.n_rows), fit.seed)
            spare = self._spare_dimensions(fit, network)
            embedder: Embedder = EncoderEmbedder(network, fit.rows, noise, spare)
            umap = UmapTerm(self._kernel(), preset.softening, preset.n_partners)
            alone = fit.memory is not None and fit.memory.alone
            terms: list[Term] = [] if alone else [umap]
            terms += [*self._density_terms(fit), *self._landmark_terms(fit)]
        else:
            embedder, terms = super()._trained_parts(fit)
        return embedder, [*terms, *self._extra_terms(fit, embedder)]

    def _spare_dimensions(self, fit: Fit, network: nn.Module) -> AuxiliaryDimensions | None:
        """Lend dimensions to a network that starts from scratch; others have found their map."""
        starts_anew = self.encoder is None or isinstance(self.encoder, str)
        if not starts_anew or fit.memory is not None:
            return None
        return spare_dimensions(network, self._preset().n_spare, fit.seed)

    def _network(self, fit: Fit) -> nn.Module:
        if fit.memory is not None and fit.memory.encoder is not None:
            return copy.deepcopy(fit.memory.encoder).to(fit.device)
        hidden = self._preset().hidden
        return prepare_encoder(
            self.encoder, fit.rows, self.n_components, hidden, fit.seed, metric=self.metric
        )

    def _extra_terms(self, fit: Fit, embedder: Embedder) -> list[Term]:
        """Return the terms that stand beside UMAP's, those that are asked for."""
        terms: list[Term] = []
        if self.parametric_reconstruction:
            terms.append(self._reconstruction_term(fit))
        if self.global_correlation_loss_weight:
            terms.append(CorrelationTerm(self.global_correlation_loss_weight, rows=fit.rows))
        decoders = [term.decoder for term in terms if isinstance(term, ReconstructionTerm)]
        penalty = regularization_term([embedder.encoder, *decoders])
        if penalty is not None:
            terms.append(penalty)  # before the classifier, which runs the encoder once more
        if self.classifier_loss_weight:
            terms.append(self._classifier_term(fit, embedder))
        return terms

    def _reconstruction_term(self, fit: Fit) -> ReconstructionTerm:
        hidden = self._preset().hidden
        return ReconstructionTerm(
            prepare_decoder(self.decoder, fit.rows, self.n_components, hidden, fit.seed),
            choose_loss(self.parametric_reconstruction_loss_fcn, fit.rows),
            weight=self.parametric_reconstruction_loss_weight,
            joint=self.autoencoder_loss,
            rows=fit.rows,
        )

    def _landmark_loss(self, memory: Memory) -> tuple[float, Any]:
        weight = self.landmark_loss_weight if memory.loss_weight is None else memory.loss_weight
        return weight, self.landmark_loss_fn

    def _classifier_term(self, fit: Fit, embedder: Embedder) -> ClassifierTerm:
        if fit.targets is None:
            raise ValueError(
                "classifier_loss_weight needs labels: call fit(X, y), with -1 for rows without one."
            )
        classes = encode_classes(fit.targets)
        codes, anchors = classes.codes, None
        if (codes < 0).any():
            anchors = torch.from_numpy(np.flatnonzero(codes >= 0)).to(fit.device)
            codes = spread_labels(fit.graph.fuzzy, codes, leave_out=UNSURE_SHARE)
        with torch_seeded(fit.seed, "classifier"):
            head = nn.Linear(self.n_components, len(classes.labels)).to(fit.device)
        return ClassifierTerm(
            head,
            torch.from_numpy(codes).to(fit.device),
            weight=self.classifier_loss_weight,
            embed=None if anchors is None else embedder.embed,
            anchors=anchors,
        )

    def _plan(self, fit: Fit) -> Plan:
        if not self.parametric_embedding:
            return super()._plan(fit)
        return encoder_plan(
            self._preset(),
            self._budget(),
            fit.rows.n_rows,
            fit.graph.total_weight,
            own_network=self._has_own_network(),
            own_optimizer=self.optimizer is not None,
        )

    def _has_own_network(self) -> bool:
        """Whether the encoder is one of the package's kinds, for which settings were measured."""
        return self.encoder is None or isinstance(self.encoder, str | MLP | ConvEncoder)

    def _optimizer_factory(self) -> OptimizerFactory:
        if self.optimizer is None and self.parametric_embedding and self._has_own_network():
            return Muon
        return super()._optimizer_factory()

    def _watchers(self) -> list[Callback]:
        return [*super()._watchers(), *split_fit_kwargs(self.keras_fit_kwargs).callbacks]

    def _shows_progress(self) -> bool:
        wanted = split_fit_kwargs(self.keras_fit_kwargs).verbose
        return super()._shows_progress() if wanted is None else wanted

    def _validation(self, fit: Fit, embedder: Embedder, terms: Sequence[Term]) -> Validation | None:
        """Return a function that gives the reconstruction loss of held-out rows."""
        if self.reconstruction_validation is None:
            return None
        decoders = [term for term in terms if isinstance(term, ReconstructionTerm)]
        if not decoders or embedder.encoder is None:
            raise ValueError(
                "reconstruction_validation needs an encoder and a decoder to validate. Set "
                "parametric_reconstruction=True, with parametric_embedding=True."
            )
        held_out = self._validation_rows(fit)
        encoder, term = embedder.encoder, decoders[0]

        def validate() -> dict[str, float]:
            value = validation_loss(encoder, term.decoder, term.loss, held_out)
            return {"val_loss": term.weight * value, "val_reconstruction_loss": value}

        return validate

    def _validation_rows(self, fit: Fit) -> RowStore:
        checked = self._check_X(self.reconstruction_validation, True, fitted=True)
        return as_rows(checked.X, dims=fit.rows.row_shape, device=fit.device)

    def _keep_positions(self, fit: Fit, embedder: Embedder, terms: Sequence[Term]) -> None:
        super()._keep_positions(fit, embedder, terms)
        self.row_shape_ = fit.rows.row_shape
        if embedder.encoder is not None:
            self.encoder_ = embedder.encoder
        for term in terms:
            if isinstance(term, ReconstructionTerm):
                self.decoder_, self.reconstruction_loss_ = term.decoder, term.loss
            elif isinstance(term, ClassifierTerm):
                assert fit.targets is not None
                self.classifier_ = term.head
                self.classes_ = encode_classes(fit.targets).labels

    def _report(self, fit: Fit, n_steps: int, began: float, trained: float) -> dict[str, Any]:
        report = super()._report(fit, n_steps, began, trained)
        if self.global_correlation_loss_weight:
            report["distance_correlation"] = reached_correlation(fit.rows, self._placed, fit.seed)
        return report

    # ---------------------------------------------------------------- use

    def transform(
        self,
        X: Any,
        batch_size: int | None = None,
        *,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Any:
        """Place rows on the learned map, by the encoder alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Rows to place.
        batch_size : int, optional
            Rows encoded at once; by default 4,096, or fewer where these take more than 64 MB. Sets
            the memory, not the result. Free positions (``parametric_embedding=False``) have no use
            for it.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions; the same for a row whatever rows come with it. With
            ``transform_mode="graph"`` the sparse memberships (n_samples, n_training) instead.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If X has another width than the training rows.
        """
        check_is_fitted(self, "graph_")
        check_batch_size(batch_size)
        checked = self._check_X(X, ensure_all_finite, fitted=True)
        return self._place(checked, batch_size)

    def _place(self, new: Validated, batch_rows: int | None = None) -> Any:
        if not self.parametric_embedding or self.transform_mode == "graph":
            return super()._place(new)
        return encode_rows(self.encoder_, self._as_network_rows(new), batch_rows)

    def _as_network_rows(self, new: Validated) -> RowStore:
        return as_rows(new.X, dims=self.row_shape_, device=device_of(self.encoder_))

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return rows of data for positions on the map.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Positions.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            Decoded rows in data space, shaped like the rows passed to :meth:`fit`.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no decoder, or the positions have another width.
        """
        check_is_fitted(self, "graph_")
        if not hasattr(self, "decoder_"):
            return super().inverse_transform(X)
        positions = check_positions(X, self.n_components)
        points = as_rows(positions, device=device_of(self.decoder_))
        outputs = torch.from_numpy(encode_rows(self.decoder_, points))
        rows = self.reconstruction_loss_.activation(outputs).numpy()
        return np.asarray(rows.reshape(len(rows), *self.input_shape_))

    @available_if(_has_classifier)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of each class, by the classifier trained with the map.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32
            In the order of ``classes_``.

        Raises
        ------
        AttributeError
            If no classifier is asked for: ``classifier_loss_weight`` is zero.
        NotFittedError
            Before :meth:`fit`.
        """
        check_is_fitted(self, "classifier_")
        points = as_rows(self.transform(X), device=device_of(self.classifier_))
        logits = torch.from_numpy(encode_rows(self.classifier_, points))
        return np.asarray(logits.softmax(1).numpy())

    @available_if(_has_classifier)  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row; see :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels as passed to :meth:`fit`.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def confidence(self, X: Any, *, n_calibration: int = 1000) -> Confidence:
        """Say how far the positions of rows can be trusted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, usually new ones.
        n_calibration : int, default=1000
            Training rows that the rows are compared with; more give a finer score.

        Returns
        -------
        Confidence
            ``score`` is near 0 for rows unlike the training rows; ``signs`` and ``shares`` hold
            what it is made of.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the training rows are not at hand, as after loading a model saved without them.
        """
        check_is_fitted(self, "encoder_")
        self._need_training_rows("confidence")
        new = self._check_X(X, True, fitted=True)
        n_train = row_count(self._raw_data)
        generator = numpy_generator(self.transform_seed, "calibration")
        sample = np.sort(generator.permutation(n_train)[:n_calibration])
        known = replace(new, X=self._raw_data[sample])
        settings = self._graph_settings(self.transform_seed)  # the seed of the sample, too
        usual = neighbors_of_sample(self, known.X, settings)
        # A training row is its own nearest neighbour; leave it out of the comparison.
        return compare(
            self._signs(new, self._neighbors_of(new), skip=0), self._signs(known, usual, skip=1)
        )

    def _signs(
        self, data: Validated, found: tuple[NDArray[np.int64], NDArray[np.float32]], skip: int
    ) -> Signs:
        """Measure the signs of rows, without their `skip` nearest training rows."""
        indices, distances = found
        near = slice(skip, indices.shape[1] - 1 + skip)
        positions = encode_rows(self.encoder_, self._as_network_rows(data))
        slopes = steepness(self.encoder_, self._as_network_rows(data))
        return measure_signs(distances[:, near], self._placed[indices[:, near]], positions, slopes)

    # ---------------------------------------------------------------- existing maps

    @classmethod
    def from_embedding(cls, X: Any, embedding: Any, graph: Any = None, **parameters: Any) -> Self:
        """Learn a network for a map that exists, of UMAP, t-SNE or any other method.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows the map was made of.
        embedding : array-like of shape (n_samples, n_components)
            Their positions; rows of NaN are left to the network.
        graph : sparse matrix of shape (n_samples, n_samples), optional
            The map's graph of neighbours, kept as ``graph_``; found anew where it is not given.
        **parameters
            Constructor parameters; ``n_components`` is that of the map.

        Returns
        -------
        ParametricUMAP
            Fitted: ``transform`` places new rows on the map. ``embedding_`` is what the network
            gives for X, and ``report_["landmark_drift"]`` how far that is from `embedding`.

        Raises
        ------
        ValueError
            If the shapes do not agree.

        Notes
        -----
        The network regresses on the positions; UMAP's objective plays no part. A network that is
        trained with that objective places new rows better, so prefer :meth:`fit` where the map
        need not be this one.
        """
        targets = np.asarray(embedding, dtype=np.float32)
        if targets.ndim != 2:
            raise ValueError(f"embedding must have two axes, got shape {targets.shape}.")
        model = cls(**{**parameters, "n_components": targets.shape[1]})
        data = model._check_X(X, True)
        positions = check_landmark_positions(targets, row_count(data.X), targets.shape[1])
        assert positions is not None
        memory = Memory(positions, loss_weight=1.0, alone=True)
        fuzzy = None if graph is None else FuzzyGraph.from_matrix(graph)
        model._fit(data, None, memory=memory, fuzzy=fuzzy)
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: as in a saved file, not the training rows of a network."""
        state = dict(super().__getstate__())
        if "encoder_" in state:
            state.pop("_raw_data", None)
        return state

    # ---------------------------------------------------------------- landmarks

    def add_landmarks(
        self,
        X: Any,
        sample_pct: float = 0.01,
        sample_mode: SampleMode = "uniform",
        landmark_loss_weight: float = 0.01,
        idx: Any = None,
        reset_optimizer: bool = True,
    ) -> Self:
        """Keep some rows where they are now in the next fit, which goes on from this encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to choose from, usually the training rows so far.
        sample_pct : float, default=0.01
            Share of the rows to keep, at least one row.
        sample_mode : {"uniform", "predetermined"}, default="uniform"
            Whether rows are drawn or given by `idx`.
        landmark_loss_weight : float, default=0.01
            Weight of their loss in the next fits; larger values hold them more firmly.
        idx : array-like of int, optional
            Row numbers, for ``sample_mode="predetermined"``.
        reset_optimizer : bool, default=True
            The optimiser always starts afresh; False is refused.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If an argument is out of range.
        """
        check_is_fitted(self, "encoder_")
        if not reset_optimizer:
            raise ValueError(
                "reset_optimizer must be True: an optimiser's memory belongs to the graph it was "
                "trained on and is not kept. Leave the argument out."
            )
        data = self._check_X(X, True, fitted=True)
        seed = resolve_seed(self.random_state)
        rows = choose_landmarks(row_count(data.X), sample_pct, sample_mode, idx, seed)
        chosen = replace(data, X=data.X[rows])
        positions = encode_rows(self.encoder_, self._as_network_rows(chosen))
        self._landmarks = Landmarks(chosen.X, positions, landmark_loss_weight)
        return self

    def remove_landmarks(self) -> Self:
        """Forget the landmarks; the next fit starts afresh.

        Returns
        -------
        self
        """
        self.__dict__.pop("_landmarks", None)
        return self

    # ---------------------------------------------------------------- other runtimes

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        part: Literal["encoder", "decoder"] = "encoder",
        check: bool = True,
    ) -> Path:
        """Write the network as an ONNX file that takes rows as :meth:`transform` takes them.

        Reshaping and standardisation are inside, and the activation behind a decoder.

        Parameters
        ----------
        path : path-like
            File to write, usually ending in ``.onnx``. Missing folders are made.
        part : {"encoder", "decoder"}, default="encoder"
            ``"encoder"``: input ``X`` (n, ...), output ``embedding`` (n, n_components).
            ``"decoder"``: input ``embedding``, output ``X``, as :meth:`inverse_transform` gives it.
        check : bool, default=True
            Compare the file with the network where onnxruntime is installed.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ImportError
            If the extra ``onnx`` is not installed.
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no such network, it cannot be exported, or the file gives other numbers.
        """
        return export_part(self, path, part=part, check=check)

    to_ONNX = to_onnx  # the name in umap-learn
