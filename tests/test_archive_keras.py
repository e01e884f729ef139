"""Forged files with Keras models: nothing that they name is called, opened or allocated."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neumap
from neumap.archive import ArchiveError, bounded, read_archive, write_archive

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)
layers = keras.layers

from neumap.keras_bridge import KerasModule  # noqa: E402 - after the skips
from neumap.keras_bridge.allowed import CLASSES, check_config  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

SECONDS, MEGABYTES = 2.0, 200
Config = dict[str, Any]
N_FORGERIES = int(os.environ.get("NEUMAP_FORGERIES", "60"))
COUNTER = itertools.count()  # Keras wants each name once


def saved(folder: Path) -> Path:
    """A small fitted model with a Keras encoder."""
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    encoder = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(2)])
    model = neumap.ParametricUMAP(encoder=encoder, n_epochs=1, n_neighbors=5, random_state=0)
    return model.fit(X).save(folder / "m.neumap")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("keras"))


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def forged(
    valid: Path, target: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]
) -> Path:
    """Copy a file with another Keras model in it, under valid checksums."""
    archive = read_archive(valid)
    members = members_of(archive.blobs["encoder"])
    blobs = {**archive.blobs, "encoder": zipped(change(members))}
    return write_archive(target, tensors=archive.tensors, metadata=archive.metadata, blobs=blobs)


def with_config(change: Callable[[Config], Any]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def changed(members: dict[str, bytes]) -> dict[str, bytes]:
        config = json.loads(members["config.json"])
        config = change(config) or config
        return {**members, "config.json": json.dumps(config).encode()}

    return changed


def layer(class_name: str, module: str = "keras.layers", **config: Any) -> Config:
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": f"forged_{next(COUNTER)}", **config},
        "registered_name": None,
    }


def function(module: str, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def images(*new: Config) -> list[Config]:
    """Layers that turn rows of two numbers into images, and what gets these."""
    return [layer("RepeatVector", n=6), layer("Reshape", target_shape=[2, 2, 3]), *new]


def appended(*new: Config) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return with_config(lambda config: config["config"]["layers"].extend(new))


def calls(where: Path) -> dict[str, Config]:
    """Layers that would act on the machine when they are built or called."""
    path = str(where / "written.png")
    gallery = function("keras.visualization", "plot_image_gallery")
    arguments = {"path": path, "rows": 1, "cols": 1, "value_range": [0, 1]}
    lookup = {"vocabulary": str(where / "secret.txt"), "max_tokens": None}
    return {
        "Lambda that draws": layer("Lambda", function=gallery, arguments=arguments),
        "Lambda that downloads": layer(
            "Lambda", function=function("keras.datasets.mnist", "load_data"), arguments={}
        ),
        "Lambda of code": layer("Lambda", function={"class_name": "__lambda__", "config": {}}),
        "activation": layer("Activation", activation=gallery),
        "download": layer("Activation", activation=function("keras.utils", "get_file")),
        "function of os": layer("Activation", activation=function("os", "system")),
        "function of builtins": layer("Activation", activation=function("builtins", "exec")),
        "import": layer("Thing", module="keras.src.not_imported"),
        "import of a package": layer("Thing", module="keras_hub.models"),
        "application": layer("ResNet50", module="keras.applications"),
        "TFSMLayer": layer("TFSMLayer", filepath=path),
        "TorchModuleWrapper": layer("TorchModuleWrapper", module="x"),
        "TextVectorization": layer("TextVectorization", **lookup),
        "StringLookup": layer("StringLookup", **lookup),
        "no module": {"class_name": "Lambda", "config": {"function": gallery}},
        "no config": {"class_name": "Dense", "module": "keras.layers"},
        "inside a wrapper": layer("TimeDistributed", layer=layer("Lambda", function=gallery)),
        "initializer": layer(
            "Dense", units=2, kernel_initializer=function("keras.utils", "get_file")
        ),
        "typespec": {"class_name": "__typespec__", "config": [], "module": "os", "spec_name": "x"},
    }


H5: dict[str, Callable[[Any], Any]] = {
    "external link": lambda f: f.__setitem__("x", h5py.ExternalLink("secret.h5", "/x")),
    "soft link": lambda f: f.__setitem__("x", h5py.SoftLink("/layers")),
    "external data": lambda f: f.create_dataset(
        "x", (4,), "u1", external=[("secret.txt", 0, h5py.h5f.UNLIMITED)]
    ),
    "virtual data": lambda f: f.create_virtual_dataset("x", virtual_layout()),
    "chunks": lambda f: f.create_dataset("x", (10**9,), "f4", chunks=(10**6,)),
    "unallocated": lambda f: f.create_dataset("x", (10**10,), "f4"),
    "compressed": lambda f: f.create_dataset("x", data=np.zeros(10**6), compression="gzip"),
    "text": lambda f: f.create_dataset("x", data=["a", "b"]),
    "cycle": lambda f: f.__setitem__("x", f["/"]),
}


def virtual_layout() -> Any:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", shape=(4,))
    return layout


def with_h5(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def changed(members: dict[str, bytes]) -> dict[str, bytes]:
        buffer = io.BytesIO(members["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            change(file)
        return {**members, "model.weights.h5": buffer.getvalue()}

    return changed


def with_flipped_bits(rng: random.Random) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """Damage inside the weights' own file, under valid checksums around it."""

    def changed(members: dict[str, bytes]) -> dict[str, bytes]:
        content = bytearray(members["model.weights.h5"])
        for _ in range(rng.choice([1, 1, 5, 50])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return {**members, "model.weights.h5": bytes(content)}

    return changed


GREEDY: dict[str, list[Config]] = {
    "weights": [layer("Dense", units=10**6), layer("Dense", units=10**6)],
    "weights that the file lacks": [layer("Dense", units=3 * 10**6)],
    "repeats": [layer("RepeatVector", n=10**9)],
    "padding": [layer("Reshape", target_shape=[2, 1]), layer("ZeroPadding1D", padding=10**9)],
    "zoom": [
        layer("Reshape", target_shape=[1, 1, 2]),
        layer("UpSampling2D", size=[10**5, 10**5]),
    ],
    "many steps": [
        layer("RepeatVector", n=10**6),
        layer("SimpleRNN", units=1),
    ],
    "attention": [
        layer("RepeatVector", n=10**6),
        layer("MultiHeadAttention", num_heads=1, key_dim=1),
    ],
}

# Loads each file. A hook, which cannot be removed, sees what the process opens and starts.
LOADS = """
import os, resource, sys, time, warnings
os.environ["KERAS_BACKEND"] = "torch"
warnings.simplefilter("ignore")
import neumap
from neumap.archive import ArchiveError

neumap.load(sys.argv[1])  # imports what a load needs
seen = []
READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)

def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        seen.append((event, str(path), (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "urllib", "import")):
        seen.append((event, str(arguments[0]), 1))

sys.addaudithook(hook)
for file in sys.argv[2:]:
    seen.clear()
    known = set(sys.modules)
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        neumap.load(file)
        result = "loaded"
    except ArchiveError as error:
        result = "refused"
    except BaseException as error:
        result = repr(error)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    bad = [e for e in seen if e[0] not in ("open", "import")]
    bad += [e for e in seen if e[0] == "open" and e[2] and "model.keras" not in e[1]]
    bad += [e for e in seen if e[0] == "open" and ("secret" in e[1] or "written" in e[1])]
    new = {name for name in set(sys.modules) - known if "not_imported" in name or "hub" in name}
    print(os.path.basename(file), result, round(seconds, 2), round(grown), bad, new, sep="|")
"""


def in_a_watched_process(valid: Path, files: list[Path]) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", LOADS, valid, *files],
        capture_output=True,
        text=True,
        timeout=250 + 2 * len(files),
        cwd=valid.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert len(rows) == len(files), done.stderr
    return {name: facts for name, *facts in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_nothing_happens_but_an_archive_error(valid: Path) -> None:
    folder = valid.parent
    (folder / "secret.txt").write_text("a\nb\n")
    with h5py.File(folder / "secret.h5", "w") as file:
        file["x"] = np.ones(4, np.float32)
    before = {path.name for path in folder.iterdir()}
    changes = {
        **{name: appended(*images(config)) for name, config in calls(folder).items()},
        **{f"h5 {name}": with_h5(change) for name, change in H5.items()},
        **{f"greedy {name}": appended(*config) for name, config in GREEDY.items()},
    }
    forgeries = folder / "forged"
    forgeries.mkdir()
    files = [
        forged(valid, forgeries / f"{name}.neumap", change) for name, change in changes.items()
    ]
    outcomes = in_a_watched_process(valid, files)
    for name, (result, seconds, grown, bad, imported) in outcomes.items():
        assert result == "refused", name
        assert float(seconds) < SECONDS, name
        assert float(grown) < MEGABYTES, name
        assert bad == "[]", name
        assert imported == "set()", name
    assert {path.name for path in folder.iterdir()} == before | {"forged"}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_flipped_bits_of_the_weights_are_refused_or_other_weights(
    valid: Path, tmp_path: Path
) -> None:
    """The child process also shows that HDF5 neither ends nor hangs on them."""
    rng = random.Random(0)
    files = [
        forged(valid, tmp_path / f"{number}.neumap", with_flipped_bits(rng))
        for number in range(N_FORGERIES)
    ]
    outcomes = in_a_watched_process(valid, files)
    for name, (result, seconds, grown, bad, imported) in outcomes.items():
        assert result in ("refused", "loaded"), name
        assert float(seconds) < SECONDS, name
        assert float(grown) < MEGABYTES, name
        assert (bad, imported) == ("[]", "set()"), name
    results = [facts[0] for facts in outcomes.values()]
    assert 0.1 < results.count("refused") / len(results) < 0.9


def test_keras_alone_would_write_the_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    attack = images(calls(tmp_path)["Lambda that draws"])
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    module = KerasModule(model, (2,))
    members = appended(*attack)(members_of(module.to_bytes()))
    with pytest.raises(ValueError, match="layers of Keras that only compute"):
        KerasModule.from_bytes(zipped(members))
    assert list(tmp_path.iterdir()) == []
    try:
        keras.saving.deserialize_keras_object(json.loads(members["config.json"]), safe_mode=True)
    except (TypeError, ValueError):
        pytest.skip("this Keras refuses the function itself")
    assert [path.name for path in tmp_path.iterdir()] == ["written.png"]


def test_the_message_names_what_is_refused(tmp_path: Path) -> None:
    for name, config in calls(tmp_path).items():
        with pytest.raises(ArchiveError, match=r"Pass classes=\[\.\.\.\]") as caught:
            check_config(config, {}, "encoder")
        if name == "Lambda that draws":
            named = ("keras.layers.Lambda", "keras.visualization.plot_image_gallery")
            assert any(each in str(caught.value) for each in named)


def test_zips_with_compressed_members_are_refused() -> None:
    module = KerasModule(keras.Sequential([layers.Dense(2)]), (4,))
    members = members_of(module.to_bytes())
    KerasModule.from_bytes(zipped({**members, "extra": b"ignored"}))
    with pytest.raises(ValueError, match="must be stored as it is, got 'a compressed member"):
        KerasModule.from_bytes(zipped(members, zipfile.ZIP_DEFLATED))


def test_what_others_registered_with_keras_counts_only_if_it_is_passed() -> None:
    @keras.saving.register_keras_serializable("stranger")
    def doubled(x: Any) -> Any:
        return 2.0 * x

    try:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation=doubled)])
        module = KerasModule(model, (4,))
        data = module.to_bytes()
        with pytest.raises(ValueError, match="must be layers of Keras that only compute"):
            KerasModule.from_bytes(data)
        x = torch.ones(3, 4)
        assert torch.equal(KerasModule.from_bytes(data, {"doubled": doubled})(x), module(x))
        for text in ("stranger>doubled", function("stranger", "doubled")):
            config = layer("Activation", activation=text)
            with pytest.raises(ArchiveError, match="got stranger"):
                check_config(config, {}, "encoder")
            check_config(config, {"doubled": doubled}, "encoder")
    finally:
        keras.saving.get_custom_objects().pop("stranger>doubled")


