"""Muon: orthogonal steps for square matrices, Adam's for the rest."""

from __future__ import annotations

import gc
import math
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP, _workers
from neumap._device import torch_threads
from neumap.callbacks import Callback
from neumap.training import Muon, muon
from neumap.training.adam import FusedAdam
from neumap.training.muon import STEP_SIZE, Matrix, orthogonalize


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


@pytest.mark.parametrize("n_before", [1, 2, 3])  # directions are renewed at every second step
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


@pytest.mark.parametrize("are_named", [False, True])
def test_directions_of_built_in_networks_are_used_from_the_next_step_on(
    are_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first step there are none yet; the next ones, of the third, act at the fourth."""
    weight = nn.Parameter(torch.zeros(20, 20))
    optimizer = Muon([weight], lr=0.01, matrices=[Matrix(weight)] if are_named else None)
    moves, renewed = [], []

    def noted(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        renewed.append(orthogonalize(matrices, dtype))
        return renewed[-1]

    monkeypatch.setattr(muon, "orthogonalize", noted)
    for seed in range(5):
        before = weight.detach().clone()
        weight.grad = torch.randn(20, 20, generator=torch.Generator().manual_seed(seed))
        optimizer.step()
        moves.append(weight.detach() - before)
    optimizer.state_dict()
    late, at_once = (0, 0, 0, 1, 1), (0, 0, 1, 1, 2)
    for move, number in zip(moves, at_once if are_named else late, strict=True):
        direction = renewed[number]
        expected = -0.01 * STEP_SIZE * math.sqrt(20) * direction[0].float()
        torch.testing.assert_close(move, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("n_steps", [1, 2, 6, 7])
def test_a_core_that_is_idle_changes_nothing(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    for cores in (1, 2):
        monkeypatch.setattr(_workers, "usable_cores", lambda cores=cores: cores)
        module = network()
        with torch_threads(2):
            optimizer = Muon(module.parameters(), lr=0.01)
        with torch_threads(1):
            for seed in range(n_steps):
                fill_gradients(module, seed)
                optimizer.step()
        assert (optimizer.stacks[0]._beside._pool is None) == (cores == 1 or n_steps < 3)
        trained.append([*module.parameters(), optimizer.state_dict()["stacks"][0]["directions"]])
    assert all(map(torch.equal, *trained))


def test_the_thread_of_the_directions_ends_with_the_optimizer() -> None:
    before = set(threading.enumerate())
    with torch_threads(2):
        optimizer = Muon(network().parameters(), lr=0.01)
    optimizer.stacks[0]._beside._n_threads = 2
    with torch_threads(1):
        optimizer.stacks[0]._beside.submit(lambda: torch.zeros(1))()
    (thread,) = set(threading.enumerate()) - before
    del optimizer
    gc.collect()
    thread.join(timeout=60)
    assert not thread.is_alive()


class Watch(Callback):
    def on_fit_end(self, run: object) -> None:
        self.kind = type(run.optimizer)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, Muon),
        ({"encoder": "residual"}, Muon),
        ({"encoder": nn.Linear(5, 2)}, FusedAdam),
        ({"encoder": nn.Sequential(nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 2))}, Muon),
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


# ------------------------------------------------------------------ matrices of other shapes


def wide(n_rows: int, n_columns: int) -> tuple[Tensor, Tensor]:
    """Matrices with singular values from 1 to .01, and the nearest ones with orthonormal rows."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(3, n_rows, n_rows, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(3, n_columns, n_rows, generator=generator)).Q.mT
    values = torch.logspace(0.0, -2.0, n_rows).expand(3, n_rows)
    return left @ torch.diag_embed(values) @ right, left @ right


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_columns", [47, 60, 64, 400])  # below and above twice the rows
def test_wide_matrices_become_nearly_orthogonal(n_columns: int, dtype: torch.dtype) -> None:
    given, nearest = wide(32, n_columns)
    found = orthogonalize(given, dtype).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.15
    assert values.max() < 1.95
    aligned = (found * nearest).sum((1, 2)) / (found.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert aligned.min() > 0.9


def test_the_short_way_for_wide_matrices_gives_what_the_iteration_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, _ = wide(32, 400)
    short = orthogonalize(given)
    monkeypatch.setattr(muon, "WIDE", 1e9)
    torch.testing.assert_close(short, orthogonalize(given), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_matrices", [1, 3])
@pytest.mark.parametrize("n_columns", [40, 400])
def test_a_tall_matrix_is_the_transpose_of_a_wide_one(
    n_columns: int, n_matrices: int, dtype: torch.dtype
) -> None:
    given = wide(32, n_columns)[0][:n_matrices]
    wide_result, tall = orthogonalize(given, dtype), orthogonalize(given.mT.contiguous(), dtype)
    assert tall.shape == (n_matrices, n_columns, 32)
    difference = (tall.mT - wide_result).float().norm() / wide_result.float().norm()
    assert difference < (1e-4 if dtype == torch.float32 else 0.03)


# A parameter's shape, where its outputs are, and the matrix as torch's einsum would write it.
READ = {
    "wide": ((20, 30), False, (20, 30)),
    "tall": ((30, 20), False, (30, 20)),
    "convolution": ((18, 4, 3, 3), False, (18, 36)),
    "tall convolution": ((64, 2, 3, 3), False, (64, 18)),
    "Keras, dense": ((30, 20), True, (30, 20)),
    "Keras, convolution": ((3, 3, 4, 18), True, (36, 18)),
}


@pytest.mark.parametrize("name", READ)
def test_a_matrix_is_read_and_written(name: str) -> None:
    shape, outputs_last, expected = READ[name]
    matrix = Matrix(nn.Parameter(torch.zeros(shape)), outputs_last)
    values = torch.arange(float(np.prod(shape))).view(shape)
    read = matrix.read(values)
    assert tuple(read.shape) == matrix.shape == expected
    assert torch.equal(matrix.write(read), values)
    one_output = values[..., 0].flatten() if outputs_last else values[0].flatten()
    assert torch.equal(read[:, 0] if outputs_last else read[0], one_output)


@pytest.mark.parametrize("by_outputs", [False, True])
def test_matrices_of_any_shape_move_by_the_stated_length(by_outputs: bool) -> None:
    torch.manual_seed(1)
    parts = nn.Linear(40, 20), nn.Linear(20, 40), nn.Linear(40, 20)
    module = nn.Sequential(nn.Conv2d(16, 32, 3), *parts)
    before = [p.detach().clone() for p in module.parameters()]
    matrices = [Matrix(part.weight, by_outputs=by_outputs) for part in module]
    optimizer = Muon(module.parameters(), lr=0.01, matrices=matrices)
    assert sorted(stack.momentum.shape[0] for stack in optimizer.stacks) == [1, 1, 2]  # by shape
    fill_gradients(module, seed=3)
    optimizer.step()
    for p, b in zip(module.parameters(), before, strict=True):
        assert (p.grad * (p - b)).sum() < 0  # downhill
        if p.ndim > 1:
            values = torch.linalg.svdvals((p - b).detach().flatten(1))
            longest = len(p) if by_outputs else max(p.flatten(1).shape)
            assert values.mean() == pytest.approx(0.01 * STEP_SIZE * longest**0.5, rel=0.35)


def test_a_parameter_of_two_networks_is_stepped_once_as_in_the_first() -> None:
    shared = nn.Parameter(torch.zeros(40, 20))
    first, second = Matrix(shared), Matrix(shared, by_outputs=True)
    optimizer = Muon([shared], matrices=[first, second])
    assert [stack.matrices for stack in optimizer.stacks] == [[first]]


def test_small_matrices_and_those_of_another_dtype_are_left_to_adam() -> None:
    thin, whole, half = (
        nn.Parameter(torch.zeros(15, 90)),
        nn.Parameter(torch.zeros(16, 16)),
        nn.Parameter(torch.zeros(16, 16, dtype=torch.float64)),
    )
    optimizer = Muon([thin, whole], matrices=[Matrix(thin), Matrix(whole), Matrix(half)])
    assert [p is whole for stack in optimizer.stacks for p in stack.parameters] == [True]
    assert [p is thin for p in optimizer.param_groups[0]["params"]] == [True]
