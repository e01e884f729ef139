"""Forged files: valid checksums around metadata that no neumap wrote.

A forged file ends in an ArchiveError, within bounds of time and memory, or it is harmless.
"""

from __future__ import annotations

import copy
import errno
import io
import json
import math
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from scipy import sparse
from torch import nn

import neumap
import neumap.archive.file
from neumap.archive import (
    Archive,
    ArchiveError,
    build_module,
    check_node,
    check_zip,
    pack_csr,
    pack_module,
    read_archive,
    unpack_csr,
    unpack_items,
    unpack_module,
    write_archive,
)
from neumap.archive.schema import DEEPEST, MOST_CONTAINERS, check, nullable, parse_json, tagged
from neumap.networks import MLP, ConvEncoder

N_FORGERIES = 300
SECONDS = 2.0
BYTES = 200 * 2**20

Header = dict[str, Any]
Change = Callable[[dict[str, Any]], None]


# ---- the forger ---------------------------------------------------------------------------------


def read_parts(file: Path) -> tuple[Header, bytes]:
    content = file.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + n_header]), content[8 + n_header :]


def write_parts(file: Path, header: Header, content: bytes) -> Path:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return file


def body_of(header: Header) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(header["__metadata__"]["neumap"])["body"]
    return body


def signed(header: Header, body: Any) -> Header:
    """The header with another body and the checksum that belongs to it."""
    checksum = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    document = {"format": "neumap", "format_version": 1, "crc32": checksum, "body": body}
    return header | {"__metadata__": {"neumap": json.dumps(document)}}


def forge(file: Path, target: Path, change: Change) -> Path:
    """Copy a file with a changed body."""
    header, content = read_parts(file)
    body = body_of(header)
    change(body)
    return write_parts(target, signed(header, body), content)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    yield at
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*at, key))


JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 2**31, 2**63, 10**40, 0.5, "", "x", "0", "blob:x"),
    *([], {}, [[]], [1, "a"], {"value": 1}, {"a": 1}, {"$float": "x"}, {"$float": 3}),
    *({"$tuple": 3}, {"$dict": [[1]]}, {"$dict": [[[], 1]]}, {"$dict": [[{}, 1]]}),
    *({"same_as": ""}, {"layer": "Linear"}, {"layer": "Linear", "config": {}}, ["0"] * 300),
    *({"container": "Sequential"}, {"class": "neumap.networks.MLP"}, {"list": 3}),
)


def mutate(value: Any, rng: random.Random) -> None:
    """Change a JSON value in place at one random position."""
    *above, last = rng.choice([path for path in paths(value) if path])
    parent = value
    for key in above:
        parent = parent[key]
    action = rng.choice(["replace", "replace", "drop", "rename", "swap", "wrap", "repeat"])
    old = parent[last]
    if action == "drop":
        del parent[last]
    elif action == "rename" and isinstance(parent, dict):
        parent[rng.choice(["", "x", "value", "0.weight"])] = parent.pop(last)
    elif action == "swap" and len(parent) > 1:
        other = rng.choice([*parent] if isinstance(parent, dict) else range(len(parent)))
        parent[last], parent[other] = parent[other], parent[last]
    elif action == "wrap":
        parent[last] = rng.choice([[old], {"value": old}, {"list": [old]}, {"a": old}])
    elif action == "repeat" and isinstance(old, list):
        parent[last] = old * 3
    else:
        parent[last] = copy.deepcopy(rng.choice(JUNK))


# ---- what is forged -----------------------------------------------------------------------------