def test_optimizers_and_losses_are_checked_as_well() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    for value in (
        keras.optimizers.Adam(schedule),
        keras.optimizers.SGD(0.1, momentum=0.5),
        keras.losses.Huber(),
        keras.losses.mean_squared_error,
    ):
        check_config(keras.saving.serialize_keras_object(value), {}, "optimizer")
    with pytest.raises(ArchiveError, match=r"got keras\.utils\.get_file"):
        check_config(function("keras.utils", "get_file"), {}, "loss")


ROW, SERIES, IMAGE = (8,), (6, 4), (8, 8, 3)
PLAIN: dict[tuple[int, ...], list[Any]] = {
    ROW: [
        lambda: [layers.Dense(4, kernel_regularizer="l2", kernel_constraint="unit_norm")],
        lambda: [layers.BatchNormalization(), layers.Dropout(0.1), layers.LayerNormalization()],
        lambda: [layers.PReLU(), layers.Reshape((4, 2)), layers.Permute((2, 1)), layers.Flatten()],
        lambda: [layers.Normalization(mean=0.0, variance=1.0), layers.RepeatVector(2)],
    ],
    SERIES: [
        lambda: [layers.LSTM(3, return_sequences=True), layers.Bidirectional(layers.GRU(2))],
        lambda: [layers.Conv1D(3, 2), layers.UpSampling1D(2), layers.GlobalAveragePooling1D()],
        lambda: [layers.TimeDistributed(layers.Dense(2)), layers.Flatten()],
    ],
    IMAGE: [
        lambda: [layers.Rescaling(0.5), layers.RandomFlip(), layers.Conv2D(3, 2), layers.Flatten()],
        lambda: [layers.SeparableConv2D(3, 2), layers.MaxPooling2D(), layers.Resizing(4, 4)],
    ],
}


