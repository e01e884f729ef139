"""Penalties that networks define themselves, such as Keras regularisers.

In: the networks, after their forward pass for a batch. Out: the sum of their penalties. A network
takes part if it has a method ``regularization()`` that returns a scalar tensor. Keras models get
one from :class:`neumap.keras_bridge.KerasModule`; a PyTorch module can define its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from neumap.losses.terms import Batch

__all__ = ["RegularizationTerm", "Regularized", "regularization_term"]


class Regularized(Protocol):
    """A network with a penalty of its own."""

    def regularization(self) -> Tensor:
        """Return the penalty, a scalar; of activities, that of the latest forward pass."""
        ...


@dataclass(frozen=True)
class RegularizationTerm:
    """Sum of the penalties of networks, as they are, without another factor.

    A penalty of activities is that of the network's latest forward pass, which has to be the one
    for the batch. This term therefore comes after a term that runs the decoder, and before one that
    runs the encoder again, such as a classifier with ``embed``.

    Parameters
    ----------
    networks : tuple of Regularized
        Each has a method ``regularization()``.
    """

    networks: tuple[Regularized, ...]
    weight: float = field(default=1.0, init=False)
    name: str = field(default="regularization_loss", init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the sum of the penalties."""
        penalties = [network.regularization() for network in self.networks]
        return torch.stack([penalty.sum() for penalty in penalties]).sum()


def regularization_term(networks: Iterable[nn.Module | None]) -> RegularizationTerm | None:
    """Return the term for these networks, or None if none of them has a penalty.

    Parameters
    ----------
    networks : iterable of nn.Module or None
        Usually encoder and decoder. A network has a penalty if it has a method
        ``regularization()``, unless its attribute ``is_regularized`` is False.

    Examples
    --------
    >>> class Lasso(nn.Linear):
    ...     def regularization(self):
    ...         return 0.01 * self.weight.abs().sum()
    >>> regularization_term([nn.Linear(4, 2), Lasso(2, 4), None]).name
    'regularization_loss'
    >>> regularization_term([nn.Linear(4, 2)]) is None
    True
    """
    distinct = {id(network): network for network in networks if network is not None}
    found = [network for network in distinct.values() if _is_regularized(network)]
    return RegularizationTerm(tuple(found)) if found else None  # type: ignore[arg-type]


def _is_regularized(network: nn.Module) -> bool:
    has_method = callable(getattr(network, "regularization", None))
    return has_method and bool(getattr(network, "is_regularized", True))
