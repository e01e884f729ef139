"""Positions given by a network: the encoder of :class:`neumap.ParametricUMAP`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from neumap.estimators.constraints import short_text
from neumap.estimators.graph import Graph
from neumap.estimators.positions.forces import Forces
from neumap.estimators.positions.networks import (
    ENCODER_NAMES,
    auxiliary_dimensions,
    copy_module,
    own_auxiliary,
    prepare_encoder,
    start_around,
)
from neumap.estimators.positions.noise import input_noise, own_noise
from neumap.estimators.positions.optimizers import resolve_optimizer
from neumap.estimators.positions.own import matrices_of, normalises_batches, shortened
from neumap.estimators.positions.presets import (
    Budget,
    Preset,
    encoder_plan,
    for_regression,
    resolve_preset,
)
from neumap.estimators.task import Task
from neumap.losses.output_metrics import OutputMetric
from neumap.networks import MLP, ConvEncoder
from neumap.training import Embedder, EncoderEmbedder, Muon, Plan
from neumap.training.embedders import Found
from neumap.training.optimizers import OptimizerFactory

__all__ = ["NetworkPositions"]

# A network cannot move rows one by one and follows the density term less.
DENSITY = 0.5


@dataclass(frozen=True)
class NetworkPositions:
    """Settings of an encoder.

    Attributes
    ----------
    encoder : None, str, nn.Module or Keras model
        See the parameter `encoder` of :class:`neumap.ParametricUMAP`.
    n_components : int
        Dimensions of the embedding.
    named_preset : str or Preset
        See the parameter `preset`.
    metric : str or callable
        Of the graph; built-in networks do not see what it ignores.
    init : str
        Must be ``"auto"``: an encoder starts from its weights.
    budget : Budget
        Length of the training.
    optimizer : object
        See the parameter `optimizer`.
    guide : "auto", None or ParametricUMAP
        See the parameter `guide`.
    output_metric : OutputMetric or None
        Of the embedding; None for Euclidean distance.
    """

    encoder: Any
    n_components: int
    named_preset: str | Preset
    metric: Any
    init: Any
    budget: Budget
    optimizer: Any
    guide: Any = None
    output_metric: OutputMetric | None = None

    @property
    def preset(self) -> Preset:
        """The preset itself."""
        return resolve_preset(self.named_preset)

    def for_regression(self) -> NetworkPositions:
        """Return the settings for learning positions that are given."""
        return replace(self, named_preset=for_regression(self.preset))

    @property
    def forces(self) -> Forces:
        """Balance of the objective."""
        preset = self.preset
        return Forces(preset.softening, preset.n_negatives, preset.repulsion, DENSITY)

    @property
    def is_builtin_network(self) -> bool:
        """Whether the encoder is one of the package's kinds, for which settings were measured."""
        return self.encoder is None or isinstance(self.encoder, str | MLP | ConvEncoder)

    @property
    def is_from_scratch(self) -> bool:
        """Whether the encoder is built here."""
        return self.encoder is None or isinstance(self.encoder, str)

    def check(self) -> None:
        """Raise for settings that cannot act.

        Raises
        ------
        ValueError
            If `init` is given, or there is no such preset or encoder.
        """
        if not (isinstance(self.init, str) and self.init == "auto"):
            raise ValueError(
                f"init must be 'auto' for an encoder, which starts from its weights; got "
                f"{short_text(self.init)}. Leave init out, pass an encoder with weights of your "
                "choice, or set parametric_embedding=False."
            )
        resolve_preset(self.named_preset)
        if isinstance(self.encoder, str) and self.encoder not in ENCODER_NAMES:
            raise ValueError(
                f"encoder must be one of {list(ENCODER_NAMES)}, a torch.nn.Module, a Keras model "
                f"or None, got {short_text(self.encoder)}. Change encoder."
            )

    def network(self, task: Task) -> nn.Module:
        """Return the encoder to train: built, copied, or continued from an earlier fit.

        Raises
        ------
        ValueError, TypeError
            If a network of the user does not fit the rows or the embedding.
        """
        start = task.warm_start
        if start is not None and start.encoder is not None:
            return copy_module(start.encoder).to(task.device)
        network = prepare_encoder(
            self.encoder,
            task.rows,
            self.n_components,
            self.preset.hidden,
            task.seed,
            metric=self.metric,
            subspace=self.preset.directions(task.rows.n_rows, task.rows.n_features),
            learns=self.budget.n_epochs != 0,
        )
        if self.output_metric is not None and self.is_from_scratch:
            start_around(network, self.output_metric.origin)
        return network

    def build(self, task: Task, network: nn.Module | None, graph: Graph) -> EncoderEmbedder:
        """Return the encoder on its rows, with what acts while it trains."""
        assert network is not None
        if self.is_builtin_network:
            return self._built_in(task, network, graph)
        return self._own(task, network, graph)

    def _built_in(self, task: Task, network: nn.Module, graph: Graph) -> EncoderEmbedder:
        relative = self.preset.noise(task.rows.n_rows)
        noise = input_noise(network, relative, task.rows, graph.fuzzy, task.seed)
        auxiliary = None
        # A network that is passed may be one of an earlier fit, and gets no other dimensions.
        if self.is_from_scratch and task.warm_start is None:
            auxiliary = auxiliary_dimensions(network, self.preset.n_auxiliary, task.seed)
        return EncoderEmbedder(network, task.rows, noise, auxiliary)

    def _own(self, task: Task, network: nn.Module, graph: Graph) -> EncoderEmbedder:
        is_trained = any(parameter.requires_grad for parameter in network.parameters())
        found = Found(normalises_batches=normalises_batches(network))
        if self.budget.n_epochs == 0 or not is_trained:
            return EncoderEmbedder(network, task.rows, found=found)
        relative = self.preset.noise(task.rows.n_rows)
        noise, noisy = own_noise(network, relative, task.rows, graph.fuzzy, task.seed)
        auxiliary = last = None
        if task.warm_start is None:
            auxiliary, last = own_auxiliary(network, self.preset.n_auxiliary, task.rows, task.seed)
        found = replace(found, last_layer=last, noisy=noisy)
        return EncoderEmbedder(network, task.rows, noise, auxiliary, found)

    def plan(self, n_rows: int, total_weight: float, embedder: Embedder | None = None) -> Plan:
        """Return the course of the training, for an expensive network of the user a shorter one."""
        plan = encoder_plan(
            self.preset,
            self.budget,
            n_rows,
            total_weight,
            is_builtin_network=self.is_builtin_network,
            has_user_optimizer=self.optimizer is not None,
        )
        is_set = self.is_builtin_network or self.budget.n_epochs is not None
        if is_set or not isinstance(embedder, EncoderEmbedder):
            return plan
        return shortened(
            plan,
            embedder.flops,
            has_batch_size=self.budget.batch_size is not None,
            on_card=embedder.rows.device.type == "cuda",
        )

    def optimizer_factory(
        self, encoder: nn.Module | None = None, *decoders: nn.Module
    ) -> OptimizerFactory:
        """Return a function from parameters to an optimiser.

        Parameters
        ----------
        encoder : nn.Module, optional
            The network to train. If it is the user's, all its matrices are stepped orthogonally.
        *decoders : nn.Module
            Trained with it, in the same way.
        """
        if self.optimizer is not None:
            return resolve_optimizer(self.optimizer)
        if self.is_builtin_network:
            return Muon
        matrices = [] if encoder is None else matrices_of(encoder)
        for decoder in decoders:
            matrices += matrices_of(decoder, decodes=True)
        if any(matrix.can_be_orthogonal for matrix in matrices):
            return partial(Muon, matrices=matrices)
        return resolve_optimizer(None)