@pytest.mark.parametrize(
    ("shape", "make"), [(shape, make) for shape, all_ in PLAIN.items() for make in all_]
)
def test_plain_layers_are_written_and_read(shape: tuple[int, ...], make: Any) -> None:
    module = KerasModule(keras.Sequential([keras.Input(shape), *make()]), shape).eval()
    again = KerasModule.from_bytes(module.to_bytes()).eval()
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), module(x))


def test_operations_of_functional_models_are_written_and_read() -> None:
    inputs = keras.Input((6, 4))
    x = keras.ops.relu(inputs) + 2 * inputs
    x = keras.ops.concatenate([x, x[:, :, :2]], axis=-1)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
    module = KerasModule(keras.Model(inputs, keras.ops.logsumexp(x, axis=-1)), (6, 4))
    rows = torch.rand(3, 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(KerasModule.from_bytes(module.to_bytes())(rows), module(rows))


def test_the_list_has_layers_of_this_keras_and_none_that_act() -> None:
    acting = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "TextVectorization", "StringLookup"}
    acting |= {"IntegerLookup", "JaxLayer", "FlaxLayer", "Hashing"}
    assert not acting & CLASSES["keras.layers"]
    unknown = {name for name in CLASSES["keras.layers"] if not hasattr(layers, name)}
    assert len(unknown) <= 3  # added by later versions


def test_sizes_are_checked_before_memory_is_taken() -> None:
    x = torch.ones(4)
    with bounded(0, "net"):
        assert x.repeat(3).shape == (12,)
        for greedy in (
            lambda: x.repeat(2**30),
            lambda: torch.zeros(2**40),
            lambda: torch.rand(2**20, 2**20),
            lambda: torch.outer(torch.ones(2**14), torch.ones(2**14)),
            lambda: [torch.empty(2**20) for _ in range(5)],
        ):
            with pytest.raises(ArchiveError, match="net must be a model whose layers fit"):
                greedy()
    assert len(torch.zeros(2**25)) == 2**25
