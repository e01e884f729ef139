"""Fits among other things: threads, forks, and torch's settings around them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from neumap import UMAP, ParametricUMAP

X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 3, "random_state": 0}


def own_network(*layers: torch.nn.Module) -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(5, 16), torch.nn.ReLU(), *layers, torch.nn.Linear(16, 2)
        )


NETWORK, DROPOUT = own_network(), own_network(torch.nn.Dropout(0.3))
KINDS: dict[str, Callable[[], UMAP]] = {
    "free": lambda: UMAP(**QUICK).fit(X),
    "network": lambda: ParametricUMAP(preset="fast", **QUICK).fit(X),
    "user network": lambda: ParametricUMAP(encoder=NETWORK, **QUICK).fit(X),
    "dropout": lambda: ParametricUMAP(encoder=DROPOUT, **QUICK).fit(X),
    "decoder": lambda: ParametricUMAP(preset="fast", parametric_reconstruction=True, **QUICK).fit(
        X
    ),
    "classifier": lambda: ParametricUMAP(preset="fast", classifier_loss_weight=1.0, **QUICK).fit(
        X, Y
    ),
}


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("kind", ["free", "network", "user network", "dropout", "decoder"])
def test_seeded_fits_in_several_threads_equal_a_single_one(kind: str) -> None:
    fit = KINDS[kind]
    alone = fit().embedding_
    before = torch.get_rng_state()
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: fit().embedding_})) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for embedding in found.values():
        np.testing.assert_array_equal(embedding, alone)
    assert torch.equal(torch.get_rng_state(), before)


def test_built_in_networks_leave_torchs_global_generator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even for a moment: another thread may draw from it."""

    def seeded(seed: int) -> None:
        raise AssertionError("the global generator was seeded")

    monkeypatch.setattr(torch, "manual_seed", seeded)
    before = torch.get_rng_state()
    for kind in ("free", "network", "decoder", "classifier"):
        KINDS[kind]()
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------ torch's settings


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_settings_around_a_fit_do_not_matter(kind: str, around: str) -> None:
    usual = KINDS[kind]()
    placed = usual.transform(X[:5] + 0.5)
    with AROUND[around]():
        model = KINDS[kind]()
        np.testing.assert_array_equal(model.transform(X[:5] + 0.5), placed)
        np.testing.assert_array_equal(usual.transform(X[:5] + 0.5), placed)
        if kind == "classifier":
            assert isinstance(model, ParametricUMAP)
            assert model.predict(X[:5]).shape == (5,)
        settings = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        settings += (torch.is_autocast_enabled("cpu"), torch.get_default_dtype())
    expected = (around in ("autocast", "float64"), around == "inference_mode")
    expected += (around == "autocast", torch.float64 if around == "float64" else torch.float32)
    assert settings == expected  # as they were before the fit
    np.testing.assert_array_equal(model.embedding_, usual.embedding_)


# ------------------------------------------------------------------ forks

FORK = """
import os, sys, warnings
import numpy as np, torch
from neumap import UMAP, ParametricUMAP
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads
torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)
quick = dict(n_neighbors=5, n_epochs=1, random_state=0)
make = {
    "network": lambda: ParametricUMAP(preset="fast", **quick),
    "free": lambda: UMAP(force_approximation_algorithm=True, n_jobs=2, **quick),
    "decoder": lambda: ParametricUMAP(preset="fast", parametric_reconstruction=True, **quick),
}[sys.argv[1]]
model = make().fit(X)
torch.randn(2000, 2000) @ torch.randn(2000, 2000)  # starts torch's threads for certain
placed = model.transform(X[:2000] + 0.1)
child = os.fork()
if child == 0:
    again = model.transform(X[:2000] + 0.1)
    fitted = make().fit(X)
    same = np.allclose(again, placed, atol=1e-2) and np.isfinite(fitted.embedding_).all()
    os._exit(0 if same else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("kind", ["network", "free", "decoder"])
def test_a_forked_child_can_transform_and_fit(kind: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    code = [sys.executable, "-c", FORK, kind]
    done = subprocess.run(code, env=environment, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