def nets() -> dict[str, nn.Module]:
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    return {
        "mlp": MLP(6, 2, hidden=(5, 5)),
        "conv": ConvEncoder((8, 8, 1), channels=(3, 4), hidden=5),
        "tied": tied,
        "list": nn.ModuleDict({"a": nn.Conv1d(1, 2, 3), "b": nn.BatchNorm1d(2)}).eval(),
    }


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with networks, arrays, a sparse matrix, a blob and nodes of every plain kind."""
    tensors: dict[str, Any] = pack_csr(sparse.random(9, 9, 0.3, rng=0), "graph")
    tensors |= {"x": np.arange(6.0).reshape(2, 3), "t": torch.ones(3, dtype=torch.bfloat16)}
    specs = {}
    for name, net in nets().items():
        specs[name], state = pack_module(net, name)
        tensors |= state
    nodes = {
        "a": {"value": {"dims": (2, 3), "limit": math.inf, 3: None}},
        "b": {"list": [{"array": "x"}, {"csr": "graph"}]},
        "c": {"items": ["a", "bcd"], "dtype": "<U3", "shape": [2]},
        "d": {"tuple": [{"device": "cpu"}, {"optimizer": "Adam", "settings": {"value": {}}}]},
        "e": {"dict": {"net": {"module": specs["mlp"], "name": "mlp"}}},
        "f": {"reconstruction_loss": "bce", "activation": "sigmoid"},
        "g": {"landmarks": {"dict": {"rows": {"array": "x"}}}},
    }
    return write_archive(
        tmp_path_factory.mktemp("forged") / "m.neumap",
        tensors=tensors,
        metadata={"specs": specs, "nodes": nodes},
        blobs={"model": b"bytes"},
    )


def read_everything(file: Path) -> Archive:
    """Read a file as `neumap.load` does, without the estimator."""
    archive = read_archive(file)
    metadata = archive.metadata
    for part in ("specs", "nodes"):
        if not isinstance(metadata.get(part), dict):
            raise ArchiveError(f"no {part}")
    check_node({"dict": metadata["nodes"]}, "nodes", archive.tensors, archive.blobs)
    for name, spec in metadata["specs"].items():
        if isinstance(name, str) and name in nets():
            unpack_module(spec, archive.tensors, name)
    unpack_csr(archive.tensors, "graph")
    return archive


def outcome(read: Callable[[Path], Any], file: Path) -> str:
    """``loaded`` or ``refused``; any other error fails the test. CPU time is bounded."""
    started = time.process_time()
    try:
        read(file)
    except ArchiveError as error:
        assert str(error)  # noqa: PT017
        result = "refused"
    else:
        result = "loaded"
    assert time.process_time() - started < SECONDS
    return result


def test_the_valid_file_is_read_and_signed_as_it_should_be(valid: Path, tmp_path: Path) -> None:
    assert outcome(read_everything, valid) == "loaded"
    assert outcome(read_everything, forge(valid, tmp_path / "m", lambda body: None)) == "loaded"
    header, content = read_parts(valid)
    text = header["__metadata__"]["neumap"].replace('"crc32": ', '"crc32": 1')
    write_parts(tmp_path / "m", header | {"__metadata__": {"neumap": text}}, content)
    with pytest.raises(ArchiveError, match="checksum of its JSON document differs"):
        read_archive(tmp_path / "m")


@pytest.mark.parametrize("part", ["body", "metadata", "specs", "nodes", "header"])
def test_forged_metadata_is_refused_or_harmless(valid: Path, tmp_path: Path, part: str) -> None:
    rng = random.Random(part)
    header, content = read_parts(valid)
    refused = 0
    for _ in range(N_FORGERIES // 5):
        forged, body = copy.deepcopy(header), body_of(header)
        inner = {
            "body": body,
            "metadata": body["metadata"],
            "specs": body["metadata"]["specs"],
            "nodes": body["metadata"]["nodes"],
            "header": forged,
        }[part]
        for _ in range(rng.choice([1, 1, 3])):
            mutate(inner, rng)
        file = write_parts(
            tmp_path / "m", forged if part == "header" else signed(forged, body), content
        )
        refused += outcome(read_everything, file) == "refused"
    assert refused >= N_FORGERIES // 10  # the rest changed nothing that counts


def test_forged_models_are_refused_or_load(tmp_path: Path) -> None:
    rng = random.Random(0)
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    model = neumap.ParametricUMAP(preset="fast", n_neighbors=5, n_epochs=1, random_state=0).fit(X)
    saved = model.save(tmp_path / "m.neumap")
    refused = 0

    def change(body: dict[str, Any]) -> None:
        estimator = body["metadata"]["estimator"]
        nodes = estimator[rng.choice(["parameters", "fitted"])]
        kinds = {key: node for key, node in nodes.items() if "value" not in node}
        # Another value is another model, which no check can tell; the structure is forged here.
        mutate(rng.choice([estimator, kinds or nodes]), rng)

    for _ in range(60):
        forged = forge(saved, tmp_path / "forged.neumap", change)
        refused += outcome(neumap.load, forged) == "refused"
    assert refused >= 30


# ---- small files that ask for much --------------------------------------------------------------


def spec_of(root: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"root": root, "tied": {}, "frozen": [], "eval": [], **facts}


def layer(name: str, **config: Any) -> dict[str, Any]:
    return {"layer": name, "config": config}


def shared_twice(depth: int) -> dict[str, Any]:
    """Containers that each hold the one inside twice: 2**depth names in a few bytes."""
    part, path = layer("Linear", in_features=4, out_features=4), ".".join(["0"] * depth)
    for _ in range(depth):
        part = {"container": "Sequential", "children": [["0", part], ["1", {"same_as": path}]]}
        path = path[:-2]
    return part


GREEDY_NETS: dict[str, dict[str, Any]] = {
    "wide layer": layer("Linear", in_features=40_000, out_features=40_000),
    "wider layer": layer("Linear", in_features=2**30, out_features=2**30),
    "embedding": layer("Embedding", num_embeddings=10**9, embedding_dim=64),
    "norm": layer("BatchNorm1d", num_features=2**40),
    "kernel": layer("Conv3d", in_channels=9, out_channels=9, kernel_size=[900, 900, 900]),
    "deep MLP": {
        "class": "neumap.networks.MLP",
        "config": {"n_inputs": 4, "n_outputs": 2, "hidden": [64] * 100_000},
    },
    "wide MLP": {
        "class": "neumap.networks.MLP",
        "config": {"n_inputs": 10**6, "n_outputs": 2, "hidden": [10**6]},
    },
    "large images": {"class": "neumap.networks.ConvEncoder", "config": {"dims": [10**5, 10**5]}},
    "long text": {
        "class": "neumap.networks.MLP",
        "config": {"n_inputs": 4, "n_outputs": 2, "hidden": "a" * 3_000_000},
    },
    "many layers": {
        "container": "Sequential",
        "children": [[str(i), layer("ReLU")] for i in range(25_000)],
    },
    "shared layers": shared_twice(40),
}


@pytest.mark.parametrize("kind", GREEDY_NETS)
def test_networks_larger_than_their_tensors_are_refused(kind: str) -> None:
    state = {"net.weight": torch.zeros(4, 4), "net.bias": torch.zeros(4)}
    started = time.process_time()
    with pytest.raises(ArchiveError):
        unpack_module(spec_of(GREEDY_NETS[kind]), state, "net")
    assert time.process_time() - started < SECONDS


GREEDY_FILES: dict[str, Change] = {
    **{
        name: lambda body, root=root: body["metadata"]["specs"].update(mlp=spec_of(root))
        for name, root in GREEDY_NETS.items()
    },
    "wide text": lambda body: body["metadata"]["nodes"].update(
        h={"items": ["a"] * 4, "dtype": "<U2000000", "shape": [4]}
    ),
    "large shape": lambda body: body["metadata"]["nodes"].update(
        h={"items": [], "dtype": "|O", "shape": [0, 2**62, 2**62]}
    ),
    "many lists": lambda body: body["metadata"].update(h=[[] for _ in range(1_000_000)]),
    "many shared lists": lambda body: body["metadata"].update(h=[[1]] * 1_000_000),
}

LOADS = """
import resource, sys, time
from pathlib import Path
from test_archive_forged import ArchiveError, read_everything

