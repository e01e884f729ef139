"""Training on what a guide says: the rows it is asked about, and the two parts of the training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap.data import DenseRows
from neumap.fuzzy import FuzzyGraph
from neumap.losses import Kernel
from neumap.losses.terms import UmapTerm
from neumap.sampling import EdgeSampler
from neumap.training import AutogradStep, EncoderEmbedder, InputNoise, Plan, train
from neumap.training.guide import GuidedEmbedder, RowsBetween, guided_terms

ROWS = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
TERM = UmapTerm(Kernel(1.577, 0.895), n_negatives=4)
BATCH = torch.arange(40) % 37
FORTY = torch.arange(40)


def between(noise: InputNoise | None = None, seed: int = 0) -> RowsBetween:
    return RowsBetween(noise, seed)


def test_rows_lie_on_the_lines_between_the_ends_of_edges() -> None:
    rows = torch.from_numpy(ROWS[:40])
    heads_first, seen = between()(rows, FORTY)
    assert torch.equal(heads_first, seen)
    other = rows.roll(20, 0)  # the tail of each head, and the reverse
    way = ((heads_first - rows) * (other - rows)).sum(1) / (other - rows).square().sum(1)
    assert ((way >= 0) & (way <= 1)).all()
    torch.testing.assert_close(heads_first, rows + way[:, None] * (other - rows))
    unmoved = (heads_first == rows).all(1)
    assert 5 < unmoved.sum() < 35  # about half


def test_noise_is_in_what_is_seen_only() -> None:
    rows = torch.from_numpy(ROWS[:40])
    clean, seen = between(InputNoise(0.3, seed=1))(rows, FORTY)
    assert torch.equal(clean, between()(rows, FORTY)[0])
    assert (seen - clean).std() == pytest.approx(0.3, rel=0.4)


def test_a_state_gives_the_same_rows_again() -> None:
    rows, source = torch.from_numpy(ROWS[:40]), between(InputNoise(0.3, seed=1))
    state = source.state()
    first = source(rows, FORTY)[1]
    assert not torch.equal(source(rows, FORTY)[1], first)
    source.set_state(state)
    assert torch.equal(source(rows, FORTY)[1], first)


def guided_embedder(guide: nn.Module, until: float = 0.5) -> GuidedEmbedder:
    torch.manual_seed(0)
    pupil = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
    return GuidedEmbedder(EncoderEmbedder(pupil, DenseRows(ROWS)), guide, between(), until)


class Asked(nn.Module):
    """A guide that keeps what it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.rows: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.rows.append(rows)
        placed: Tensor = self.layer(rows)
        return placed


def test_while_the_guide_leads_the_loss_is_the_mean_distance_from_its_positions() -> None:
    guide = Asked()
    embedder = guided_embedder(guide)
    step = AutogradStep(embedder, guided_terms(embedder, [TERM], kept=()))
    losses = step(BATCH, progress=0.4)
    (rows,) = guide.rows
    missed = (embedder.encoder(rows) - guide.layer(rows)).square().sum(1).sqrt().mean().detach()
    assert losses.keys() == {"loss", "guide_loss"}
    assert float(losses["loss"]) == pytest.approx(float(missed), rel=1e-5)
    assert guide.layer.weight.grad is None
    assert not any(p is q for p in step.parameters() for q in guide.parameters())


def test_afterwards_the_loss_is_the_objective() -> None:
    guide = Asked()
    embedder = guided_embedder(guide)
    losses = AutogradStep(embedder, guided_terms(embedder, [TERM], kept=()))(BATCH, progress=0.5)
    plain = AutogradStep(embedder.embedder, [TERM])(BATCH, progress=0.5)
    assert losses == plain
    assert guide.rows == []


class Constant:
    """A term with a known value."""

    weight = 1.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.modules: dict[str, nn.Module] = {}

    def __call__(self, batch: Any) -> Tensor:
        return batch.coordinates.sum() * 0.0 + 3.0


def ring() -> FuzzyGraph:
    heads = np.r_[np.arange(63), 0]
    tails = np.r_[np.arange(1, 64), 63]
    return FuzzyGraph(heads, tails, np.ones(64, dtype=np.float32), 64)


def test_a_history_has_a_value_for_each_part_that_a_term_acts_in() -> None:
    embedder = guided_embedder(Asked())
    terms = guided_terms(embedder, [Constant("late"), Constant("kept")], kept=("kept",))
    history = train(embedder, terms, EdgeSampler(ring(), seed=0), Plan(40, 4, 16), seed=0)
    assert {len(curve) for curve in history.values()} == {4}
    assert [math.isnan(v) for v in history["guide_loss"]] == [False, False, True, True]
    assert [math.isnan(v) for v in history["late"]] == [True, True, False, False]
    assert history["kept"] == [3.0] * 4
    assert history["loss"][2:] == [6.0, 6.0]


def test_a_report_across_both_parts_has_the_means_of_each() -> None:
    embedder = guided_embedder(Asked(), until=0.25)
    terms = guided_terms(embedder, [Constant("late")], kept=())
    history = train(embedder, terms, EdgeSampler(ring(), seed=0), Plan(40, 1, 16), seed=0)
    assert history["late"] == [3.0]


def test_a_network_learns_its_guide() -> None:
    guide = nn.Linear(6, 2)
    embedder = guided_embedder(guide, until=1.0)
    before = (embedder.encoder(torch.from_numpy(ROWS)) - guide(torch.from_numpy(ROWS))).norm()
    train(
        embedder,
        guided_terms(embedder, [TERM], kept=()),
        EdgeSampler(ring(), seed=0),
        Plan(300, 1, 32),
        seed=0,
    )
    after = (embedder.encoder(torch.from_numpy(ROWS)) - guide(torch.from_numpy(ROWS))).norm()
    assert after < 0.15 * before
