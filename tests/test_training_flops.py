"""The arithmetic of a row, against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neumap import _device
from neumap.data import as_rows
from neumap.training import AutogradStep, EncoderEmbedder, embedders
from neumap.training.flops import counted_flops, forward_flops


class Last(nn.Module):
    """A recurrent layer, of which the last state is kept."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, rows: Tensor) -> Tensor:
        states: Tensor = self.layer(rows)[0][:, -1]
        return states


def of_transformer() -> float:
    n_tokens, width, hidden = 6, 8, 16
    of_layers = 4 * width * width + 2 * width * hidden
    return 2.0 * n_tokens * (of_layers + 2 * n_tokens * width)


EXPECTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "linear": (lambda: nn.Linear(10, 3), (10,), 2.0 * 10 * 3),
    # 5 x 5 places, 4 channels in and 7 out, kernels of 3 x 3
    "convolution": (lambda: nn.Conv2d(4, 7, 3), (4, 7, 7), 2.0 * 25 * 4 * 7 * 9),
    "GRU": (lambda: Last(nn.GRU(5, 8, batch_first=True)), (6, 5), 2.0 * 6 * 3 * 8 * (5 + 8)),
    "LSTM": (lambda: Last(nn.LSTM(5, 8, batch_first=True)), (6, 5), 2.0 * 6 * 4 * 8 * (5 + 8)),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (6, 8),
        of_transformer(),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("n_rows", [1, 4])
def test_operations_per_row(name: str, n_rows: int) -> None:
    make, shape, expected = EXPECTED[name]
    module = make()
    assert forward_flops(module, torch.zeros(n_rows, *shape)) == expected
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


class Drawing(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows @ torch.rand(rows.shape[1], 2)


class Refusing(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_counting_leaves_random_numbers_alone_and_fails_quietly() -> None:
    before = torch.get_rng_state()
    assert counted_flops(Drawing(), torch.zeros(2, 5)) == 2.0 * 5 * 2
    assert torch.equal(torch.get_rng_state(), before)
    assert counted_flops(Refusing(), torch.zeros(2, 5)) is None


def test_an_encoder_is_counted_when_first_asked_and_then_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_counts = 0

    def counted(module: nn.Module, rows: torch.Tensor) -> float | None:
        nonlocal n_counts
        n_counts += 1
        return counted_flops(module, rows)

    monkeypatch.setattr(embedders, "counted_flops", counted)
    embedder = EncoderEmbedder(nn.Linear(5, 2), as_rows(torch.zeros(3, 5)))
    assert n_counts == 0
    assert (embedder.flops, embedder.flops, n_counts) == (2.0 * 5 * 2, 2.0 * 5 * 2, 1)


def test_a_compiled_network_is_counted_as_what_it_wraps() -> None:
    """Neither compiled once more for it, nor with the warning of torch, which is an error here."""
    compiled_graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled_graphs.append(graph)
        return graph.forward

    compiled = torch.compile(nn.Linear(10, 3), backend=backend)
    assert forward_flops(compiled, torch.zeros(4, 10)) == 2.0 * 10 * 3
    assert not compiled_graphs


@pytest.mark.parametrize(("width", "threads"), [(600, 3), (2100, 6)])
def test_a_network_of_much_arithmetic_trains_on_every_core(
    monkeypatch: pytest.MonkeyPatch, width: int, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(_device, "usable_cores", lambda: 6)
    encoder = nn.Sequential(nn.Linear(500, width), nn.Linear(width, 2))  # 1,004 operations a unit
    step = AutogradStep(EncoderEmbedder(encoder, as_rows(torch.zeros(4, 500))), [])
    assert step.n_threads == threads
