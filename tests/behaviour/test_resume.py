"""A fit that is interrupted and continued from its checkpoint ends as one that was not.

The right answer is always the uninterrupted fit, compared bit by bit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neumap import UMAP, ParametricUMAP
from neumap.archive import ArchiveError, pack_tree, write_archive
from neumap.callbacks import Callback, Checkpoint, EarlyStopping, load_checkpoint
from neumap.callbacks.checkpoint import read_checkpoint

N_FORGERIES = int(os.environ.get("NEUMAP_FORGERIES", "60"))

X = np.random.default_rng(0).normal(size=(240, 64)).astype(np.float32)
X[::3] += 2.0
Y = np.arange(240) % 3


class Interrupt(Callback):
    """Interrupts a training after a report, as Ctrl-C would, or within an epoch."""

    def __init__(self, after: int, *, within: bool = False) -> None:
        self.after = after
        self.within = within

    def on_step_end(self, run: Any) -> None:
        if self.within and run.epoch == self.after + 1:
            raise KeyboardInterrupt

    def on_epoch_end(self, run: Any) -> None:
        if not self.within and run.epoch == self.after:
            raise KeyboardInterrupt


def convolutions() -> nn.Module:
    torch.manual_seed(torch.seed())  # other weights in every process
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 20), nn.Dropout(0.2), nn.ReLU(), nn.Linear(20, 2))


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 2))


def expensive() -> nn.Module:
    layers = [nn.Linear(64, 700), nn.ReLU(), nn.Linear(700, 700), nn.ReLU(), nn.Linear(700, 2)]
    return nn.Sequential(*layers)


def of_keras() -> Any:
    keras = pytest.importorskip("keras")
    layers = [keras.layers.Dense(20, activation="relu"), keras.layers.Dropout(0.2)]
    return keras.Sequential([keras.layers.Input((64,)), *layers, keras.layers.Dense(2)])


def schedule_of_keras() -> Any:
    optimizers = pytest.importorskip("keras").optimizers
    return optimizers.Adam(optimizers.schedules.CosineDecay(1e-2, 100))


QUICK: dict[str, Any] = {
    "n_neighbors": 8,
    "random_state": 0,
    "n_epochs": 4,
    "batch_size": 64,
    "preset": "fast",
    "device": "cpu",
}
FREE = {k: v for k, v in QUICK.items() if k != "preset"}


def network(**given: Any) -> ParametricUMAP:
    return ParametricUMAP(**{**QUICK, **given})


AUTOENCODER: dict[str, Any] = {
    "parametric_reconstruction": True,
    "autoencoder_loss": True,
    "reconstruction_validation": X[:20],
    "global_correlation_loss_weight": 0.1,
}
KINDS: dict[str, Callable[[], UMAP]] = {
    "network": network,
    "decoder": lambda: network(parametric_reconstruction=True),
    "autoencoder": lambda: network(**AUTOENCODER),
    "convolutions": lambda: network(encoder=convolutions()),
    "dropout": lambda: network(encoder=dropping()),
    "batch norm": lambda: network(encoder=normalising()),
    "classifier": lambda: network(classifier_loss_weight=1.0),
    "free": lambda: UMAP(**FREE),
    "free densmap": lambda: UMAP(densmap=True, dens_frac=1.0, **FREE),
    "adam": lambda: network(optimizer="adam"),
    "keras": lambda: network(encoder=of_keras(), optimizer=schedule_of_keras()),
    "sgd with momentum": lambda: network(
        optimizer=lambda ps: torch.optim.SGD(ps, 1e-3, momentum=0.9)
    ),
}


def labels(kind: str) -> Any:
    return Y if kind == "classifier" else None


def weights(model: UMAP) -> list[np.ndarray]:
    modules = [getattr(model, name, None) for name in ("encoder_", "decoder_", "classifier_")]
    return [t.numpy() for m in modules if m is not None for t in m.state_dict().values()]


def check_equal(found: UMAP, expected: UMAP) -> None:
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    for ours, theirs in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.history_.keys() == expected.history_.keys()
    for name, curve in expected.history_.items():
        np.testing.assert_array_equal(found.history_[name], curve)
    assert found.report_["n_steps"] == expected.report_["n_steps"]


def interrupted(model: UMAP, y: Any = None, X: np.ndarray = X, **how: Any) -> None:
    path = how.pop("path")
    others = how.pop("callbacks", [])
    model.set_params(callbacks=[Checkpoint(path), *others, Interrupt(**{"after": 3, **how})])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    model.set_params(callbacks=others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_fit_ends_as_one_that_was_not_interrupted(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "c.neumap"
    first, expected, later = (KINDS[kind]() for _ in range(3))  # a user's networks differ
    if isinstance(first, ParametricUMAP) and isinstance(expected, ParametricUMAP):
        expected.encoder = first.encoder
    expected.fit(X, labels(kind))
    interrupted(first, labels(kind), path=path, within=True)
    assert 0 < load_checkpoint(path).step < expected.report_["n_steps"]
    check_equal(later.fit(X, labels(kind), resume_from=path), expected)


def test_a_given_guide_leads_a_continued_fit(tmp_path: Path) -> None:
    guide = network().fit(X)
    expected = network(encoder=dropping(), guide=guide)
    first, later = network(encoder=expected.encoder, guide=guide), network(encoder=dropping())
    expected.fit(X)
    interrupted(first, path=tmp_path / "c", after=1)  # in the part in which it leads
    with pytest.raises(ValueError, match="got one with other guide"):
        later.fit(X, resume_from=tmp_path / "c")
    later.guide = network(random_state=1).fit(X)
    with pytest.raises(ValueError, match="got one with other guide"):
        later.fit(X, resume_from=tmp_path / "c")
    later.guide = guide
    check_equal(later.fit(X, resume_from=tmp_path / "c"), expected)


def test_the_guide_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neumap.estimators import guiding

    settings: dict[str, Any] = {"n_epochs": None, "guide": "auto"}
    expected, first = (network(encoder=expensive(), **settings) for _ in range(2))
    first.encoder = expected.encoder
    assert expected.fit(X).report_["guide"] == "trained first"
    interrupted(first, path=tmp_path / "c")

    def refused(*given: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(guiding, "_train_guide", refused)
    later = network(encoder=expensive(), **settings)
    check_equal(later.fit(X, resume_from=tmp_path / "c"), expected)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(5)])
def test_a_fit_without_a_seed_goes_on_with_its_own(random_state: Any, tmp_path: Path) -> None:
    """Two fits go on from one file, so both have its seed."""
    interrupted(network(random_state=random_state), path=tmp_path / "c")
    found = [network(random_state=random_state).fit(X, resume_from=tmp_path / "c") for _ in "ab"]
    check_equal(found[0], found[1])


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    expected = network(callbacks=[Checkpoint(tmp_path / "c")]).fit(X)
    steps: list[int] = []

    class Count(Callback):
        def on_step_end(self, run: Any) -> None:
            steps.append(run.step)

    check_equal(network(callbacks=[Count()]).fit(X, resume_from=tmp_path / "c"), expected)
    assert steps == []


@pytest.mark.parametrize("stops", [True, False])
def test_early_stopping_goes_on_counting(stops: bool, tmp_path: Path) -> None:
    def stopper() -> EarlyStopping:
        # Improvements of a loss that falls do not count before the patience is over.
        return EarlyStopping("loss", min_delta=10.0 if stops else 0.0, patience=6)

    expected, found = stopper(), stopper()
    model = network(callbacks=[expected]).fit(X)
    assert (expected.stopped_epoch == 6) is stops
    interrupted(network(), path=tmp_path / "c", callbacks=[stopper()])
    later = network(callbacks=[found]).fit(X, resume_from=tmp_path / "c")
    check_equal(later, model)
    assert found.stopped_epoch == expected.stopped_epoch
    assert found.best_score == expected.best_score
    assert found.best_epoch == expected.best_epoch


def test_a_time_limit_counts_the_time_before(tmp_path: Path) -> None:
    interrupted(network(max_time=1e6), path=tmp_path / "c")
    state = read_checkpoint(tmp_path / "c")
    assert 0 < state["seconds"] < 1e5
    state["seconds"] = 2e6  # as if the earlier part had taken all of it
    rewrite(tmp_path / "c", state)
    found = network(max_time=1e6).fit(X, resume_from=tmp_path / "c")
    assert found.report_["n_steps"] == state["step"]


# ---- other data or parameters -------------------------------------------------------------------

OTHER: dict[str, tuple[Callable[[], UMAP], Any, str]] = {
    "parameter": (lambda: network(n_neighbors=9), X, r"n_neighbors \(8 there, 9 here\)"),
    "seed": (lambda: network(random_state=1), X, r"random_state \(0 there, 1 here\)"),
    "preset": (lambda: network(preset="best"), X, r"preset \('fast' there"),
    "rows": (network, X[::-1].copy(), "got one with other X"),
    "one number": (network, np.where(np.arange(X.size).reshape(X.shape) == 9, 0, X), "other X"),
    "fewer rows": (network, X[:-1], "other X"),
    "network": (lambda: network(encoder=dropping()), X, "encoder"),
    "estimator": (lambda: UMAP(**FREE), X, "encoder"),
    "both": (lambda: network(min_dist=0.2), X[1:], r"min_dist \(0.1 there, 0.2 here\), X\."),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "c.neumap"
    interrupted(network(), path=path)
    return path


@pytest.mark.parametrize("kind", OTHER)
def test_another_fit_is_refused_with_what_differs(kind: str, checkpoint: Path) -> None:
    make, rows, message = OTHER[kind]
    model = make()
    with pytest.raises(ValueError, match=message):
        model.fit(rows, resume_from=checkpoint)
    assert not hasattr(model, "embedding_")


def test_labels_are_part_of_the_fit(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got one with other y"):
        network().fit(X, Y, resume_from=checkpoint)


def test_the_container_of_the_rows_may_be_another(checkpoint: Path) -> None:
    expected = network().fit(X)
    check_equal(network().fit(torch.from_numpy(X), resume_from=checkpoint), expected)


def test_what_only_shows_a_fit_may_differ(checkpoint: Path) -> None:
    expected = network().fit(X)
    check_equal(network(verbose=1, n_jobs=1).fit(X, resume_from=checkpoint), expected)


def test_a_fit_that_trains_nothing_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    network(callbacks=[Checkpoint(tmp_path / "c")], n_epochs=1).fit(X)
    state = read_checkpoint(tmp_path / "c")
    state["origin"]["fit"]["n_epochs"] = 0
    rewrite(tmp_path / "c", state)
    with pytest.raises(ValueError, match="resume_from must be left out of a fit that trains"):
        network(n_epochs=0).fit(X, resume_from=tmp_path / "c")


def test_a_checkpoint_of_another_version_warns(checkpoint: Path, tmp_path: Path) -> None:
    from neumap.estimators import fitting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "package_version", lambda name: "9.9")
        with pytest.warns(UserWarning, match="and this is 9.9: the result may differ"):
            network().fit(X, resume_from=checkpoint)


def test_an_optimiser_without_a_state_is_refused_before_the_search(tmp_path: Path) -> None:
    class Forgetful:
        def __init__(self, parameters: Any) -> None:
            self.param_groups = [{"params": list(parameters), "lr": 1e-3}]

        def zero_grad(self) -> None: ...
        def step(self) -> None: ...

    model = network(optimizer=Forgetful, callbacks=[Checkpoint(tmp_path / "c")])
    with pytest.raises(TypeError, match="optimizer must have the methods state_dict and load"):
        model.fit(X)


# ---- damaged and forged files -------------------------------------------------------------------


def rewrite(path: Path, state: dict[str, Any]) -> None:
    """Write a state under valid checksums."""
    tensors: dict[str, Any] = {}
    del state["written_by"]
    metadata = {"checkpoint": pack_tree(state, "state", tensors)}
    write_archive(path.with_suffix(".neumap"), tensors=tensors, metadata=metadata).replace(path)


def test_damaged_files_are_refused_or_equal(checkpoint: Path, tmp_path: Path) -> None:
    expected = network().fit(X)
    rng, content, file = random.Random(0), checkpoint.read_bytes(), tmp_path / "damaged"
    n_refused = 0
    for _ in range(N_FORGERIES):
        damaged = bytearray(content)
        kind = rng.choice(["flip", "flip", "cut", "swap"])
        first, second = sorted(rng.randrange(len(content) - 64) for _ in "ab")
        if kind == "flip":
            damaged[first] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del damaged[first:]
        else:
            damaged[first : first + 64], damaged[second : second + 64] = (
                damaged[second : second + 64],
                damaged[first : first + 64],
            )
        file.write_bytes(damaged)
        try:
            read_checkpoint(file)
        except ArchiveError:
            n_refused += 1
        else:  # a bit that means nothing, as in white space, or two equal parts
            check_equal(network().fit(X, resume_from=file), expected)
    assert n_refused > 0.9 * N_FORGERIES


def changed(value: Any, rng: random.Random) -> Any:
    """Return another value of some kind in place of this one."""
    others: list[Any] = [None, -1, 2**62, 1.5, float("nan"), "x", [], {}, True, torch.zeros(3)]
    if isinstance(value, torch.Tensor) and value.numel():
        others += [value[None], value.double(), value.flatten()[:-1]]
    return rng.choice(others)


def mutate(value: Any, rng: random.Random) -> Any:
    """Change one place of nested values."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice([*value])
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutate(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], mutate(value[at], rng), *value[at + 1 :]]
    return changed(value, rng)


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_forged_files_are_refused_or_train(
    optimizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under valid checksums: an ArchiveError, another fit, or a training that ends."""
    from neumap.estimators import fitting
    from neumap.training import TrainingDivergedError

    model = network(optimizer=optimizer, n_epochs=1)
    interrupted(model, path=tmp_path / "c", callbacks=[EarlyStopping()], after=5)
    state, rng = read_checkpoint(tmp_path / "c"), random.Random(str(optimizer))
    n_refused, found = 0, {}

    def once(*given: Any) -> Any:  # the search is not what is attacked
        if "graph" not in found:
            found["graph"] = graph(*given)
        return found["graph"]

    graph = fitting._graph
    monkeypatch.setattr(fitting, "_graph", once)
    for _ in range(N_FORGERIES):
        name = rng.choice([name for name in state if name != "written_by"])
        forged = {**state, name: mutate(state[name], rng)}
        rewrite(tmp_path / "forged", dict(forged))
        model.set_params(callbacks=[EarlyStopping()])
        try:
            model.fit(X, resume_from=tmp_path / "forged")
        except (ArchiveError, TrainingDivergedError):
            n_refused += 1
        except ValueError as error:
            if "resume_from must be" not in str(error):
                raise
            n_refused += 1
    assert n_refused > N_FORGERIES // 2


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    network().fit(X).save(tmp_path / "m.neumap")
    with pytest.raises(ArchiveError, match=r"must be a checkpoint, got .* contains estimator"):
        network().fit(X, resume_from=tmp_path / "m.neumap")
    with pytest.raises(
        ArchiveError, match="resume_from must be a file that Checkpoint wrote, got no file"
    ):
        network().fit(X, resume_from=tmp_path / "none.neumap")


# ---- a process that is killed -------------------------------------------------------------------

KILLED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
import numpy as np
from neumap import ParametricUMAP
from neumap.callbacks import Callback, Checkpoint

class Kill(Callback):
    def on_step_end(self, run):
        if run.step == int(sys.argv[2]):
            os.kill(os.getpid(), getattr(signal, sys.argv[3]))

X = np.load(sys.argv[1] + ".npy")
settings = dict(n_neighbors=8, random_state=0, n_epochs=4, batch_size=64, preset="fast")
model = ParametricUMAP(callbacks=[Checkpoint(sys.argv[1]), Kill()], device="cpu", **settings)
model.fit(X)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_killed_process_is_continued_by_another(name: str, tmp_path: Path) -> None:
    expected = network().fit(X)
    n_steps = expected.report_["n_steps"]
    np.save(f"{tmp_path / 'c'}.npy", X)
    code = [sys.executable, "-c", KILLED, str(tmp_path / "c"), str(n_steps // 2), name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(code, env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode == -getattr(signal, name)
    assert load_checkpoint(tmp_path / "c").step <= n_steps // 2
    check_equal(network().fit(X, resume_from=tmp_path / "c"), expected)