valid, *forged = map(Path, sys.argv[1:])
read_everything(valid)
for file in forged:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        read_everything(file)
    except ArchiveError:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(file.stem, time.process_time() - started, grown * 1024, sep=",")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_greedy_files_take_neither_time_nor_memory(valid: Path, tmp_path: Path) -> None:
    files = [
        forge(valid, tmp_path / f"{name}.neumap", change) for name, change in GREEDY_FILES.items()
    ]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", LOADS, valid, *files],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": path},
    )
    measured = [line.split(",") for line in done.stdout.splitlines()]
    assert [name for name, *_ in measured] == list(GREEDY_FILES), done.stderr
    for name, seconds, grown in measured:
        assert float(seconds) < SECONDS, name
        assert float(grown) < BYTES, name


def test_zips_that_expand_are_refused() -> None:
    stored, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("weights", bytes(3_000_000))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights", bytes(3_000_000))
    check_zip(stored.getvalue(), "blob")
    with pytest.raises(ArchiveError, match=r"blob must be a \.keras file of at most \d+ bytes unp"):
        check_zip(packed.getvalue(), "blob")
    with pytest.raises(ArchiveError, match="got 'a file that is no zip"):
        check_zip(b"text", "blob")


def test_depth_and_number_of_containers_are_bounded(valid: Path, tmp_path: Path) -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    for text in ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ValueError, match=f"nested more than {DEEPEST} levels"):
            parse_json(text)
    with pytest.raises(ValueError, match=f"more than {MOST_CONTAINERS} lists"):
        parse_json("[" + "[]," * MOST_CONTAINERS + "1]")
    deep: list[Any] = []
    for _ in range(DEEPEST):
        deep = [deep]
    with pytest.raises(ArchiveError, match="metadata must be JSON that can be read again"):
        write_archive(tmp_path / "m.neumap", tensors={}, metadata={"deep": deep})
    deep.append(deep)
    with pytest.raises(ArchiveError, match="must be nested less deeply"):
        write_archive(tmp_path / "m.neumap", tensors={}, metadata={"deep": deep})
    with pytest.raises(ArchiveError, match="nested more than"):
        read_archive(forge(valid, tmp_path / "m", lambda body: body.update(x=_nested(500))))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# ---- one schema ---------------------------------------------------------------------------------


