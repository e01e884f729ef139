"""The arithmetic of a row, against sums by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neumap.training.flops import forward_flops


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
