"""Several processes as values: shares, and nothing at all for a process that is alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neumap._ranks import ALONE, Ranks, current_ranks, launched_ranks, telling, telling_errors
from neumap.training import InputNoise
from neumap.training.sharing import encode_share, sum_gradients


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n_rows", [8, 9, 126, 1024])
def test_shares_are_all_rows_once_and_of_about_one_length(size: int, n_rows: int) -> None:
    shares = [range(n_rows)[Ranks(rank, size).share(n_rows)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(n_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) > 0


def test_a_process_alone_does_nothing() -> None:
    assert current_ranks() == ALONE
    values = torch.ones(3)
    assert ALONE.gather(values, 3) is values
    ALONE.sum_([values])
    ALONE.take_first_([values])
    ALONE.barrier()
    assert values.tolist() == [1.0] * 3
    assert ALONE.texts("a") == ["a"]
    assert ALONE.first_numbers({"loss": 1.5}) == {"loss": 1.5}
    assert ALONE.sums([2.0]) == [2.0]
    layer = nn.Linear(3, 2)
    sum_gradients(ALONE, [*layer.parameters()])
    assert layer.weight.grad is None
    assert torch.equal(encode_share(ALONE, layer, values, 1), layer(values))
    with launched_ranks({}) as ranks, telling(ranks) as known, telling_errors():
        known["a"] = 1
    assert known["notes"] == [{"a": 1}]
    with pytest.raises(KeyError), telling(ALONE):
        raise KeyError


def test_the_noise_of_a_part_of_a_batch_is_that_of_the_batch() -> None:
    rows, indices, starts = torch.zeros(9, 5), torch.arange(9), (3, 4)
    noise = InputNoise(torch.rand(9), seed=0)
    whole = noise.add_(rows.clone(), indices, starts)
    for rank in range(4):
        share = Ranks(rank, 4).share(9)
        own = noise.add_(rows[share].clone(), indices[share], starts, (share.start, 9))
        torch.testing.assert_close(own, whole[share], rtol=0, atol=1e-7)