def test_schema_names_the_path_of_a_misfit() -> None:
    schema = {"a": [int], "b": nullable(frozenset({"x", "y"})), "c": (int, float)}
    check({"a": (1, 2), "b": None, "c": 0.5, "unknown": 1}, schema, "top")
    for value, message in [
        ([], "top must be a dict with text as keys, got a list"),
        ({"a": [1], "b": "x"}, "top must be a dict with a, b, c, got 'no c'"),
        ({"a": [1, True], "b": "x", "c": 1}, r"top\.a\[1\] must be int, got True"),
        ({"a": 3, "b": "x", "c": 1}, r"top\.a must be a list, got 3"),
        ({"a": [], "b": "z", "c": 1}, r"top\.b must be one of x, y, got 'z'"),
        ({"a": [], "b": "x", "c": "1"}, r"top\.c must be int or float, got '1'"),
    ]:
        with pytest.raises(ArchiveError, match=message):
            check(value, schema, "top")
    with pytest.raises(ArchiveError, match="top must be a dict that starts with a, b, got a dict"):
        check({}, tagged({"a": {}, "b": {}}), "top")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "n must be a dict that starts with value, array"),
        ({"future": 1}, "Update with: pip install"),
        ({"array": "y"}, r"n\.array must be one of x, got 'y'"),
        ({"csr": "x"}, r"n\.csr must be one of x, got 'x\.data'"),
        ({"device": "cuda; rm"}, r"n\.device must be a device"),
        ({"list": {"value": 1}}, r"n\.list must be a list"),
        ({"list": [{"value": 1}, 3]}, r"n\.list\[1\] must be a dict"),
        ({"items": [1], "dtype": "<U3", "shape": [2]}, "shape of 1 items"),
        ({"items": ["a"], "dtype": "<U9", "shape": [1]}, "as wide as the longest text"),
        ({"items": ["a"], "dtype": "<M8[ns]", "shape": [1]}, "items of dtype"),
        ({"items": [], "dtype": "V100000", "shape": [0]}, "a dtype of text, objects"),
        ({"optimizer": "Adam"}, "a dict with optimizer, settings"),
        ({"keras": {"input_shape": [-1], "training": True, "wrapped": True}, "name": "x"}, "whole"),
        ({"module": {}, "name": "x"}, r"n\.module must be a dict with root"),
    ],
)
def test_nodes_that_do_not_fit(node: Any, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        check_node(node, "n", {"x": np.ones(2)}, {})


def test_items_return_as_they_were() -> None:
    for array in (
        np.array([["a", "bc"], ["", "d"]]),
        np.array(["x", None, 3], dtype=object),
        np.array(["2020-01-01", "2021-05-05"], dtype="M8[D]").astype("M8[ns]"),
    ):
        items = array.ravel().tolist()
        node = {"items": items, "dtype": array.dtype.str, "shape": list(array.shape)}
        back = unpack_items(node, "n")
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)


