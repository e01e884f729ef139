"""Muon: orthogonal steps for square matrices, Adam's for the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP
from neumap.callbacks import Callback
from neumap.training import Muon
from neumap.training.adam import FusedAdam
from neumap.training.muon import STEP_SIZE, orthogonalize


def matrices(n: int = 48, *, smallest: float = 0.01) -> tuple[Tensor, Tensor]:
    """Three matrices with singular values from 1 down, and their nearest orthogonal ones."""
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, n, n, generator=generator))
    values = torch.logspace(0.0, float(np.log10(smallest)), n)
    return left @ torch.diag_embed(values.expand(3, n)) @ right, left @ right


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(9, 20), nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 2))


def fill_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e6])
def test_directions_are_kept_and_lengths_evened_out(dtype: torch.dtype, factor: float) -> None:
    given, nearest = matrices()
    found = orthogonalize(factor * given, dtype).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.15
    assert values.max() < 1.95
    aligned = (found * nearest).sum((1, 2)) / (found.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert aligned.min() > 0.9
    before = (given * nearest).sum((1, 2)) / (given.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert aligned.min() > before.max() + 0.2


def test_a_matrix_without_gradient_stays() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 20, 20)), torch.zeros(2, 20, 20))


def test_square_matrices_move_by_the_stated_length_others_as_with_adam() -> None:
    ours, other = network(), network()
    optimizer, adam = Muon(ours.parameters(), lr=0.01), FusedAdam(other.parameters(), lr=0.01)
    adam.param_groups[0]["betas"] = optimizer.param_groups[0]["betas"]
    before = [p.detach().clone() for p in ours.parameters()]
    for module, kind in ((ours, optimizer), (other, adam)):
        fill_gradients(module, seed=3)
        kind.step()
    for p, b, q in zip(ours.parameters(), before, other.parameters(), strict=True):
        if p.shape == (20, 20):
            length = (p - b).square().mean().sqrt().item()
            assert length == pytest.approx(0.01 * STEP_SIZE, rel=0.35)
            assert (p.grad * (p - b)).sum() < 0  # downhill
        else:
            assert torch.equal(p, q)


def test_each_matrix_of_a_stack_gets_its_own_step() -> None:
    ours, alone = network(), network()
    fill_gradients(ours, seed=3)
    alone[1].weight.grad = ours[1].weight.grad
    Muon(ours.parameters(), lr=0.01).step()
    Muon([alone[1].weight], lr=0.01).step()
    torch.testing.assert_close(ours[1].weight, alone[1].weight)
    assert not torch.allclose(ours[1].weight - network()[1].weight, ours[2].weight)


def test_what_has_no_gradient_stays() -> None:
    module = network()
    optimizer = Muon(module.parameters(), lr=0.01)
    fill_gradients(module, seed=3)
    module[1].weight.grad = module[0].weight.grad = None
    optimizer.step()
    assert torch.equal(module[1].weight, network()[1].weight)
    assert torch.equal(module[0].weight, network()[0].weight)
    assert not torch.equal(module[2].weight, network()[2].weight)
    optimizer.zero_grad()
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("n_before", [1, 2])  # directions are renewed at every second step
def test_goes_on_from_its_state(n_before: int) -> None:
    through, stopped = network(), network()
    optimizer = Muon(through.parameters(), lr=0.01)
    first = Muon(stopped.parameters(), lr=0.01)
    for seed in range(n_before):
        for module, kind in ((through, optimizer), (stopped, first)):
            fill_gradients(module, seed)
            kind.step()
    second = Muon(stopped.parameters())
    second.load_state_dict(first.state_dict())
    for module, kind in ((through, optimizer), (stopped, second)):
        fill_gradients(module, 3)
        kind.step()
    assert all(map(torch.equal, through.parameters(), stopped.parameters()))


class Watch(Callback):
    def on_fit_end(self, run: object) -> None:
        self.kind = type(run.optimizer)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, Muon),
        ({"encoder": "residual"}, Muon),
        ({"encoder": nn.Linear(5, 2)}, FusedAdam),
        ({"parametric_embedding": False}, FusedAdam),
        ({"optimizer": "muon", "encoder": nn.Linear(5, 2)}, Muon),
        ({"optimizer": "adam"}, torch.optim.Adam),
    ],
)
def test_who_trains_with_it(settings: dict[str, object], kind: type) -> None:
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    watch = Watch()
    ParametricUMAP(n_neighbors=5, n_epochs=1, random_state=0, callbacks=watch, **settings).fit(X)
    assert watch.kind is kind
