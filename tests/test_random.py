"""One seed in, independent named streams out, the global generators left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neumap._random import numpy_generator, resolve_seed, torch_generator, torch_seeded

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


def test_integers_are_their_own_seed() -> None:
    assert resolve_seed(42) == 42
    assert resolve_seed(np.int64(7)) == 7
    assert type(resolve_seed(np.uint8(7))) is int
    assert resolve_seed(0) == 0


def test_none_is_fresh_entropy() -> None:
    seeds = {resolve_seed(None) for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "make",
    [np.random.default_rng, np.random.RandomState],
)
def test_a_generator_is_drawn_from_once(make) -> None:
    first, second = make(3), make(3)
    seeds = [resolve_seed(first), resolve_seed(first)]
    assert seeds == [resolve_seed(second), resolve_seed(second)]
    assert seeds[0] != seeds[1]
    assert all(type(seed) is int and seed >= 0 for seed in seeds)


def test_negative_seed() -> None:
    with pytest.raises(ValueError, match=r"non-negative integer, got -1\. Pass 0 or more"):
        resolve_seed(-1)


@pytest.mark.parametrize("wrong", ["seed", 1.5, [1]])
def test_wrong_kinds(wrong: object) -> None:
    with pytest.raises(ValueError, match="cannot be used to seed"):
        resolve_seed(wrong)  # type: ignore[arg-type]


def numpy_draws(seed: int, stream: str) -> list[float]:
    return numpy_generator(seed, stream).random(3).tolist()


def torch_draws(seed: int, stream: str) -> list[float]:
    return torch.rand(3, generator=torch_generator(seed, stream)).tolist()


def seeded_draws(seed: int, stream: str) -> list[float]:
    with torch_seeded(seed, stream):
        return torch.rand(3).tolist()


@pytest.mark.parametrize("draws", [numpy_draws, torch_draws, seeded_draws])
def test_seed_and_name_decide_the_stream(draws) -> None:
    assert draws(1, "edges") == draws(1, "edges")
    drawn = [draws(1, "edges"), draws(1, "modules"), draws(2, "edges"), draws(2**62, "edges")]
    assert len({tuple(values) for values in drawn}) == 4


def test_streams_are_uncorrelated() -> None:
    streams = [numpy_generator(seed, name).normal(size=4000) for seed in (0, 1) for name in "ab"]
    correlations = np.corrcoef(streams)[np.triu_indices(4, k=1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_global_state_comes_back_after_an_error() -> None:
    def fail_while_seeded() -> None:
        with torch_seeded(0, "modules"):
            torch.rand(10)
            raise KeyError

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        fail_while_seeded()
    assert torch.equal(torch.get_rng_state(), before)


def test_nested_streams_do_not_disturb_each_other() -> None:
    with torch_seeded(0, "outer"):
        alone = torch.rand(4)
    with torch_seeded(0, "outer"):
        first = torch.rand(2)
        with torch_seeded(0, "inner"):
            torch.rand(100)
        assert torch.equal(torch.cat([first, torch.rand(2)]), alone)