def test_specs_that_build_something_else_are_refused() -> None:
    state = {"net.weight": torch.zeros(4, 4), "net.bias": torch.zeros(4)}
    linear = layer("Linear", in_features=4, out_features=4)
    unpack_module(spec_of(linear), state, "net")
    inside = {"container": "Sequential", "children": [["weight", layer("Tanh")], ["a.b", linear]]}
    for spec, message in [
        (
            spec_of(layer("Linear", in_features=4, out_features=4, device="cuda")),
            "one of bias, in_",
        ),
        (spec_of(layer("Linear", in_features=[[[4]]], out_features=4)), "a list of at most"),
        (spec_of({"same_as": ""}), "the same as an earlier part"),
        (spec_of(inside), r"Names of parts .* got 'a\.b'"),
        (spec_of({"class": "neumap.cli.main", "config": {}}), "No name in a file is imported"),
        (spec_of({"class": "neumap.networks.nn.Linear", "config": {}}), "No name in a file"),
        (spec_of(linear, tied={"forward": "weight"}), "no place for 'forward'"),
        (spec_of(linear, tied={"bias": "weight"}), "'bias' has shape"),
        (spec_of(linear, frozen=[3]), r"net\.frozen\[0\] must be str"),
    ]:
        with pytest.raises(ArchiveError, match=message):
            unpack_module(spec, state, "net")
    with pytest.raises(ArchiveError, match=r"'weight' has dtype torch\.int64"):
        unpack_module(spec_of(linear), state | {"net.weight": torch.zeros(4, 4).long()}, "net")
    with pytest.raises(ArchiveError, match="must be a dict with root"):
        build_module({})
    for name in ("forward", "bias"):
        with pytest.raises(ArchiveError, match=f"'weight' and '{name}', which are one tensor"):
            build_module(spec_of(linear, tied={name: "weight"}))


class Careful(nn.Module):
    """A class of the caller whose constructor needs real tensors."""

    n_built = 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = {"width": width}
        self.linear = nn.Linear(width, width)
        assert self.linear.weight.abs().sum().item() > 0  # not possible on the meta device
        type(self).n_built += 1


def test_classes_of_the_caller_are_built_once_and_the_rest_is_checked() -> None:
    shared = nn.Sequential(Careful(3), nn.Linear(3, 3))
    for net in (
        Careful(3),
        nn.Sequential(Careful(3), nn.Linear(3, 2)),
        nn.Sequential(*[shared] * 2),
    ):
        spec, state = pack_module(net, "net")
        before = Careful.n_built
        back = unpack_module(spec, state, "net", classes=[Careful])
        assert Careful.n_built == before + 1
        assert all(map(torch.equal, back.state_dict().values(), net.state_dict().values()))
    careful = {"class": "test.Careful", "config": {"width": 3}}
    for last in (
        layer("Linear", in_features=40_000, out_features=40_000),
        layer("Linear", in_features="x"),
    ):
        root = {"container": "Sequential", "children": [["0", careful], ["1", last]]}
        before = Careful.n_built
        with pytest.raises(ArchiveError):
            unpack_module(spec_of(root), state, "net", classes=[Careful])
        assert Careful.n_built == before


