"""Estimators to a file and back: to the bit, in a fresh process, without code from the file."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from torch import nn

from neumap import UMAP, ParametricUMAP, load, load_ParametricUMAP
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.callbacks import EarlyStopping
from neumap.estimators.fitted import FIELDS
from neumap.networks import ConvDecoder, ConvEncoder

QUICK: dict[str, Any] = {
    "n_neighbors": 5,
    "n_epochs": 3,
    "batch_size": 64,
    "random_state": 3,
    "device": "cpu",
}
N_ROWS, N_FEATURES = 60, 8


def rows(seed: int = 0, n_rows: int = N_ROWS) -> np.ndarray:
    """Rows of both signs in four clusters."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(4, N_FEATURES)) * 3
    return (centres[np.arange(n_rows) % 4] + generator.normal(size=(n_rows, N_FEATURES))).astype(
        np.float32
    )


LABELS = np.array(["ant", "bee", "cat", "dog"])[np.arange(N_ROWS) % 4]


def parametric(**parameters: Any) -> ParametricUMAP:
    return ParametricUMAP(**QUICK, preset="fast", **parameters)


def same(one: Any, other: Any) -> bool:
    """Whether two arrays are equal in dtype and to the bit."""
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


def state_of(network: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.cpu().numpy() for key, value in network.state_dict().items()}


def same_state(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = state_of(one), state_of(other)
    return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)


class Net(nn.Module):
    """An encoder of the user's, which can say how it is made."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(N_FEATURES, width)
        self.out = nn.Linear(width, 2)

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.hidden.out_features}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.hidden(x)))


class Silent(nn.Module):
    """An encoder of the user's, which cannot."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.sin(layer(x))
        return x


class Images(nn.Module):
    """A decoder of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2, N_FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x).reshape(-1, 4, 2)


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Linear(N_FEATURES, 12), nn.GELU(), nn.Linear(12, 2))


@functools.cache
def full_model() -> ParametricUMAP:
    """Every part a model can have; tests must not change it."""
    return parametric(
        parametric_reconstruction=True, classifier_loss_weight=1.0, n_components=3
    ).fit(rows(), LABELS)


@functools.cache
def table_model() -> UMAP:
    return UMAP(**QUICK).fit(rows())


# ---- round trips --------------------------------------------------------------------------------

FRESH_PROCESS = """
import sys
import numpy as np
import neumap
folder = sys.argv[1]
model = neumap.load(folder + "/model.neumap")
new = np.load(folder + "/new.npy")
got = {"embedding": model.embedding_, "transform": model.transform(new)}
if hasattr(model, "decoder_"):
    got["inverse"] = model.inverse_transform(model.embedding_)
    got["proba"] = model.predict_proba(new)
    got["labels"] = model.predict(new)
