"""Training an expensive network on what a cheap one has learned.

The objective of UMAP teaches a network by noisy comparisons of rows. A network that has learned it
already, the *guide*, tells another one the position of any row at once, also of rows that nobody
has seen: training rows with noise, and rows between neighbours. For most of its training the
network regresses on these positions, which takes a fraction of the steps; for the rest it trains on
the objective itself.

In: an embedder of the training rows, the guide, and the share of the training in which it leads.
Out: an embedder and the terms for one training with both parts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neumap._ranks import ALONE, Ranks
from neumap.losses.terms import Batch, Term
from neumap.training.embedders import EncoderEmbedder
from neumap.training.noise import InputNoise, NumberPool, random_start
from neumap.training.precision import MixedPrecision, Source

__all__ = ["GuideTerm", "GuidedEmbedder", "Later", "RowsBetween", "guided_terms"]

# Share of the rows that lie between two neighbours.
SHARE_BETWEEN = 0.5


class RowsBetween:
    """Rows between the two ends of edges, with noise.

    Parameters
    ----------
    noise : InputNoise or None
        Added to all rows.
    seed : int
        Of the places between the ends.
    """

    def __init__(self, noise: InputNoise | None, seed: int) -> None:
        self.noise = noise
        self._random = random.Random(seed)
        self._pool = NumberPool(torch.rand, seed, "rows between")
        self._given: int | Tensor | None = None

    def __call__(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows between, without and with noise, from heads and then their tails.

        `indices` are the numbers of the rows in the data.
        """
        start = self.draw_start() if self._given is None else self._given
        drawn = self._pool.read((len(rows), *[1] * (rows.ndim - 1)), rows, start)
        share = (drawn / SHARE_BETWEEN).where(drawn < SHARE_BETWEEN, 0.0)
        between = rows.lerp(rows.roll(len(rows) // 2, 0), share)
        return between, (
            between if self.noise is None else self.noise.add_(between.clone(), indices)
        )

    def draw_start(self) -> int:
        """Draw where the next batch starts reading its places."""
        return random_start(self._random)

    def start_at(self, start: int | Tensor | None) -> None:
        """Let the next batches start here; None draws a start for each again."""
        self._given = start

    def state(self) -> object:
        """Return what the next rows depend on, for :meth:`set_state`."""
        return self._random.getstate(), None if self.noise is None else self.noise.state()

    def set_state(self, state: tuple[Any, object]) -> None:
        """Draw the same rows again as after :meth:`state`."""
        self._random.setstate(state[0])
        if self.noise is not None:
            self.noise.set_state(state[1])


class GuidedEmbedder(nn.Module):
    """An encoder on rows between the training rows while it is guided, then on these themselves.

    Parameters
    ----------
    embedder : EncoderEmbedder
        What is trained.
    guide : nn.Module
        From a batch of rows to their positions; not trained.
    between : RowsBetween
        The rows to learn from it.
    until : float
        Share of the training in which the guide leads.

    Attributes
    ----------
    target : Tensor of shape (batch, n_components) or None
        Where the guide puts the rows of the latest batch; None in the rest of the training.
    """

    def __init__(
        self, embedder: EncoderEmbedder, guide: nn.Module, between: RowsBetween, until: float
    ) -> None:
        super().__init__()
        self.embedder = embedder
        self.between = between
        self.until = until
        self.target: Tensor | None = None
        self.__dict__["_guide"] = guide  # not a part of the module: it is neither trained nor saved

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return self.embedder.n_rows

    @property
    def encoder(self) -> nn.Module:
        """The network that is trained."""
        return self.embedder.encoder

    @property
    def flops(self) -> float | None:
        """Operations of one row, without those of the guide."""
        return self.embedder.flops

    @property
    def is_sharable(self) -> bool:
        """Whether several processes may each encode a share of the rows of a batch."""
        return self.embedder.is_sharable

    @property
    def ranks(self) -> Ranks:
        """The processes that encode a batch together."""
        return self.embedder.ranks

    @ranks.setter
    def ranks(self, ranks: Ranks) -> None:
        self.embedder.ranks = ranks

    @property
    def guide(self) -> nn.Module:
        """What it learns from; not one of its parts."""
        guide: nn.Module = self.__dict__["_guide"]
        return guide

    @property
    def mixed(self) -> MixedPrecision | None:
        """How the encoder trains in bfloat16."""
        return self.embedder.mixed

    @property
    def sources(self) -> list[Source]:
        """What batches draw random numbers from."""
        return [*self.embedder.sources, self.between]

    def leads(self, progress: float) -> bool:
        """Whether the guide leads at this time."""
        return progress < self.until

    def embed(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and coordinates of these rows."""
        return self.embedder.embed(indices)

    def embed_between(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and coordinates of rows between these, and note where the guide puts them.

        The inputs are without noise: a decoder should not learn it.
        """
        inputs, seen = self.between(self.embedder.rows.gather(indices), indices)
        with torch.no_grad():
            self.target = self.guide(seen).float()
        return inputs, self.embedder.encode(seen)

    def embed_all(self, ranks: Ranks = ALONE) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        return self.embedder.embed_all(ranks)


@dataclass(frozen=True)
class GuideTerm:
    """Mean distance of the positions from those that the guide gives."""

    embedder: GuidedEmbedder
    name: str = field(default="guide_loss", init=False)
    weight: float = field(default=1.0, init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def acts(self, progress: float) -> bool:
        """Whether the guide leads."""
        return self.embedder.leads(progress)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean distance."""
        assert self.embedder.target is not None
        missed = torch.linalg.vector_norm(batch.coordinates - self.embedder.target, dim=1)
        mean: Tensor = missed.mean()
        return mean


@dataclass(frozen=True)
class Later:
    """A term that acts once the guide has led."""

    term: Term
    start: float

    @property
    def name(self) -> str:
        """That of the term."""
        return self.term.name

    @property
    def weight(self) -> float:
        """That of the term."""
        return self.term.weight

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Those of the term."""
        return self.term.modules

    def acts(self, progress: float) -> bool:
        """Whether it is late enough."""
        return progress >= self.start

    def __call__(self, batch: Batch) -> Tensor:
        """Return the value of the term."""
        value: Tensor = self.term(batch)
        return value


def guided_terms(
    embedder: GuidedEmbedder, terms: Sequence[Term], kept: Sequence[str]
) -> list[Term]:
    """Return the terms of both parts: those in `kept` act always, the others once it is late."""
    later = [t if t.name in kept else Later(t, embedder.until) for t in terms]
    return [GuideTerm(embedder), *later]
