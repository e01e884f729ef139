"""What a checkpoint keeps of a training is loaded whole, or refused by the name of the part."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_sampling import random_graph
from torch import nn

from neumap.archive import ArchiveError
from neumap.callbacks import Callback, EarlyStopping
from neumap.losses import Kernel
from neumap.losses.terms import UmapTerm
from neumap.sampling import EdgeSampler
from neumap.training import AutogradStep, FreeEmbedder, Muon
from neumap.training.adam import FusedAdam
from neumap.training.resuming import Training, callback_states, resume_callbacks

BATCH = 16


def training(make: Callable[..., Any] = FusedAdam) -> Training:
    embedder = FreeEmbedder(torch.randn(300, 2).numpy())
    step = AutogradStep(embedder, [UmapTerm(Kernel(1.577, 0.895))])
    optimizer = make(step.parameters())
    sampler = EdgeSampler(random_graph(), seed=0)
    return Training({"embedder": embedder}, step.terms, step, optimizer, sampler, BATCH, draws=True)


def take_steps(of: Training, n_steps: int = 3) -> None:
    for _ in range(n_steps):
        of.step(of.sampler.draw(BATCH), 0.5)
        of.optimizer.step()


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "fused": FusedAdam,
    "muon": Muon,
    "adam": lambda ps: torch.optim.Adam(ps, 0.1),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, 0.1),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, 0.1, momentum=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_another_training_goes_on_alike(name: str) -> None:
    first, second = training(OPTIMIZERS[name]), training(OPTIMIZERS[name])
    take_steps(first)
    second.load(copy.deepcopy(first.state()))
    take_steps(first)
    take_steps(second)
    for ours, theirs in zip(first.weights().values(), second.weights().values(), strict=True):
        assert torch.equal(ours, theirs)


FORGED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("fused", lambda s: s.pop("sampler"), "checkpoint must be a dict with"),
    ("fused", lambda s: s["weights"].clear(), "weights must be a dict of 1 known names"),
    ("fused", lambda s: s["optimizer"].update(means=[]), r"optimizer.means must be a list of 1"),
    ("fused", lambda s: s["sampler"].update(position=7), "at a place among 0 edges"),
    ("fused", lambda s: s["sampler"].update(n_drawn=2**40), "at a place among"),
    ("fused", lambda s: s["sampler"]["generator"].zero_(), "sampler must be that of this training"),
    ("fused", lambda s: s["sources"].append(1), "sources must be that of this training"),
    ("adam", lambda s: s["optimizer"]["state"][0].pop("exp_avg"), "optimizer must be that of this"),
    ("adam", lambda s: s["optimizer"]["param_groups"].clear(), "optimizer must be that of this"),
]


@pytest.mark.parametrize(("name", "change", "message"), FORGED)
def test_a_state_that_does_not_fit_is_refused(
    name: str, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    first, second = training(OPTIMIZERS[name]), training(OPTIMIZERS[name])
    if name == "adam":
        take_steps(first)
    state = first.state()
    change(state)
    with pytest.raises(ArchiveError, match=message):
        second.load(state)


def test_a_state_of_another_embedder_is_refused() -> None:
    first, second = training(), training()
    state = first.state()
    state["weights"] = {"embedder.positions": torch.zeros(9, 2)}
    with pytest.raises(ArchiveError, match=r"positions must be a tensor of shape \(300, 2\)"):
        second.load(state)


def test_torchs_generators_go_on_where_modules_draw() -> None:
    first = training()
    state = first.state()
    expected = torch.rand(3)
    torch.manual_seed(9)
    first.load_generators(state, 0, 0)
    assert torch.equal(torch.rand(3), expected)
    first.load_generators({**state, "step": 5}, 0, 1)  # another process draws other numbers
    other = torch.rand(3)
    assert not torch.equal(other, expected)
    first.load_generators({**state, "step": 5}, 0, 1)
    assert torch.equal(torch.rand(3), other)


class Counter(Callback):
    def __init__(self) -> None:
        self.count = 0

    def state(self) -> int:
        return self.count

    def resume(self, state: Any, run: Any) -> None:
        self.count = state + 0


def test_callbacks_get_their_states_in_order() -> None:
    given = [Counter(), EarlyStopping(), Callback(), Counter()]
    given[0].count, given[3].count = 3, 5  # type: ignore[attr-defined]
    states = callback_states(given)
    assert [name for name, _ in states] == ["Counter", "EarlyStopping", "Counter"]
    later = [Counter(), Callback(), Counter(), Counter()]
    resume_callbacks(later, states, None)  # type: ignore[arg-type]
    assert [c.count for c in later if isinstance(c, Counter)] == [3, 5, 0]
    for wrong in ([["Counter", "x"]], [["EarlyStopping", {"best_score": 1.0}]]):
        with pytest.raises(ArchiveError, match=r"callbacks\.|must be a dict with"):
            resume_callbacks([Counter(), EarlyStopping()], wrong, None)  # type: ignore[arg-type]


def test_a_module_that_is_trained_may_have_other_parts() -> None:
    first = training()
    decoder = nn.Linear(2, 5)
    both = Training(
        {**first.modules, "decoder": decoder},
        *(first.terms, first.step, first.optimizer, first.sampler, BATCH),
        draws=False,
    )
    assert both.state()["generators"] is None
    assert sorted(both.weights()) == ["decoder.bias", "decoder.weight", "embedder.positions"]