def test_networks_that_could_not_be_read_are_not_written() -> None:
    pack_module(nn.Sequential(*[nn.ReLU() for _ in range(150)], nn.Linear(2, 2)), "net")
    with pytest.raises(ArchiveError, match=r"net\.root must be at most 220 modules"):
        pack_module(nn.Sequential(*[nn.ReLU() for _ in range(250)], nn.Linear(2, 2)), "net")


# ---- reading next to a save ---------------------------------------------------------------------


def test_a_save_during_a_read_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_archive(tmp_path / "m.neumap", tensors={"x": np.zeros(9)}, metadata={"n": 1})
    load_document = neumap.archive.file.load_document

    def saved_meanwhile(*arguments: Any) -> dict[str, Any]:
        write_archive(file, tensors={"x": np.ones(7)}, metadata={"n": 2})
        return load_document(*arguments)

    monkeypatch.setattr("neumap.archive.file.load_document", saved_meanwhile)
    archive = read_archive(file)
    assert archive.metadata == {"n": 1}
    assert archive.tensors["x"].tolist() == [0.0] * 9
    monkeypatch.undo()
    assert read_archive(file).metadata == {"n": 2}


def test_headers_that_contradict_the_file(valid: Path, tmp_path: Path) -> None:
    header, content = read_parts(valid)
    start, end = header["x"]["data_offsets"]
    for facts, message in [
        ({"shape": [2, 4]}, "shape and place of 'x'"),
        ({"shape": [2**40, 2**40]}, "shape and place of 'x'"),
        ({"data_offsets": [start, end + 8]}, "shape and place of"),
        ({"data_offsets": [0, end - start]}, "shape and place of"),
        ({"dtype": "F65"}, r"header\.x\.dtype must be one of BF16"),
        ({"shape": [-6]}, r"header\.x\.shape\[0\] must be a whole number"),
    ]:
        write_parts(tmp_path / "m", header | {"x": header["x"] | facts}, content)
        with pytest.raises(ArchiveError, match=message):
            read_archive(tmp_path / "m")
    for other, rest, message in [
        (header, content + b"x", "1 bytes too many"),
        (header, content[:-1], "ends too early"),
        (header | {"y": 3}, content, r"header\.y must be dict"),
    ]:
        write_parts(tmp_path / "m", other, rest)
        with pytest.raises(ArchiveError, match=message):
            read_archive(tmp_path / "m")


# ---- disks that do not take the file ------------------------------------------------------------

FULL = """
import resource, sys
import numpy as np
from neumap.archive import write_archive

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_archive(sys.argv[1], tensors={"x": np.ones(100_000)}, metadata={})
except OSError as error:
    print(error.filename, error.strerror, error.errno, sep=",")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_is_an_os_error_with_path_and_reason(tmp_path: Path) -> None:
    file = write_archive(tmp_path / "m.neumap", tensors={}, metadata={"n": 1})
    done = subprocess.run(
        [sys.executable, "-c", FULL, file],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == f"{file},{os.strerror(errno.EFBIG)},{errno.EFBIG}", done.stderr
    assert read_archive(file).metadata == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["m.neumap"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, None])
def test_errors_of_safetensors_become_os_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        reason = f"I/O error: {os.strerror(code)} (os error {code})" if code else "I/O error"
        raise SafetensorError(f"Error while serializing: {reason}")

    monkeypatch.setattr("neumap.archive.file.save_file", fail)
    with pytest.raises(OSError, match=r"m\.neumap") as caught:
        write_archive(tmp_path / "m.neumap", tensors={}, metadata={})
    assert caught.value.errno == (code or errno.EIO)
    assert caught.value.filename == str(tmp_path / "m.neumap")
    assert list(tmp_path.iterdir()) == []
