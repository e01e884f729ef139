"""``ParametricUMAP``: a network that gives positions, and loading one from a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neumap._random import RandomState
from neumap.callbacks import Callback
from neumap.data import Validated, as_rows
from neumap.estimators.encoders import prepare_encoder
from neumap.estimators.presets import PRESETS, Preset, encoder_plan
from neumap.estimators.umap import UMAP, _Fit
from neumap.losses.terms import Term, UmapTerm
from neumap.networks import MLP, ConvEncoder
from neumap.training import Embedder, EncoderEmbedder, Plan
from neumap.training.embedders import encode_rows

__all__ = ["ParametricUMAP", "load_ParametricUMAP"]


class ParametricUMAP(UMAP):
    """placeholder."""

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
        preset: str = "default",
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

    def _preset(self) -> Preset:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {list(PRESETS)}, got {self.preset!r}.")
        return PRESETS[self.preset]

    def _dims(self) -> tuple[int, ...] | None:
        return None if self.dims is None else tuple(self.dims)

    def _trained_parts(self, fit: _Fit) -> tuple[Embedder, list[Term]]:
        if not self.parametric_embedding:
            return super()._trained_parts(fit)
        preset = self._preset()
        encoder = prepare_encoder(
            self.encoder, fit.rows, self.n_components, preset.hidden, fit.seed
        )
        umap = UmapTerm(self._kernel(), preset.softening, preset.n_partners)
        return EncoderEmbedder(encoder, fit.rows), [umap]

    def _plan(self, fit: _Fit) -> Plan:
        if not self.parametric_embedding:
            return super()._plan(fit)
        return encoder_plan(
            self._preset(),
            self._budget(),
            float(fit.graph.fuzzy.weights.sum(dtype=np.float64)),
            own_network=self.encoder is None or isinstance(self.encoder, str | MLP | ConvEncoder),
            own_optimizer=self.optimizer is not None,
        )

    def _keep(self, fit: _Fit, embedder: Embedder) -> None:
        super()._keep(fit, embedder)
        if isinstance(embedder, EncoderEmbedder):
            self.encoder_ = embedder.encoder
            self.row_shape_ = fit.rows.row_shape

    def _place(self, new: Validated) -> NDArray[np.float32]:
        if not self.parametric_embedding:
            return super()._place(new)
        device = next(self.encoder_.parameters()).device
        return encode_rows(self.encoder_, as_rows(new.X, dims=self.row_shape_, device=device))


def load_ParametricUMAP(path: Any) -> ParametricUMAP:
    """placeholder."""
    raise NotImplementedError