got["loss"] = np.array(model.history_["loss"])
np.savez(folder + "/got.npz", **got)
"""


@pytest.mark.parametrize("make", [full_model, table_model])
def test_round_trip_in_a_fresh_process_is_equal_to_the_bit(
    tmp_path: Path, make: Callable[[], UMAP]
) -> None:
    model, new = make(), rows(seed=1, n_rows=9)
    model.save(tmp_path)
    np.save(tmp_path / "new.npy", new)
    subprocess.run([sys.executable, "-c", FRESH_PROCESS, str(tmp_path)], check=True, timeout=120)
    got = np.load(tmp_path / "got.npz")
    expected: dict[str, Any] = {"embedding": model.embedding_, "transform": model.transform(new)}
    expected["loss"] = np.array(model.history_["loss"])
    if isinstance(model, ParametricUMAP):
        expected["inverse"] = model.inverse_transform(model.embedding_)
        expected["proba"] = model.predict_proba(new)
        expected["labels"] = model.predict(new)
    assert set(got.files) == set(expected)
    for name, values in expected.items():
        assert same(got[name], values), name


def test_everything_learned_and_every_parameter_returns(tmp_path: Path) -> None:
    model = full_model()
    again = load_ParametricUMAP(model.save(tmp_path / "m.neumap"))
    assert again.get_params() == model.get_params()
    assert [name for name in FIELDS if getattr(model._model(), name) is None] == [
        name for name in FIELDS if getattr(again._model(), name) is None and name != "training"
    ]
    assert again._model().training is None
    assert again.history_ == model.history_
    assert again.report_ == model.report_
    assert again.classes_.tolist() == ["ant", "bee", "cat", "dog"]
    assert (again.graph_ != model.graph_).nnz == 0
    assert (again.input_shape_, again.row_shape_) == (model.input_shape_, model.row_shape_)
    assert again.reconstruction_loss_.name == model.reconstruction_loss_.name
    assert again.encoder_.training == model.encoder_.training
    assert same_state(again.encoder_, model.encoder_)
    assert same(again.embedding_, model.embedding_)
    tensors = read_archive(tmp_path / "m.neumap").tensors
    stored = [name for name, tensor in tensors.items() if tensor.shape == (N_ROWS, 3)]
    assert stored == ["embedding"]  # once


def test_training_rows_are_kept_only_where_asked_or_needed(tmp_path: Path) -> None:
    def kept(model: UMAP, **options: Any) -> list[str]:
        """Names of stored tensors that hold a row of the data."""
        tensors = read_archive(model.save(tmp_path / "m.neumap", **options)).tensors
        arrays = {n: np.asarray(t) for n, t in tensors.items() if np.asarray(t).ndim == 2}
        wide = {n: a for n, a in arrays.items() if a.shape[1] == N_FEATURES}
        return [n for n, a in wide.items() if (a == rows()[0]).all(axis=1).any()]

    assert kept(full_model()) == []
    assert kept(full_model(), keep_data=True) == ["training"]
    assert kept(table_model()) == ["training"]
    assert kept(table_model(), keep_data=False) == []


def test_table_without_its_rows_says_what_to_do(tmp_path: Path) -> None:
    model = load(table_model().save(tmp_path, keep_data=False))
    assert same(model.embedding_, table_model().embedding_)
    with pytest.raises(ValueError, match=r"needs the training rows.*keep='data'"):
        model.transform(rows())


@pytest.mark.parametrize("keep_data", [None, True])
def test_update_after_loading_needs_the_rows(tmp_path: Path, keep_data: bool | None) -> None:
    model = parametric().fit(rows())
    again = load_ParametricUMAP(model.save(tmp_path, keep_data=keep_data))
    if keep_data:
        assert same(again.update(rows(4)).embedding_, model.update(rows(4)).embedding_)
    else:
        with pytest.raises(ValueError, match="update needs the training rows"):
            again.update(rows(4))


def test_validation_rows_are_data_too(tmp_path: Path) -> None:
    model = parametric(parametric_reconstruction=True, reconstruction_validation=rows(5)).fit(
        rows()
    )
    with pytest.warns(UserWarning, match="reconstruction_validation: it holds rows of data"):
        model.save(tmp_path / "small.neumap")
    assert load(tmp_path / "small.neumap").get_params()["reconstruction_validation"] is None
    model.save(tmp_path / "large.neumap", keep_data=True)
    kept = load(tmp_path / "large.neumap").get_params()["reconstruction_validation"]
    assert same(kept, rows(5))


def test_keep_data_without_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no rows of data"):
        parametric().save(tmp_path, keep_data=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sparse", "tensor", "uint8", "images", "frame", "memmap"])
def test_table_of_any_rows_in_memory(tmp_path: Path, kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    small = np.abs(rows() * 10).astype(np.uint8)
    np.save(tmp_path / "rows.npy", rows())
    X: Any = {
        "sparse": sparse.csr_matrix(np.where(np.abs(rows()) > 1, rows(), 0)),
        "tensor": torch.from_numpy(rows()),
        "uint8": small,
        "images": rows().reshape(-1, 4, 2),
        "frame": pandas.DataFrame(rows(), columns=[f"c{i}" for i in range(N_FEATURES)]),
        "memmap": np.load(tmp_path / "rows.npy", mmap_mode="r"),
    }[kind]
    model = UMAP(**QUICK).fit(X)
    again = load(model.save(tmp_path / "m.neumap"))
    assert same(again.transform(X[:7]), model.transform(X[:7]))
    if kind == "frame":
        assert again.feature_names_in_.dtype == object
        assert again.feature_names_in_.tolist() == [f"c{i}" for i in range(N_FEATURES)]


@pytest.mark.parametrize(
    "labels", [np.arange(N_ROWS) % 3, (np.arange(N_ROWS) % 3) / 2, LABELS, LABELS.astype(object)]
)
def test_classes_keep_their_kind(tmp_path: Path, labels: np.ndarray) -> None:
    model = parametric(classifier_loss_weight=1.0).fit(rows(), labels)
    again = load_ParametricUMAP(model.save(tmp_path))
    assert again.classes_.dtype == model.classes_.dtype
    assert again.predict(rows()).tolist() == model.predict(rows()).tolist()


def test_output_settings_stay(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    model = copy.deepcopy(table_model()).set_output(transform="pandas")
    again = load(model.save(tmp_path))
    assert isinstance(again.transform(rows()), pandas.DataFrame)


# ---- parameters ---------------------------------------------------------------------------------


def test_unfitted_model_is_its_parameters(tmp_path: Path) -> None:
    model = ParametricUMAP(
        n_neighbors=7,
        dims=(4, 2),
        metric_kwds={"p": 3, "w": np.arange(3.0)},
        init=rows()[:, :2],
        precomputed_knn=(np.arange(6).reshape(3, 2), np.ones((3, 2), np.float32)),
        random_state=np.int64(11),
        tqdm_kwds={"ncols": 80},
        a=math.inf,
        device=torch.device("cpu"),
        optimizer=torch.optim.SGD,
    )
    again = load_ParametricUMAP(model.save(tmp_path / "deep" / "folder"))
    assert not hasattr(again, "encoder_")
    ours, theirs = model.get_params(), again.get_params()
    assert same(theirs.pop("metric_kwds")["w"], ours.pop("metric_kwds")["w"])
    assert same(theirs.pop("init"), ours.pop("init"))
    for one, other in zip(theirs.pop("precomputed_knn"), ours.pop("precomputed_knn"), strict=True):
        assert same(one, other)
    assert theirs == ours
    assert isinstance(theirs["dims"], tuple)
    assert isinstance(theirs["device"], torch.device)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.9)),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5),
    ],
)
def test_optimiser_by_name_and_settings(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    optimizer = make([nn.Parameter(torch.zeros(2))])
    model = parametric(optimizer=optimizer)
    again = load_ParametricUMAP(model.save(tmp_path))
    assert type(again.optimizer) is type(optimizer)
    assert again.optimizer.defaults == optimizer.defaults
    assert same(again.fit(rows()).embedding_, model.fit(rows()).embedding_)


class OwnOptimizer(torch.optim.SGD):
    pass


def test_what_holds_code_is_named_and_left_out(tmp_path: Path) -> None:
    model = parametric(
        callbacks=[EarlyStopping(patience=5)],
        optimizer=OwnOptimizer,
        landmark_loss_fn=torch.dist,
        keras_fit_kwargs={"callbacks": [EarlyStopping()]},
    )
    model.set_params(random_state=np.random.default_rng(1))
    with pytest.warns(UserWarning, match="Left out of the saved model") as caught:
        model.save(tmp_path)
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    names = ("callbacks", "optimizer", "landmark_loss_fn", "keras_fit_kwargs", "random_state")
    assert all(f"{name}: " in text for name in names)
    assert len(caught) == 1
    again = load_ParametricUMAP(tmp_path)
    assert [getattr(again, name) for name in names] == [None] * 5


def test_lost_part_of_a_list_leaves_no_tensors(tmp_path: Path) -> None:
    model = UMAP(metric_kwds={"w": np.ones(3), "f": math.sin})
    with pytest.warns(UserWarning, match="metric_kwds: "):
        model.save(tmp_path)
    assert read_archive(tmp_path).tensors == {}


def test_table_with_a_metric_of_its_own_is_refused(tmp_path: Path) -> None:
    """With the default metric in its place, transform would be silently wrong."""
    model = copy.deepcopy(table_model()).set_params(metric=math.dist)
    with pytest.raises(ArchiveError, match="metric must be one that a file can hold"):
        model.save(tmp_path)
    with pytest.warns(UserWarning, match="metric: "):
        model.save(tmp_path, keep_data=False)


def test_rows_on_disk_are_refused_for_a_table(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = rows()
        model = UMAP(**QUICK).fit(file["x"])
        with pytest.raises(ArchiveError, match="Training rows must be in memory"):
            model.save(tmp_path / "m.neumap")
        model.save(tmp_path / "m.neumap", keep_data=False)


# ---- networks -----------------------------------------------------------------------------------


def test_own_network_by_class_or_by_module(tmp_path: Path) -> None:
    model = parametric(encoder=Net(12)).fit(rows())
    file = model.save(tmp_path)
    with pytest.raises(ArchiveError, match=r"Pass classes=\[Net\], or encoder="):
        load(file)
    ready = Net(12)
    before = copy.deepcopy(ready)
    for again in (
        load_ParametricUMAP(file, classes=[Net]),
        load_ParametricUMAP(file, encoder=ready),
    ):
        assert same(again.transform(rows(1)), model.transform(rows(1)))
        # The parameter is the network as it was passed, so that a new fit starts from it.
        assert same_state(again.encoder, model.encoder)
        assert not same_state(again.encoder, again.encoder_)
        assert same(again.fit(rows()).embedding_, model.embedding_)
    assert same_state(ready, before)
    with pytest.raises(
        ArchiveError, match="The encoder passed must be built as the one in the file"
    ):
        load(file, encoder=Net(13))


def test_network_without_arguments_needs_a_module(tmp_path: Path) -> None:
    sizes = [N_FEATURES, 6, 2]
    model = parametric(encoder=Silent(sizes)).fit(rows())
    file = model.save(tmp_path)
    with pytest.raises(ArchiveError, match="Pass encoder=<a module of the same structure>"):
        load(file)
    with pytest.raises(ArchiveError, match="Pass encoder=<a ready module>"):
        load(file, classes=[Silent])
    again = load_ParametricUMAP(file, encoder=Silent(sizes))
    assert same(again.transform(rows(1)), model.transform(rows(1)))
    with pytest.raises(ArchiveError, match="must fit the tensors in the file"):
        load(file, encoder=Silent([N_FEATURES, 7, 2]))


def test_network_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    file = full_model().save(tmp_path / "a.neumap")
    table = table_model().save(tmp_path / "b.neumap")
    with pytest.raises(ValueError, match=r"encoder was passed, but .* has no encoder to fill"):
        load(table, encoder=sequential())
    with pytest.raises(ArchiveError, match=r"Expected encoder=<a torch.nn.Module>"):
        load(file, encoder="mlp")


def test_lazy_networks_are_saved_before_and_after_a_fit(tmp_path: Path) -> None:
    lazy = nn.Sequential(nn.LazyLinear(9), nn.ReLU(), nn.LazyLinear(2))
    decoder = nn.Sequential(nn.LazyLinear(9), nn.ReLU(), nn.LazyLinear(N_FEATURES))
    model = parametric(encoder=lazy, decoder=decoder, parametric_reconstruction=True)
    unfitted = load_ParametricUMAP(model.save(tmp_path / "unfitted"))
    model.fit(rows())
    again = load_ParametricUMAP(model.save(tmp_path / "fitted"))
    assert same(again.transform(rows(1)), model.transform(rows(1)))
    for other in (unfitted, again):  # a new fit starts from the same lazy networks
        assert isinstance(other.encoder[2], nn.LazyLinear)
        assert same(other.fit(rows()).embedding_, model.embedding_)


@pytest.mark.parametrize("fitted", [False, True])
def test_conv_networks_with_dims(tmp_path: Path, fitted: bool) -> None:
    X = np.abs(rows()).clip(0, 6) / 6
    model = parametric(
        encoder=ConvEncoder((4, 2, 1), 2, channels=(4,), hidden=8),
        decoder=ConvDecoder((4, 2, 1), 2, channels=(4,), hidden=8),
        dims=(4, 2, 1),
        parametric_reconstruction=True,
    )
    if fitted:
        model.fit(X)
    again = load_ParametricUMAP(model.save(tmp_path))
    if not fitted:
        model.fit(X)
        again.fit(X)
    assert same(again.transform(X[:5]), model.transform(X[:5]))
    assert same(
        again.inverse_transform(model.embedding_), model.inverse_transform(model.embedding_)
    )


def test_loss_of_ones_own_keeps_its_activation(tmp_path: Path) -> None:
    X = np.abs(rows()).clip(0, 6) / 6
    model = parametric(
        parametric_reconstruction=True, parametric_reconstruction_loss_fcn=nn.BCEWithLogitsLoss()
    ).fit(X)
    with pytest.warns(UserWarning, match="parametric_reconstruction_loss_fcn"):
        model.save(tmp_path)
    again = load_ParametricUMAP(tmp_path)
    decoded = again.inverse_transform(model.embedding_)
    assert same(decoded, model.inverse_transform(model.embedding_))
    assert decoded.min() > 0
    assert decoded.max() < 1
    with pytest.raises(ValueError, match="does not hold functions"):
        again.reconstruction_loss_(torch.zeros(2, 2), torch.zeros(2, 2))


def test_fit_goes_on_with_landmarks_after_loading(tmp_path: Path) -> None:
    model = parametric().fit(rows())
    model.add_landmarks(rows(), sample_mode="predetermined", idx=[0, 5, 9])
    again = load_ParametricUMAP(model.save(tmp_path))
    later = rows(seed=2)
    assert same(again.fit(later).embedding_, model.fit(later).embedding_)
    assert again.report_["landmark_drift"]["n_landmarks"] == 3
    fresh = parametric().fit(later)
    assert not same(again.embedding_, fresh.embedding_)


# ---- files, classes, devices --------------------------------------------------------------------


def test_class_in_the_file_decides(tmp_path: Path) -> None:
    class Renamed(ParametricUMAP):
        pass

    table = table_model().save(tmp_path / "t.neumap")
    assert type(load(table)) is UMAP
    assert type(load(full_model().save(tmp_path / "p.neumap"))) is ParametricUMAP
    with pytest.raises(ArchiveError, match=r"Expected a ParametricUMAP .* holds a UMAP"):
        load_ParametricUMAP(table)
    own = Renamed(n_neighbors=9).save(tmp_path / "o.neumap")
    with pytest.raises(ArchiveError, match=r"Pass classes=\[Renamed\]"):
        load(own)
    assert type(load(own, classes=[Renamed])) is Renamed


def test_files_that_are_no_models(tmp_path: Path) -> None:
    whole = full_model().save(tmp_path / "m.neumap")
    (tmp_path / "cut.neumap").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "pickle.neumap").write_bytes(pickle.dumps(1))
    write_archive(tmp_path / "other.neumap", tensors={}, metadata={"weather": "fine"})
    for name, message in {
        "cut": "damaged",
        "pickle": "must be a model saved by neumap",
        "other": "must be a saved estimator, but it holds weather",
        "none": "got nothing there",
    }.items():
        with pytest.raises(ArchiveError, match=message):
            load_ParametricUMAP(tmp_path / f"{name}.neumap")


@pytest.mark.parametrize("change", ["parameter", "kind"])
def test_file_of_a_newer_neumap(tmp_path: Path, change: str) -> None:
    archive = read_archive(ParametricUMAP().save(tmp_path))
    parameters = archive.metadata["estimator"]["parameters"]
    if change == "parameter":
        parameters["hyperbolic"] = {"value": True}
    else:
        parameters["metric"] = {"hologram": 1}
    write_archive(tmp_path, tensors=archive.tensors, metadata=archive.metadata)
    with pytest.raises(ArchiveError, match="Update with: pip install"):
        load(tmp_path)


def test_file_without_a_later_parameter_gets_its_default(tmp_path: Path) -> None:
    archive = read_archive(ParametricUMAP(n_neighbors=9, preset="best").save(tmp_path))
    del archive.metadata["estimator"]["parameters"]["preset"]
    write_archive(tmp_path, tensors=archive.tensors, metadata=archive.metadata)
    model = load_ParametricUMAP(tmp_path)
    assert (model.n_neighbors, model.preset) == (9, "default")


def test_optimiser_named_in_a_file_is_looked_up_in_torch_only(tmp_path: Path) -> None:
    archive = read_archive(ParametricUMAP(optimizer=torch.optim.Adam).save(tmp_path))
    for name in ("lr_scheduler", "system", "OwnOptimizer"):
        archive.metadata["estimator"]["parameters"]["optimizer"]["optimizer"] = name
        write_archive(tmp_path, tensors=archive.tensors, metadata=archive.metadata)
        with pytest.raises(
            ArchiveError, match=r"parameters\.optimizer must be an optimiser of torch"
        ):
            load(tmp_path)


def test_device_of_the_file_or_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(full_model())
    for saved, wanted, expected in [
        ("cpu", "auto", "cpu"),
        ("auto", "auto", "auto"),
        ("auto", "cpu", "cpu"),
        ("cuda:17", "auto", "auto"),  # no machine of ours has it
    ]:
        file = model.set_params(device=saved).save(tmp_path)
        assert load(file, device=wanted).device == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        load(file, device="cuda")


@pytest.mark.gpu
def test_model_from_a_gpu_works_on_the_cpu(tmp_path: Path) -> None:
    model = parametric(parametric_reconstruction=True).set_params(device="cuda").fit(rows())
    assert next(model.encoder_.parameters()).is_cuda
    file = model.save(tmp_path)
    on_cpu = load_ParametricUMAP(file, device="cpu")
    assert not next(on_cpu.encoder_.parameters()).is_cuda
    np.testing.assert_allclose(on_cpu.transform(rows()), model.transform(rows()), atol=1e-3)
    assert next(load_ParametricUMAP(file).encoder_.parameters()).is_cuda
    assert same(load_ParametricUMAP(file).transform(rows()), model.transform(rows()))


def test_failed_save_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = full_model().save(tmp_path / "m.neumap")
    before = file.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("neumap.archive.file.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        table_model().save(file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.neumap"]  # noqa: PTH208


# ---- copies -------------------------------------------------------------------------------------


def through_joblib(model: Any, folder: Path) -> Any:
    joblib.dump(model, folder / "m.joblib")
    return joblib.load(folder / "m.joblib")


COPIES: dict[str, Callable[[Any, Path], Any]] = {
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "deepcopy": lambda model, _: copy.deepcopy(model),
}


def owned_parts() -> dict[str, Any]:
    return {
        "encoder": sequential(),
        "decoder": nn.Linear(2, N_FEATURES),
        "parametric_reconstruction": True,
        "parametric_reconstruction_loss_fcn": nn.L1Loss(),
        "callbacks": [EarlyStopping(patience=2)],
    }


@pytest.mark.parametrize("way", COPIES)
def test_copies_of_fitted_models(tmp_path: Path, way: str) -> None:
    model = parametric(**owned_parts()).fit(rows())
    again = COPIES[way](model, tmp_path)
    assert same(again.transform(rows(1)), model.transform(rows(1)))
    assert same(
        again.inverse_transform(model.embedding_), model.inverse_transform(model.embedding_)
    )
    assert again.encoder_ is not model.encoder_
    with torch.no_grad():
        next(again.encoder_.parameters()).zero_()
    assert not same(again.transform(rows(1)), model.transform(rows(1)))
    assert same(again.fit(rows()).embedding_, model.embedding_)


def test_a_pickle_holds_training_rows_only_where_placing_needs_them() -> None:
    for model, kept in ((parametric(), False), (UMAP(n_neighbors=9, n_epochs=5), True)):
        again = pickle.loads(pickle.dumps(model.fit(rows())))
        assert hasattr(model, "_raw_data")
        assert hasattr(again, "_raw_data") is kept


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("model", [UMAP(n_neighbors=9), ParametricUMAP(n_neighbors=9)])
def test_copies_of_unfitted_models(tmp_path: Path, way: str, model: UMAP) -> None:
    again = COPIES[way](model, tmp_path)
    assert type(again) is type(model)
    assert vars(again) == vars(model)


def test_clone_is_unfitted_and_shares_nothing() -> None:
    model = parametric(**owned_parts()).fit(rows())
    model.set_output(transform="default")
    again = clone(model)
    assert not hasattr(again, "encoder_")
    assert again.encoder is not model.encoder
    assert again.callbacks[0] is not model.callbacks[0]
    assert again._sklearn_output_config == model._sklearn_output_config
    assert same_state(again.encoder, model.encoder)
    assert same(again.fit(rows()).embedding_, model.embedding_)


# ---- ONNX ---------------------------------------------------------------------------------------


def run_onnx(file: Path, X: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(file)
    (output,) = session.run(None, {session.get_inputs()[0].name: X})
    return np.asarray(output)


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({}, (N_FEATURES,)),
        ({"encoder": "residual"}, (4, 2)),
        ({"encoder": "conv", "dims": (4, 2, 1)}, (N_FEATURES,)),
        ({"encoder": Net(12)}, (N_FEATURES,)),
        ({"encoder": nn.Sequential(nn.Flatten(), sequential()), "dims": (2, 4)}, (N_FEATURES,)),
    ],
    ids=["mlp", "images", "conv", "own", "dims"],
)
def test_onnx_takes_rows_as_transform_does(
    tmp_path: Path, parameters: dict[str, Any], shape: tuple[int, ...]
) -> None:
    pytest.importorskip("onnxruntime")
    X = rows().reshape(-1, *shape) * 50 - 20  # far from standardised
    model = parametric(**parameters).fit(X)
    file = model.to_onnx(tmp_path / "new" / "map.onnx")
    assert file == tmp_path / "new" / "map.onnx"
    got, expected = run_onnx(file, X[:9]), model.transform(X[:9])
    assert (expected < 0).any()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert run_onnx(file, X[:1]).shape == (1, 2)


@pytest.mark.parametrize("decoder", [None, Images()], ids=["mlp", "own"])
@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_onnx_of_the_decoder_gives_data(tmp_path: Path, decoder: Any, loss: str) -> None:
    pytest.importorskip("onnxruntime")
    X = np.abs(rows()).clip(0, 6).reshape(-1, 4, 2) / 6
    model = parametric(
        encoder="mlp",
        decoder=decoder,
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=loss,
    ).fit(X)
    file = model.to_ONNX(tmp_path / "decoder.onnx", part="decoder", check=False)
    positions = model.embedding_ * 3  # beyond the map as well
    got = run_onnx(file, positions)
    assert got.shape == (N_ROWS, 4, 2)
    np.testing.assert_allclose(got, model.inverse_transform(positions), rtol=1e-4, atol=1e-5)
    assert (loss == "bce") == bool(((got >= 0) & (got <= 1)).all())


def test_onnx_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="no decoder to export"):
        parametric().fit(rows()).to_onnx(path, part="decoder")
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder', got 'head'"):
        full_model().to_onnx(path, part="head")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no encoder to export.*parametric_embedding=True"):
        parametric(parametric_embedding=False).fit(rows()).to_onnx(path)
    with pytest.raises(Exception, match="not fitted yet"):
        parametric().to_onnx(path)


# ---- Keras --------------------------------------------------------------------------------------

KERAS_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")


@functools.cache
def keras_module() -> Any:
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    return keras


@functools.cache
def subclassed() -> type[Any]:
    """A class without get_config: Keras can neither copy nor write it."""
    layers = keras_module().layers

    class Subclassed(keras_module().Model):  # type: ignore[misc]
        def __init__(self, width):  # type: ignore[no-untyped-def]
            super().__init__()
            self.hidden, self.out = layers.Dense(width, activation="relu"), layers.Dense(2)

        def call(self, x):  # type: ignore[no-untyped-def]
            return self.out(self.hidden(x))

    return Subclassed


@functools.cache
def configured() -> type[Any]:
    class Configured(subclassed()):  # type: ignore[misc]
        def __init__(self, width, **kwargs):  # type: ignore[no-untyped-def]
            super().__init__(width)
            self.width = width

        def get_config(self):  # type: ignore[no-untyped-def]
            return {"width": self.width}

    return Configured


def keras_model(kind: str) -> Any:
    keras = keras_module()
    dense = [keras.layers.Dense(9, activation="relu"), keras.layers.Dense(2)]
    if kind == "built":
        return keras.Sequential([keras.Input((N_FEATURES,)), *dense])
    if kind == "conv":
        front = [keras.layers.Conv2D(3, 2, padding="same"), keras.layers.Flatten()]
        return keras.Sequential([*front, *dense])
    if kind == "unbuilt":
        return keras.Sequential(dense)
    return {"configured": configured, "subclassed": subclassed}[kind]()(9)


def keras_estimator(kind: str) -> ParametricUMAP:
    return parametric(
        encoder=keras_model(kind),
        dims=(4, 2, 1) if kind == "conv" else None,
        optimizer=keras_module().optimizers.Adam(3e-3),
    )


@KERAS_WARNINGS
@pytest.mark.parametrize("kind", ["built", "unbuilt", "conv", "configured", "subclassed"])
def test_keras_encoder_returns_equal_to_the_bit(tmp_path: Path, kind: str) -> None:
    model = keras_estimator(kind).fit(rows())
    file = model.save(tmp_path)
    help_: dict[str, Any] = {}
    if kind == "configured":
        help_ = {"classes": [configured()]}
        with pytest.raises(ArchiveError, match=r"Pass classes=\[...\] with its own classes"):
            load(file)
    elif kind == "subclassed":
        help_ = {"encoder": keras_model(kind)}
        with pytest.raises(ArchiveError, match="Expected encoder=<a Keras model of the same"):
            load(file)
    again = load_ParametricUMAP(file, **help_)
    assert same(again.transform(rows(1)), model.transform(rows(1)))
    assert again.encoder_.training == model.encoder_.training
    assert type(again.optimizer) is type(model.optimizer)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    # The untrained model returns as well: a new fit gives the same map.
    assert same(again.fit(rows()).embedding_, model.embedding_)


@KERAS_WARNINGS
@pytest.mark.parametrize("kind", ["built", "conv", "configured"])
def test_keras_model_of_an_unfitted_estimator(tmp_path: Path, kind: str) -> None:
    model = keras_estimator(kind)
    if kind == "configured":
        model.encoder(torch.zeros(1, N_FEATURES))  # builds it
    again = load_ParametricUMAP(model.save(tmp_path), classes=[configured()])
    assert not hasattr(again, "encoder_")
    embedding = again.fit(rows()).embedding_
    if kind != "conv":  # has no weights yet, and Keras draws new ones at each fit of a copy
        assert same(embedding, model.fit(rows()).embedding_)


@KERAS_WARNINGS
def test_keras_model_without_weights_or_config_is_left_out(tmp_path: Path) -> None:
    model = keras_estimator("subclassed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own
        with pytest.warns(UserWarning, match="encoder: Keras cannot write this model"):
            model.save(tmp_path)
    assert load_ParametricUMAP(tmp_path).encoder is None
    given = keras_model("subclassed")
    assert load_ParametricUMAP(tmp_path, encoder=given).encoder is given


@KERAS_WARNINGS
@pytest.mark.parametrize("way", [*COPIES, "clone"])
@pytest.mark.parametrize("kind", ["unbuilt", "subclassed"])
def test_copies_of_models_with_keras(tmp_path: Path, kind: str, way: str) -> None:
    model = keras_estimator(kind).fit(rows())
    if kind == "subclassed" and way in ("pickle", "joblib"):
        with pytest.raises((NotImplementedError, ValueError), match="get_config"):
            COPIES[way](model, tmp_path)
        return
    if way == "clone":
        again = clone(model)
        assert not hasattr(again, "encoder_")
    else:
        again = COPIES[way](model, tmp_path)
        assert same(again.transform(rows(1)), model.transform(rows(1)))
    assert again.encoder is not model.encoder
    assert again.optimizer is not model.optimizer
    if way != "pickle" and way != "joblib":  # there Keras itself writes the unbuilt model
        assert same(again.fit(rows()).embedding_, model.embedding_)


@KERAS_WARNINGS
def test_keras_decoder_and_loss(tmp_path: Path) -> None:
    keras = keras_module()
    layers = [keras.layers.Dense(9, activation="relu"), keras.layers.Dense(N_FEATURES)]
    model = parametric(
        decoder=keras.Sequential(layers),
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=keras.losses.MeanAbsoluteError(),
    ).fit(rows())
    again = load_ParametricUMAP(model.save(tmp_path))
    assert same(
        again.inverse_transform(model.embedding_), model.inverse_transform(model.embedding_)
    )
    assert type(again.parametric_reconstruction_loss_fcn) is keras.losses.MeanAbsoluteError
    assert same(again.fit(rows()).embedding_, model.embedding_)


@KERAS_WARNINGS
@pytest.mark.parametrize("kind", ["built", "conv"])
def test_keras_encoder_to_onnx(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxruntime")
    model = keras_estimator(kind).fit(rows())
    got, expected = run_onnx(model.to_onnx(tmp_path / "m.onnx"), rows(1)), model.transform(rows(1))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_saving_warns_of_nothing_when_all_is_kept(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        full_model().save(tmp_path)
        table_model().save(tmp_path)
    assert caught == []
