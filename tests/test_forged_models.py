"""Forged and damaged model files, through `neumap.load` and through the command.

A file ends in an ArchiveError (the command: one line and exit code 2) or in a model that works.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_archive_forged import SECONDS, forge, mutate, outcome
from torch import nn

import neumap
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.archive.bounds import _size_after
from neumap.cli import main

# More by the environment variable, for a night: NEUMAP_FORGERIES=5000.
N_FORGERIES = int(os.environ.get("NEUMAP_FORGERIES", "60"))
N_KILLS = N_FORGERIES // 3

Tensors = dict[str, Any]
Nodes = dict[str, Any]


def rows(n_rows: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_rows, 5)).astype(np.float32)


def with_everything() -> neumap.ParametricUMAP:
    """A fitted model with all networks, classes and landmarks."""
    model = neumap.ParametricUMAP(
        preset="fast",
        n_neighbors=5,
        n_epochs=1,
        random_state=0,
        parametric_reconstruction=True,
        classifier_loss_weight=1.0,
        optimizer=torch.optim.Adam,
        device="cpu",
    )
    return model.fit(rows(), np.arange(40) % 3).add_landmarks(rows(), 0.1)


def with_a_table() -> neumap.UMAP:
    X = np.concatenate([rows(), rows()[:5]])  # equal rows, for unique=True
    return neumap.UMAP(n_neighbors=5, n_epochs=2, random_state=0, unique=True, device="cpu").fit(X)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "rows.npy", rows())
    return {
        "network": with_everything().save(folder / "network.neumap"),
        "table": with_a_table().save(folder / "table.neumap"),
    }


def changed(file: Path, target: Path, change: Callable[[Tensors, Nodes], Any]) -> Path:
    """Copy a model with other fields, under valid checksums."""
    archive = read_archive(file)
    tensors, metadata = dict(archive.tensors), copy.deepcopy(archive.metadata)
    change(tensors, metadata["estimator"]["fitted"])
    return write_archive(target, tensors=tensors, metadata=metadata)


def set_array(name: str, value: Any) -> Callable[[Tensors, Nodes], Any]:
    def change(tensors: Tensors, nodes: Nodes) -> None:
        tensors[f"forged.{name}"] = value
        nodes[name] = {"array": f"forged.{name}"}

    return change


def set_value(name: str, value: Any) -> Callable[[Tensors, Nodes], Any]:
    return lambda tensors, nodes: nodes.update({name: {"value": value}})


def set_tensor(name: str, make: Callable[[Any], Any]) -> Callable[[Tensors, Nodes], Any]:
    return lambda tensors, nodes: tensors.update({name: make(tensors[name])})


def other_landmarks(name: str, value: Any) -> Callable[[Tensors, Nodes], Any]:
    def change(tensors: Tensors, nodes: Nodes) -> None:
        tensors["forged"] = value
        nodes["landmarks"]["landmarks"]["dict"][name] = {"array": "forged"}

    return change


def shifted(indptr: np.ndarray) -> np.ndarray:
    moved = indptr.copy()
    moved[1] = 2**30
    return moved


FORGED: list[tuple[str, Callable[[Tensors, Nodes], Any], str]] = [
    ("network", set_value("n_features", 6), "input_shape must be a shape of 6 numbers"),
    ("network", set_value("n_features", 0), "n_features must be a whole number of at least 1"),
    ("network", set_value("n_components", 3), "embedding must be an array of float32 of shape"),
    ("network", set_value("input_shape", (1, 4)), "input_shape must be a shape of 5 numbers"),
    ("network", set_value("row_shape", [5]), "row_shape must be a tuple of positive integers"),
    ("network", set_value("is_supervised", 1), "is_supervised must be True or False"),
    ("network", set_value("n_anchors", 0), "n_anchors must be None, or a whole number of at lea"),
    ("network", set_value("graph", 3), "graph must be a CSR matrix of floats"),
    ("network", set_tensor("graph.data", lambda d: d * np.nan), "finite weights from 0"),
    ("network", set_tensor("graph.indices", lambda i: i + 100), "must form a CSR matrix"),
    ("network", set_tensor("graph.indptr", shifted), "must form a CSR matrix"),
    ("network", set_tensor("graph.shape", lambda s: s * [1, 2]), "graph must be a square matrix"),
    ("network", set_array("embedding", np.zeros((40, 2))), "embedding must be an array of float32"),
    ("network", set_array("embedding", np.zeros((9, 2), np.float32)), r"shape \(40, 2\)"),
    ("network", set_array("rad_emb", np.zeros(3, np.float32)), "rad_emb must be an array"),
    ("network", set_array("feature_names", np.zeros(5)), "feature_names must be an array of 5"),
    ("network", set_value("history", {"loss": ["a"]}), "history must be a dict of lists"),
    ("network", set_value("report", [1]), "report must be a dict"),
    ("network", set_value("encoder", "mlp"), "encoder must be a Module"),
    ("network", set_value("reconstruction_loss", "bce"), "reconstruction_loss must be a Recons"),
    ("network", lambda t, n: n.pop("reconstruction_loss"), "there for a model with a decoder"),
    ("network", lambda t, n: n.pop("classes"), "there for a model with a classifier"),
    ("network", set_array("classes", np.arange(5)), "classifier must be a network with 5 outputs"),
    ("network", lambda t, n: n.update(encoder=n["decoder"]), "encoder .* must take rows of shape"),
    ("network", lambda t, n: n.update(decoder=n["classifier"]), "decoder must be a network with 5"),
    ("network", other_landmarks("rows", np.zeros((4, 9))), "landmarks.rows must be 4 rows of 5"),
    ("network", other_landmarks("positions", np.zeros(4)), "landmarks.positions must be an array"),
    (
        "network",
        lambda t, n: n["landmarks"]["landmarks"]["dict"].pop("rows"),
        "landmarks must be a landmarks that can be built, got TypeError",
    ),
    ("network", set_value("landmarks", {"rows": 1}), "landmarks must be landmarks, got a dict"),
    ("table", set_array("distinct", np.arange(40) + 6), "distinct must be row numbers below 45"),
    ("table", set_array("distinct", np.arange(9)), "distinct must be an array of int64"),
    ("table", set_array("training", np.zeros((40, 6))), "training must be 40 rows of 5 numbers"),
    ("table", set_array("training", np.zeros((9, 5))), "training must be 40 rows of 5 numbers"),
    ("table", set_value("training", [[1.0]]), "training must be an array of numbers"),
]


@pytest.mark.parametrize(("kind", "change", "message"), FORGED)
def test_fields_must_fit_together(
    files: dict[str, Path], tmp_path: Path, kind: str, change: Any, message: str
) -> None:
    with pytest.raises(ArchiveError, match=message):
        neumap.load(changed(files[kind], tmp_path / "m.neumap", change))


def test_the_models_themselves_load(files: dict[str, Path], tmp_path: Path) -> None:
    for name, make in (("network", with_everything), ("table", with_a_table)):
        again = neumap.load(changed(files[name], tmp_path / "m.neumap", lambda t, n: None))
        assert np.array_equal(again.embedding_, make().embedding_)


@pytest.mark.parametrize(
    ("parameter", "node", "message"),
    [
        ("metric", {"value": ["a"]}, "metric must be a name, or a function, got"),
        ("n_neighbors", {"value": 0}, "n_neighbors must be an integer of at least 2, got 0"),
        ("repulsion_strength", {"value": "a"}, "repulsion_strength must be a number"),
        ("metric_kwds", {"value": [1]}, "metric_kwds must be a dict of arguments"),
        ("optimizer", {"optimizer": "Adam", "settings": {"value": 3}}, "optimizer that can be bui"),
        (
            "optimizer",
            {"optimizer": "Adam", "settings": {"value": {"lr": -1.0}}},
            "got ValueError: Invalid learning rate",
        ),
        ("optimizer", {"reconstruction_loss": "x", "activation": "sigmoid"}, "reconstruction_loss"),
    ],
)
def test_parameters_must_be_valid(
    files: dict[str, Path], tmp_path: Path, parameter: str, node: Any, message: str
) -> None:
    def change(body: dict[str, Any]) -> None:
        body["metadata"]["estimator"]["parameters"][parameter] = node

    with pytest.raises(ArchiveError, match=message):
        neumap.load(forge(files["network"], tmp_path / "m.neumap", change))


@pytest.mark.parametrize("value", [3, {"transform": "os"}, {"transform": ["pandas"]}, {"x": 1}])
def test_settings_of_scikit_learn_must_be_those_of_set_output(
    files: dict[str, Path], tmp_path: Path, value: Any
) -> None:
    def change(body: dict[str, Any]) -> None:
        body["metadata"]["estimator"]["settings"] = {"_sklearn_output_config": {"value": value}}

    with pytest.raises(ArchiveError, match="_sklearn_output_config must be what set_output makes"):
        neumap.load(forge(files["network"], tmp_path / "m.neumap", change))


def test_a_model_that_a_load_would_refuse_is_not_saved(tmp_path: Path) -> None:
    model = with_a_table()
    model.n_neighbors = 0
    with pytest.raises(ValueError, match="n_neighbors must be an integer of at least 2, got 0"):
        model.save(tmp_path / "m.neumap")
    assert list(tmp_path.iterdir()) == []


def test_a_network_whose_layers_grow_is_refused_before_it_runs(tmp_path: Path) -> None:
    layers = [nn.Linear(5, 8), nn.Unflatten(1, (1, 8)), nn.Upsample(scale_factor=2.0)]
    encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2))
    X = rows()
    model = neumap.ParametricUMAP(encoder=encoder, n_epochs=1, n_neighbors=5).fit(X)

    def change(body: dict[str, Any]) -> None:
        spec = body["metadata"]["estimator"]["fitted"]["encoder"]["module"]
        spec["root"]["children"][2][1]["config"] = {"scale_factor": 1e9}

    file = forge(model.save(tmp_path / "m.neumap"), tmp_path / "forged.neumap", change)
    with pytest.raises(ArchiveError, match="encoder must be a model whose layers fit its weights"):
        neumap.load(file)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(2, 3, 2, padding=4), (1, 2, 5)),
        (nn.Conv2d(2, 3, 3, padding="same"), (1, 2, 5, 6)),
        (nn.ConvTranspose2d(2, 3, 3, stride=3, output_padding=1), (1, 2, 5, 6)),
        (nn.Upsample(size=9), (1, 2, 5, 6)),
        (nn.Upsample(scale_factor=2.5), (1, 2, 5)),
        (nn.Upsample(scale_factor=(2.0, 3.0)), (1, 2, 5, 6)),
        (nn.AdaptiveAvgPool2d(7), (1, 2, 5, 6)),
        (nn.AdaptiveMaxPool3d((4, 5, 6)), (1, 2, 2, 2, 2)),
        (nn.ZeroPad2d((1, 2, 3, 4)), (1, 2, 5, 6)),
        (nn.ConstantPad1d(7, 0.0), (1, 2, 5)),
        (nn.Embedding(4, 9), (1, 3)),
    ],
)
def test_layers_return_no_more_than_their_bound(layer: nn.Module, shape: tuple[int, ...]) -> None:
    given = torch.zeros(shape, dtype=torch.long if isinstance(layer, nn.Embedding) else None)
    with torch.no_grad():
        n_numbers = layer(given).numel()
    assert n_numbers <= _size_after(layer, given.shape) <= 4 * n_numbers


# ---- random forgeries ---------------------------------------------------------------------------


def use(file: Path) -> None:
    """Load a model and let it place rows; a model that loads may refuse only in words."""
    model = neumap.load(file, device="cpu")
    try:
        model.transform(rows(4))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - a parameter may ask for what is not here


@pytest.mark.parametrize("kind", ["network", "table"])
def test_forged_models_are_refused_or_work(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    rng = random.Random(kind)

    def change(body: dict[str, Any]) -> None:
        estimator = body["metadata"]["estimator"]
        for _ in range(rng.choice([1, 1, 2])):
            part = rng.choice(["parameters", "fitted", "fitted", "fitted"])
            node = estimator[part] if isinstance(estimator.get(part), dict) else None
            mutate(node or estimator, rng)

    refused = 0
    for _ in range(N_FORGERIES // 2):
        file = forge(files[kind], tmp_path / "forged.neumap", change)
        refused += outcome(use, file) == "refused"
    assert refused >= N_FORGERIES // 8  # others changed numbers, such as a learning rate


def test_damaged_models_are_refused_or_equal(files: dict[str, Path], tmp_path: Path) -> None:
    rng = random.Random(0)
    content = files["network"].read_bytes()
    expected = neumap.load(files["network"]).embedding_.tobytes()
    for _ in range(N_FORGERIES):
        damaged = bytearray(content)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(content)) :]
        else:
            for _ in range(rng.choice([1, 1, 5])):
                damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file = tmp_path / "damaged.neumap"
        file.write_bytes(damaged)
        if outcome(neumap.load, file) != "refused":  # a bit that means nothing, as in white space
            assert neumap.load(file).embedding_.tobytes() == expected


def test_the_command_says_it_in_one_line(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = files["network"].parent / "rows.npy", tmp_path / "out.npy"
    for kind, change, _ in FORGED[::4]:
        file = changed(files[kind], tmp_path / "m.neumap", change)
        for words in (["info", file], ["transform", file, data, "-o", output]):
            started = time.process_time()
            assert main([str(word) for word in words]) == 2
            assert time.process_time() - started < SECONDS
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("neumap: ")
            assert err.count("\n") == 1
            assert not output.exists()


# ---- faults -------------------------------------------------------------------------------------

# Each line on stdin is a file, which a fork saves again and again until it is killed.
SAVES = """
import os, sys
import neumap
for line in sys.stdin:
    model = neumap.load(line.strip())
    process = os.fork()
    while process == 0:
        model.save(line.strip())
    print(process, flush=True)
    os.waitpid(process, 0)
    print("gone", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills of POSIX")
def test_a_kill_at_any_moment_leaves_a_model_that_loads(
    files: dict[str, Path], tmp_path: Path
) -> None:
    rng = random.Random(0)
    file = Path(shutil.copy(files["network"], tmp_path / "m.neumap"))
    expected = neumap.load(file).embedding_
    saves = subprocess.Popen(
        [sys.executable, "-c", SAVES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    n_left = 0
    with saves:
        assert saves.stdin is not None
        assert saves.stdout is not None
        for number in range(N_KILLS):
            print(file, file=saves.stdin, flush=True)
            process = int(saves.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.05))
            while number % 2 and len(list(tmp_path.iterdir())) == 1:
                pass  # until it writes
            os.kill(process, signal.SIGKILL)
            assert saves.stdout.readline() == "gone\n"
            n_left += len(list(tmp_path.iterdir())) - 1
            model = neumap.load(file)
            assert np.array_equal(model.embedding_, expected)
            model.save(file)  # removes what the killed process left
            assert [path.name for path in tmp_path.iterdir()] == ["m.neumap"]
        saves.stdin.close()
    assert n_left > 0  # some were killed while they wrote


def test_loads_beside_saves_give_one_model_or_the_other(tmp_path: Path) -> None:
    file = tmp_path / "m.neumap"
    models = [with_a_table() for _ in range(2)]
    models[1].embedding_ = models[0].embedding_ + 1.0
    models[0].save(file)
    expected = [model.embedding_.tobytes() for model in models]
    errors: list[BaseException] = []

    def save(model: neumap.UMAP) -> None:
        try:
            for _ in range(15):
                model.save(file)
        except BaseException as error:  # reported below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=save, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    n_loads = 0
    while any(thread.is_alive() for thread in threads) or n_loads == 0:
        assert neumap.load(file).embedding_.tobytes() in expected
        n_loads += 1
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["m.neumap"]


FULL_DISK = """
import resource, sys
import neumap
from neumap.cli import main
model = neumap.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    model.save(sys.argv[1])
except OSError as error:
    print(error.filename, flush=True)
sys.exit(main(["fit", *sys.argv[2:]]))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_leaves_the_old_file_and_one_line(
    files: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "m.neumap"
    shutil.copy(files["network"], file)
    data = files["network"].parent / "rows.npy"
    options = ["--set", "n_epochs=1", "--n-neighbors", "5", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, file, data, "-o", tmp_path / "new.neumap", *options],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    assert done.stdout == f"{file}\n"
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"neumap: {tmp_path / 'new.neumap'}: file too large" in done.stderr
    assert "The fitted model is lost" in done.stderr
    assert np.array_equal(neumap.load(file).embedding_, neumap.load(files["network"]).embedding_)
    assert not (tmp_path / "new.neumap").exists()


def test_a_fit_whose_file_cannot_be_written_is_kept_elsewhere(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target = tmp_path / "folder" / "new.neumap"
    target.parent.mkdir()
    save = neumap.UMAP.save

    def failing(model: neumap.UMAP, path: Path, **options: Any) -> Path:
        if path == target:
            raise OSError(28, "No space left on device", str(path))
        return save(model, path, **options)

    monkeypatch.setattr(neumap.UMAP, "save", failing)
    data = files["network"].parent / "rows.npy"
    options = ["--set", "n_epochs=1", "--n-neighbors", "5", "--quiet"]
    assert main(["fit", str(data), "-o", str(target), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    start, _, rest = err.partition(" The fitted model is at ")
    assert start == f"neumap: {target}: no space left on device."
    other = Path(rest.partition(" instead: move it from there.")[0])
    assert err.count("\n") == 1
    assert neumap.load(other).embedding_.shape == (40, 2)


# ---- other ways of storing ----------------------------------------------------------------------


def test_skops_is_refused_for_networks_in_words() -> None:
    for model in (with_everything(), neumap.ParametricUMAP(encoder=nn.Linear(5, 2))):
        with pytest.raises(TypeError, match=r"stored by its own save method, .* such as skops"):
            model.__reduce__()
        assert copy.copy(model).get_params().keys() == model.get_params().keys()
    skops = pytest.importorskip("skops.io")
    with pytest.raises(TypeError, match=r"Call save\(path\) and neumap\.load\(path\)"):
        skops.dumps(with_everything())
    model = with_a_table()
    data = skops.dumps(model)
    again = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    assert np.array_equal(again.transform(rows()), model.transform(rows()))
