"""The archive file, and networks inside it."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import stat
import struct
import subprocess
import sys
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor, nn

from neumap import networks
from neumap.archive import (
    FORMAT_VERSION,
    ArchiveError,
    build_module,
    describe_module,
    pack_csr,
    pack_module,
    read_archive,
    unpack_csr,
    unpack_module,
    write_archive,
)
from neumap.archive.encoding import decode, encode
from neumap.archive.layers import LAYERS

# ---- tensors, blobs, JSON -----------------------------------------------------------------------


def bits(value: np.ndarray | Tensor) -> bytes:
    if isinstance(value, Tensor):
        return bytes(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return value.tobytes()


DTYPE_NAMES = """
bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 float32 float64 complex64
"""
SHAPES = [(), (0,), (3, 0), (7,), (2, 3, 4)]


@pytest.mark.parametrize("dtype", DTYPE_NAMES.split())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_arrays_return_equal_to_the_bit(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    is_bool = dtype == "bool"
    array = raw[..., 0] > 99 if is_bool else np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    write_archive(tmp_path / "a.neumap", tensors={"x": array}, metadata={})
    got = read_archive(tmp_path / "a.neumap").tensors["x"]
    assert isinstance(got, np.ndarray)
    assert (got.dtype, got.shape, bits(got)) == (array.dtype, array.shape, bits(array))
    got[...] = 0  # own, writable memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensors_return_as_tensors(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(2)
    tensor = (torch.randn(shape, generator=generator) * 50).to(dtype)
    write_archive(tmp_path, tensors={"x": tensor}, metadata={})
    got = read_archive(tmp_path).tensors["x"]
    assert isinstance(got, Tensor)
    assert (got.dtype, got.shape, bits(got)) == (tensor.dtype, tensor.shape, bits(tensor))


def test_layouts_of_memory_do_not_matter(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    read_only = base.copy()
    read_only.flags.writeable = False
    tensor = torch.arange(12.0).reshape(3, 4)
    given = {
        "transposed": base.T,
        "backwards": base[::-1],
        "big_endian": base.astype(">f8"),
        "read_only": read_only,
        "scalar": np.float64(2.5),
        "parameter": nn.Parameter(tensor),
        "view": tensor[1:],
        "transposed_tensor": tensor.T,
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    write_archive(tmp_path, tensors=given, metadata={})
    got = read_archive(tmp_path).tensors
    for name, value in given.items():
        if isinstance(value, Tensor):
            assert torch.equal(got[name], value.detach()), name
        else:
            np.testing.assert_array_equal(got[name], value, err_msg=name, strict=False)


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a"]),
        np.array([None]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
        sparse.eye(2, format="csr"),
        torch.eye(2).to_sparse(),
        torch.zeros(2, device="meta"),
        [1.0, 2.0],
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ArchiveError, match=r"tensors\['odd'\] must be a dense, .* got .*Convert"):
        write_archive(tmp_path / "new", tensors={"odd": value}, metadata={})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["blob:x", "__metadata__"])
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="which the format uses, got"):
        write_archive(tmp_path, tensors={name: np.zeros(1)}, metadata={})


def test_blobs_return_their_bytes(tmp_path: Path) -> None:
    blobs = {"encoder.keras": bytes(range(256)), "empty": b""}
    write_archive(tmp_path, tensors={"x": np.zeros(1)}, metadata={}, blobs=blobs)
    archive = read_archive(tmp_path)
    assert archive.blobs == blobs
    assert list(archive.tensors) == ["x"]


def test_json_returns_equal_values_and_types(tmp_path: Path) -> None:
    metadata = {
        "dims": (28, 28, 1),
        "nested": {"none": None, "list": [1, (2.5, [True])], "text": 'ü "quoted" \ud800'},
        "not_finite": [math.inf, -math.inf],
        "int_keys": {0: "a", (1, 2): "b", None: 3},
        "dollar": {"$tuple": [1]},
        "dollar_alone": {"$float": "nan", "x": 1},
        "exact": [0.1, 1e-323, -0.0, 2**80],
        "empty": [{}, [], (), ""],
    }
    write_archive(tmp_path, tensors={}, metadata=metadata)
    got = read_archive(tmp_path).metadata
    assert got == metadata
    assert repr(got) == repr(metadata)  # types and signs of zero as well


def test_json_turns_numpy_scalars_into_python(tmp_path: Path) -> None:
    given = {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True), "n": np.float64("nan")}
    write_archive(tmp_path, tensors={}, metadata=given)
    got = read_archive(tmp_path).metadata
    assert [type(value) for value in got.values()] == [int, float, bool, float]
    assert (got["i"], got["f"], got["b"]) == (3, 0.5, True)
    assert math.isnan(got["n"])


@pytest.mark.parametrize(
    ("value", "came", "advice"),
    [
        (np.zeros(2), "numpy.ndarray", "into tensors"),
        (max, "builtin_function_or_method", "Leave it out"),
        (b"x", "builtins.bytes", "Leave it out"),
        ({1}, "builtins.set", "Leave it out"),
        (1j, "builtins.complex", "Leave it out"),
        (np.longdouble(1), "longdouble", "Leave it out"),
    ],
)
def test_json_names_the_key_of_what_it_cannot_hold(
    tmp_path: Path, value: object, came: str, advice: str
) -> None:
    with pytest.raises(ArchiveError) as caught:
        write_archive(tmp_path, tensors={}, metadata={"params": {"metric": [0, value]}})
    assert "metadata['params']['metric'][1]" in str(caught.value)
    assert came in str(caught.value)
    assert advice in str(caught.value)


def test_file_reads_with_safetensors_alone(tmp_path: Path) -> None:
    file = write_archive(
        tmp_path / "m.neumap", tensors={"z": np.eye(2)}, metadata={"a": math.inf}, blobs={"k": b"!"}
    )
    assert load_file(file)["z"].tolist() == [[1, 0], [0, 1]]
    (n_header,) = struct.unpack("<Q", file.read_bytes()[:8])
    header = json.loads(file.read_bytes()[8 : 8 + n_header])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    document = json.loads(header["__metadata__"]["neumap"], parse_constant=refuse)
    assert document["format"] == "neumap"
    assert document["format_version"] == FORMAT_VERSION == 1
    assert document["body"]["metadata"] == {"a": {"$float": "inf"}}
    assert document["body"]["created_with"]["torch"] == torch.__version__.split("+")[0] or (
        document["body"]["created_with"]["torch"] == torch.__version__
    )
    assert read_archive(file).created_with == document["body"]["created_with"]


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [
        write_archive(
            tmp_path / f"{i}.neumap", tensors={"b": np.ones(3), "a": np.zeros(2)}, metadata={"k": 1}
        )
        for i in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


# ---- places and atomicity -----------------------------------------------------------------------


def test_path_rule(tmp_path: Path) -> None:
    def write(path: Path | str) -> Path:
        return write_archive(path, tensors={}, metadata={})

    dotted = tmp_path / "dotted.folder"
    dotted.mkdir()
    assert write(tmp_path / "a" / "b") == tmp_path / "a" / "b" / "model.neumap"
    assert write(str(tmp_path / "c" / "m.bin")) == tmp_path / "c" / "m.bin"
    assert write(dotted) == dotted / "model.neumap"
    assert read_archive(tmp_path / "a" / "b").tensors == {}
    (tmp_path / "plain").write_text("precious")
    with pytest.raises(ArchiveError, match="name has no suffix, got a file"):
        write(tmp_path / "plain")
    assert (tmp_path / "plain").read_text() == "precious"


def test_link_keeps_pointing_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write_archive(tmp_path / "real" / "m.neumap", tensors={}, metadata={"v": 1})
    link = tmp_path / "link.neumap"
    link.symlink_to(tmp_path / "real" / "m.neumap")
    write_archive(link, tensors={}, metadata={"v": 2})
    assert link.is_symlink()
    assert read_archive(tmp_path / "real" / "m.neumap").metadata == {"v": 2}


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_file_has_the_usual_mode_and_keeps_a_chosen_one(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    file = write_archive(tmp_path / "m.neumap", tensors={}, metadata={})
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    file.chmod(0o640)
    write_archive(file, tensors={}, metadata={})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("broken", ["save_file", "fsync"])
def test_failed_write_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    file = write_archive(tmp_path / "m.neumap", tensors={"x": np.ones(4)}, metadata={})
    before = file.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        if broken == "save_file":
            Path(args[1]).write_bytes(b"half")
        raise OSError("no space left on device")

    where = "neumap.archive.file.save_file" if broken == "save_file" else "os.fsync"
    monkeypatch.setattr(where, fail)
    for target in (file, tmp_path / "new" / "folder"):
        with pytest.raises(OSError, match="no space left"):
            write_archive(target, tensors={"x": np.zeros(4)}, metadata={})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


# ---- files that are not what they should be -----------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write_archive(
        tmp_path / "m.neumap",
        tensors={"x": np.arange(100.0), "y": np.arange(10)},
        metadata={"n_neighbors": 15},
    )


def rewrite_document(file: Path, **changes: Any) -> None:
    """Write the file anew with entries of its outer document changed."""
    (n_header,) = struct.unpack("<Q", file.read_bytes()[:8])
    text = json.loads(file.read_bytes()[8 : 8 + n_header])["__metadata__"]["neumap"]
    save_file(load_file(file), file, metadata={"neumap": json.dumps(json.loads(text) | changes)})


@pytest.mark.parametrize("kept", [0, 3, 8, 9, 60, 0.5, 0.999])
def test_truncated_file(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    n_kept = kept if isinstance(kept, int) else int(kept * len(content))
    saved.write_bytes(content[:n_kept])
    with pytest.raises(
        ArchiveError, match=rf"ends too early, after {n_kept} bytes\. Copy it again"
    ):
        read_archive(saved)


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    for position in np.random.default_rng(0).integers(0, len(content), 300):
        content[position] ^= 1 << int(position) % 8
        saved.write_bytes(content)
        with pytest.raises(ArchiveError):
            read_archive(saved)
        content[position] ^= 1 << int(position) % 8


def test_changed_parameter_or_tensor_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b'n_neighbors\\": 15', b'n_neighbors\\": 16'))
    assert saved.read_bytes() != content
    with pytest.raises(ArchiveError, match="checksum of its JSON document differs"):
        read_archive(saved)
    saved.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArchiveError, match=r"checksum of '[xy]' differs"):
        read_archive(saved)


def test_removed_tensor_is_noticed(saved: Path) -> None:
    rewrite_document(saved)  # no change: still fine
    assert read_archive(saved).metadata == {"n_neighbors": 15}
    (n_header,) = struct.unpack("<Q", saved.read_bytes()[:8])
    header = json.loads(saved.read_bytes()[8 : 8 + n_header])["__metadata__"]
    save_file({"x": torch.arange(100.0).double()}, saved, metadata=header)
    with pytest.raises(ArchiveError, match=r"tensors were added or removed \(y\)"):
        read_archive(saved)


def test_newer_format_names_its_writer(saved: Path) -> None:
    body = {"created_with": {"neumap": "9.1"}, "laid": "out otherwise"}
    rewrite_document(saved, format_version=2, body=body)
    with pytest.raises(ArchiveError, match=r"version 1 or older, got version 2.*neumap 9\.1.*pip"):
        read_archive(saved)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ArchiveError, match=r"nowhere' must be a saved model, got nothing there\. Check the path"
    ):
        read_archive(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        ArchiveError, match=r"The folder .* must hold model\.neumap, got notes\.txt"
    ):
        read_archive(tmp_path)


def test_folder_of_umap_learn(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    (tmp_path / "encoder.keras").write_bytes(b"PK")
    with pytest.raises(ArchiveError, match=r"got files of umap-learn .*encoder.keras, model.pkl"):
        read_archive(tmp_path)


class Trap:
    """Unpickling this leaves a mark."""

    mark: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_foreign_files_are_named_and_not_run(tmp_path: Path) -> None:
    Trap.mark = tmp_path / "executed"
    file = tmp_path / "m.bin"
    cases: dict[str, bytes] = {"a pickle": pickle.dumps(Trap()), "HDF5": b"\x89HDF\r\n\x1a\n" * 9}
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("config.json", "{}")
    cases["a zip"] = (tmp_path / "z").read_bytes()
    cases["a file that is not safetensors"] = b"just some text, long enough to have a header"
    for kind, content in cases.items():
        file.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"saved by neumap, got {kind}.*Give the folder"):
            read_archive(file)
    for header in ({}, {"format": "pt"}, {"neumap": '{"format": "other"}'}, {"neumap": "[1]"}):
        save_file({"x": torch.zeros(2)}, file, metadata=header)
        with pytest.raises(ArchiveError, match="a safetensors file of another program"):
            read_archive(file)
    assert not Trap.mark.exists()


def test_document_that_does_not_parse(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "m", metadata={"neumap": "{"})
    with pytest.raises(ArchiveError, match="does not parse"):
        read_archive(tmp_path / "m")


# ---- sparse matrices ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_csr_round_trip(tmp_path: Path, kind: Any) -> None:
    matrix = sparse.random(30, 20, 0.1, format="csr", dtype=np.float32, rng=3)
    write_archive(tmp_path, tensors=pack_csr(kind(matrix), "graph"), metadata={})
    got = unpack_csr(read_archive(tmp_path).tensors, "graph")
    assert isinstance(got, sparse.csr_matrix)
    assert got.shape == matrix.shape
    for part in ("data", "indices", "indptr"):
        ours, theirs = getattr(got, part), getattr(matrix, part)
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())


def test_csr_that_is_incomplete_or_inconsistent() -> None:
    parts = pack_csr(sparse.eye(3), "graph")
    with pytest.raises(ArchiveError, match=r"got no other\.data, other\.indices"):
        unpack_csr(parts, "other")
    parts["graph.indices"] = parts["graph.indices"] + 7
    with pytest.raises(ArchiveError, match="must form a CSR matrix, got others"):
        unpack_csr(parts, "graph")


# ---- networks -----------------------------------------------------------------------------------


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def through_file(net: nn.Module, folder: Path, **help_: Any) -> nn.Module:
    spec, tensors = pack_module(net, "net")
    write_archive(folder, tensors=tensors, metadata={"net": spec})
    archive = read_archive(folder)
    return unpack_module(archive.metadata["net"], archive.tensors, "net", **help_)


# For each layer: arguments away from the defaults, and the shape of an input.
LAYER_CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "Identity": ({}, (3, 4)),
    "Linear": ({"in_features": 4, "out_features": 3, "bias": False}, (2, 4)),
    "Flatten": ({"start_dim": 2, "end_dim": 3}, (2, 3, 4, 5, 6)),
    "Unflatten": ({"dim": 1, "unflattened_size": (2, 3)}, (2, 6)),
    "Embedding": ({"num_embeddings": 9, "embedding_dim": 3, "padding_idx": 1}, ()),
    "Bilinear": ({"in1_features": 4, "in2_features": 4, "out_features": 3, "bias": False}, ()),
    "LayerNorm": ({"normalized_shape": (4, 5), "eps": 1e-2, "bias": False}, (3, 4, 5)),
    "RMSNorm": ({"normalized_shape": 5, "eps": 0.1, "elementwise_affine": False}, (3, 5)),
    "GroupNorm": ({"num_groups": 2, "num_channels": 4, "eps": 0.1, "affine": False}, (3, 4, 5)),
    "LocalResponseNorm": ({"size": 3, "alpha": 0.1, "beta": 0.5, "k": 2.0}, (2, 4, 5)),
    "LeakyReLU": ({"negative_slope": 0.3, "inplace": True}, (2, 4)),
    "PReLU": ({"num_parameters": 4, "init": 0.4}, (2, 4)),
    "RReLU": ({"lower": 0.2, "upper": 0.6}, (2, 4)),
    "GELU": ({"approximate": "tanh"}, (2, 4)),
    "GLU": ({"dim": 1}, (2, 4, 3)),
    "Hardtanh": ({"min_val": -0.3, "max_val": 0.4}, (2, 4)),
    "Softplus": ({"beta": 2.0, "threshold": 1.0}, (2, 4)),
    "Threshold": ({"threshold": 0.1, "value": 20.0}, (2, 4)),
    "Upsample": ({"scale_factor": 3.0, "mode": "bilinear", "align_corners": True}, (2, 1, 3, 3)),
    "UpsamplingNearest2d": ({"size": (5, 7)}, (2, 1, 3, 3)),
    "UpsamplingBilinear2d": ({"scale_factor": 2}, (2, 1, 3, 3)),
    "PixelShuffle": ({"upscale_factor": 2}, (1, 8, 3, 3)),
    "PixelUnshuffle": ({"downscale_factor": 2}, (1, 2, 4, 4)),
    "ChannelShuffle": ({"groups": 2}, (1, 4, 3, 3)),
    "Softmax2d": ({}, (1, 4, 3, 3)),
}
LAYER_CASES |= {
    name: ({"inplace": True}, (2, 4)) for name in ("ReLU", "ReLU6", "SELU", "SiLU", "Mish")
}
LAYER_CASES |= {name: ({"inplace": True}, (2, 4)) for name in ("Hardsigmoid", "Hardswish")}
LAYER_CASES |= {name: ({"alpha": 0.4}, (2, 4)) for name in ("ELU", "CELU")}
LAYER_CASES |= {name: ({"lambd": 0.2}, (2, 4)) for name in ("Softshrink", "Hardshrink")}
LAYER_CASES |= {name: ({"dim": 0}, (2, 4)) for name in ("Softmax", "LogSoftmax")}
LAYER_CASES |= {
    name: ({}, (2, 4)) for name in ("Tanh", "Sigmoid", "LogSigmoid", "Softsign", "Tanhshrink")
}
LAYER_CASES |= {
    name: ({"p": 0.25, "inplace": True}, (2, 3, *(4,) * n))
    for name, n in zip(
        "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split(),  # noqa: SIM905
        (1, 1, 2, 3, 1, 1),
        strict=True,
    )
}
for n in (1, 2, 3):
    image = (2, 4, *(7,) * n)
    conv = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "groups": 2}
    pool = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    LAYER_CASES |= {
        f"Conv{n}d": (
            conv | {"dilation": 2, "padding": 3, "padding_mode": "circular", "bias": False},
            image,
        ),
        f"ConvTranspose{n}d": (conv | {"output_padding": 1, "padding": 1}, image),
        f"BatchNorm{n}d": ({"num_features": 4, "eps": 0.1, "momentum": None}, image),
        f"InstanceNorm{n}d": ({"num_features": 4, "affine": True, "eps": 0.1}, image),
        f"MaxPool{n}d": (pool, image),
        f"AvgPool{n}d": (pool | {"count_include_pad": False}, image),
        f"AdaptiveMaxPool{n}d": ({"output_size": 3}, image),
        f"AdaptiveAvgPool{n}d": ({"output_size": 3}, image),
        f"ConstantPad{n}d": ({"padding": tuple(range(2 * n)), "value": 3.5}, image),
    }
    for kind in ("Zero", "Reflection", "Replication", "Circular"):
        LAYER_CASES[f"{kind}Pad{n}d"] = ({"padding": tuple(range(2 * n))}, image)
for n in (1, 2):
    LAYER_CASES[f"LPPool{n}d"] = (
        {"norm_type": 2, "kernel_size": 3, "stride": 1, "ceil_mode": True},
        (2, 4, *(7,) * n),
    )


LAZY_CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "LazyLinear": ({"out_features": 3, "bias": False}, (2, 5))
}
for n in (1, 2, 3):
    image = (2, 4, *(7,) * n)
    for kind in ("Conv", "ConvTranspose"):
        LAZY_CASES[f"Lazy{kind}{n}d"] = (
            {"out_channels": 3, "kernel_size": 2, "stride": 2, "dilation": 1, "bias": False},
            image,
        )
    for kind in ("Batch", "Instance"):
        LAZY_CASES[f"Lazy{kind}Norm{n}d"] = ({"eps": 0.25, "affine": True}, image)


def test_every_layer_has_a_case() -> None:
    assert LAYER_CASES.keys() | LAZY_CASES.keys() == LAYERS.keys()


@pytest.mark.parametrize("name", LAZY_CASES)
def test_lazy_layers_return_with_their_arguments(name: str) -> None:
    config, shape = LAZY_CASES[name]
    spec, tensors = pack_module(getattr(nn, name)(**config), "net")
    results = []
    for layer in (getattr(nn, name)(**config), unpack_module(spec, tensors, "net")):
        torch.manual_seed(0)
        results.append(layer(torch.linspace(0.0, 1.0, math.prod(shape)).reshape(shape)))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", LAYER_CASES)
def test_layer_is_rebuilt_from_its_attributes(name: str) -> None:
    arguments, shape = LAYER_CASES[name]
    layer = getattr(nn, name)(**arguments).eval()
    spec, tensors = pack_module(layer, "net")
    got = unpack_module(decode(json.loads(json.dumps(encode(spec, "spec")))), tensors, "net")
    assert type(got) is type(layer)
    assert repr(got) == repr(layer)
    recorded = {key: value for key, value in vars(layer).items() if not key.startswith("_")}
    for key, value in recorded.items():
        again = getattr(got, key)
        assert again == value or list(again) == list(value), key
    if name == "Embedding":
        inputs = [torch.tensor([[1, 4, 8]])]
    elif name == "Bilinear":
        inputs = [rows(2, 4), rows(2, 4) + 1]
    else:
        inputs = [rows(*shape)]
    assert torch.equal(got(*(x.clone() for x in inputs)), layer(*(x.clone() for x in inputs)))


def conv_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.GELU(), nn.Dropout(0.5)),
        nn.Flatten(),
        nn.LayerNorm(64),
        nn.Linear(64, 2),
    )


def test_sequential_returns_without_help(tmp_path: Path) -> None:
    net = conv_net()
    net(rows(32, 64) * 5)  # moves the running statistics
    net.eval()
    got = through_file(net, tmp_path)
    x = rows(16, 64)
    assert repr(got) == repr(net)
    assert torch.equal(got(x), net(x))


def test_named_children_lists_and_dicts(tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("first", nn.Linear(3, 4))
    net.add_module("last", nn.Linear(4, 2))
    assert list(through_file(net, tmp_path).state_dict()) == list(net.state_dict())
    parts = nn.ModuleDict({"heads": nn.ModuleList([nn.Linear(2, 2), net])})
    assert repr(through_file(parts, tmp_path)) == repr(parts)


def test_networks_of_the_package_return_without_help(tmp_path: Path) -> None:
    net = networks.MLP(6, 2, (5, 5), residual=True)
    spec = describe_module(net)
    assert spec["root"]["class"] == "neumap.networks.MLP"
    got = through_file(net, tmp_path)
    assert type(got) is networks.MLP
    assert torch.equal(got(rows(9, 6)), net(rows(9, 6)))


def test_modes_and_frozen_parameters_return(tmp_path: Path) -> None:
    net = conv_net().train()
    net[2].eval()
    net[1].weight.requires_grad_(False)
    got = through_file(net, tmp_path)
    assert [part.training for part in got.modules()] == [part.training for part in net.modules()]
    assert [p.requires_grad for p in got.parameters()] == [
        p.requires_grad for p in net.parameters()
    ]
    assert not got[1].weight.requires_grad  # type: ignore[index]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precision_returns(tmp_path: Path, dtype: torch.dtype) -> None:
    net = conv_net().to(dtype).eval()
    got = through_file(net, tmp_path)
    x = rows(4, 64).to(dtype)
    assert {p.dtype for p in got.parameters()} == {dtype}
    assert torch.equal(got(x), net(x))


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    shared = nn.Linear(4, 4)
    same_weight = nn.Linear(4, 4)
    same_weight.weight = shared.weight
    net = nn.Sequential(shared, nn.Tanh(), shared, same_weight)
    _, tensors = pack_module(net, "net")
    assert sorted(tensors) == ["net.0.bias", "net.0.weight", "net.3.bias"]
    got: Any = through_file(net, tmp_path)
    assert got[2] is got[0]
    assert got[3].weight is got[0].weight
    assert got[3].bias is not got[0].bias
    assert torch.equal(got(rows(5, 4)), net(rows(5, 4)))


def test_compiled_network_is_stored_as_the_one_inside() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    spec, tensors = pack_module(torch.compile(net, backend="eager"), "net")  # type: ignore[arg-type]
    assert type(unpack_module(spec, tensors, "net")) is nn.Sequential
    assert sorted(tensors) == ["net.0.bias", "net.0.weight"]


def test_building_leaves_the_global_random_state() -> None:
    spec, tensors = pack_module(networks.MLP(6, 2), "net")
    before = torch.get_rng_state()
    unpack_module(spec, tensors, "net")
    assert torch.equal(torch.get_rng_state(), before)


# ---- networks of the user's own -----------------------------------------------------------------


class Configured(nn.Module):
    def __init__(self, width: int, slope: float = 0.1, sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.config = {"width": width, "slope": slope, "sizes": sizes}
        self.linear = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.linear(x), self.config["slope"])


class Bare(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_own_class_with_config(tmp_path: Path) -> None:
    net = nn.Sequential(Configured(3, slope=0.7, sizes=(1, 2)), nn.Tanh())
    got: Any = through_file(net, tmp_path, classes=[Bare, Configured])
    assert got[0].config == {"width": 3, "slope": 0.7, "sizes": (1, 2)}
    assert torch.equal(got(rows(5, 3)), net(rows(5, 3)))
    with pytest.raises(
        ArchiveError, match=r"part '0'.*got test_archive\.Configured.*classes=\[Conf"
    ):
        through_file(net, tmp_path)


def test_own_class_without_config(tmp_path: Path) -> None:
    net = Bare(5)
    x = rows(4, 5)
    assert torch.equal(through_file(net, tmp_path, module=Bare(5))(x), net(x))
    with pytest.raises(
        ArchiveError, match=r"Pass net=<a module .*; or give Bare a config property"
    ):
        through_file(net, tmp_path)
    with pytest.raises(
        ArchiveError, match=r"'linear\.weight' has shape \(2, 5\) in the file, \(2, 3"
    ):
        through_file(net, tmp_path, classes=[Bare])
    small = Bare()
    assert torch.equal(through_file(small, tmp_path, classes=[Bare])(x[:, :3]), small(x[:, :3]))


def test_class_that_moved_is_found_by_its_short_name() -> None:
    spec = describe_module(Configured(3))
    spec["root"]["class"] = "__main__.Configured"
    assert isinstance(build_module(spec, classes=[Configured]), Configured)


def test_config_that_is_not_json_counts_as_none() -> None:
    net = Configured(3)
    net.config["activation"] = torch.relu  # type: ignore[assignment]
    assert describe_module(net)["root"]["config"] is None


def test_constructor_that_refuses_its_arguments() -> None:
    spec = describe_module(Configured(3))
    spec["root"]["config"]["depth"] = 2
    with pytest.raises(ArchiveError, match=r"Configured\(\*\*.*got TypeError.*depth"):
        build_module(spec, classes=[Configured])


def test_ready_module_made_otherwise_is_refused(tmp_path: Path) -> None:
    net = Configured(3, slope=0.7)
    with pytest.raises(ArchiveError, match=r"'slope': 0\.7.*got .*'slope': 0\.1"):
        through_file(net, tmp_path, module=Configured(3))
    plain = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    with pytest.raises(ArchiveError, match=r"Tanh.*got .*ReLU"):
        through_file(plain, tmp_path, module=nn.Sequential(nn.Linear(3, 2), nn.ReLU()))


def test_tensors_that_do_not_fit() -> None:
    spec, tensors = pack_module(nn.Sequential(nn.Linear(3, 2)), "net")
    del tensors["net.0.bias"]
    tensors |= {"net.9.weight": torch.zeros(1), "other.weight": torch.zeros(1)}
    with pytest.raises(
        ArchiveError, match=r"no tensor for '0\.bias'; no place for '9\.weight'\. Pa"
    ):
        unpack_module(spec, tensors, "net")


def test_names_in_a_file_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    borrowed = types.ModuleType("neumap.archive._borrowed")
    borrowed.Identity = nn.Identity  # type: ignore[attr-defined]  # from elsewhere, imported there
    monkeypatch.setitem(sys.modules, borrowed.__name__, borrowed)
    spec = describe_module(nn.Identity())
    for root in (
        {"class": "evil.Net", "config": {}},
        {"class": "neumap.networks.torch.nn.Identity", "config": {}},
        {"class": "neumap.archive.read_archive", "config": {"path": "x"}},
        {"class": "neumap.archive.file.Path", "config": {}},
        {"class": "neumap.archive.Archive", "config": {}},
        {"class": "neumap.archive._borrowed.Identity", "config": {}},
        {"class": "neumap.no_such_room.Net", "config": {}},
    ):
        with pytest.raises(ArchiveError, match="No name in a file is imported"):
            build_module(spec | {"root": root})
    with pytest.raises(ArchiveError, match=r"must be in torch .* got 'Module'"):
        build_module(spec | {"root": {"layer": "Module", "config": {}}})
    assert "evil" not in sys.modules


def test_behaviour_outside_the_constructor_needs_the_module() -> None:
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda *_: None)
    patched = nn.ReLU()
    patched.forward = torch.tanh  # type: ignore[method-assign, assignment]
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    for net in (hooked, patched, normed):
        with pytest.raises(ArchiveError, match="Pass encoder=<a module"):
            build_module(describe_module(net), name="encoder")


def test_state_that_cannot_be_stored() -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> object:
            return {"not": "a tensor"}

    with pytest.raises(ArchiveError, match="got a dict in '_extra_state'"):
        pack_module(Extra(), "net")


def test_lazy_layers_stay_lazy() -> None:
    lazy = nn.Sequential(
        nn.LazyConv1d(4, 3, bias=False), nn.LazyBatchNorm1d(), nn.Flatten(), nn.LazyLinear(3)
    )
    half = nn.Sequential(nn.Linear(5, 4), nn.LazyLinear(3))
    for net, shape in ((lazy, (2, 3, 7)), (half, (2, 5))):
        spec, tensors = pack_module(net, "net")
        assert not any("weight" in name for name in tensors if not name.startswith("net.0"))
        again = unpack_module(spec, tensors, "net")
        results = []
        for each in (net, again):
            torch.manual_seed(0)
            each(torch.ones(shape))  # makes the tensors
            results.append(each.state_dict())
        assert results[0].keys() == results[1].keys()
        assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
        seen, state = pack_module(net, "net")
        assert "Lazy" not in json.dumps(seen)
        assert same_tensors(unpack_module(seen, state, "net").state_dict(), net.state_dict())


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


FRESH_PROCESS = """
import sys
import numpy as np
import torch
from neumap.archive import read_archive, unpack_module
from test_archive import Configured

archive = read_archive(sys.argv[1])
x = torch.from_numpy(archive.tensors["x"])
for name in ("mlp", "conv", "own"):
    net = unpack_module(archive.metadata[name], archive.tensors, name, classes=[Configured])
    with torch.no_grad():
        np.save(f"{sys.argv[1]}/{name}.npy", net(x).numpy())
"""


def test_forward_in_a_fresh_process_is_equal_to_the_bit(tmp_path: Path) -> None:
    nets = {"mlp": networks.MLP(64, 2), "conv": conv_net().eval(), "own": Configured(64)}
    x = rows(33, 64)
    packed = {name: pack_module(net, name) for name, net in nets.items()}
    tensors: dict[str, Any] = {"x": x.numpy()}
    for _, state in packed.values():
        tensors |= state
    write_archive(tmp_path, tensors=tensors, metadata={k: spec for k, (spec, _) in packed.items()})
    subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, tmp_path],
        check=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    for name, net in nets.items():
        with torch.no_grad():
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), net(x).numpy())


def test_checksum_covers_dtype_and_shape(tmp_path: Path) -> None:
    """Swapped sizes leave the bytes as they are; only the layout tells."""
    file = write_archive(tmp_path / "m.neumap", tensors={"x": np.zeros((2, 3))}, metadata={})
    content = file.read_bytes()
    for old, new in ((b'"shape":[2,3]', b'"shape":[3,2]'), (b'"F64"', b'"I64"')):
        assert content.count(old) == 1
        file.write_bytes(content.replace(old, new))
        with pytest.raises(ArchiveError, match="checksum of 'x' differs"):
            read_archive(file)


def test_crc_is_the_one_of_zlib(saved: Path) -> None:
    """The rule in the docs, from the bytes alone, so that other readers can check files."""
    (n_header,) = struct.unpack("<Q", saved.read_bytes()[:8])
    header = json.loads(saved.read_bytes()[8 : 8 + n_header])
    body = json.loads(header["__metadata__"]["neumap"])["body"]
    start, end = header["x"]["data_offsets"]
    content = saved.read_bytes()[8 + n_header :][start:end]
    assert body["tensors"]["x"][1] == zlib.crc32(content, zlib.crc32(b"torch.float64 (100,)"))


def test_pairs_of_names_do_not_collide(tmp_path: Path) -> None:
    """A prefix that begins another name stays apart from it."""
    nets = {"enc": nn.Linear(2, 2), "enc2": nn.Linear(2, 2)}
    tensors = dict(
        itertools.chain.from_iterable(pack_module(n, k)[1].items() for k, n in nets.items())
    )
    write_archive(tmp_path, tensors=tensors, metadata={})
    got = read_archive(tmp_path).tensors
    net = unpack_module(describe_module(nets["enc"]), got, "enc")
    assert torch.equal(net.weight, nets["enc"].weight)  # type: ignore[arg-type]


def test_examples_of_the_documentation_run(run_page: Callable[[str], int]) -> None:
    pytest.importorskip("onnxruntime")
    assert run_page("saving.md") >= 5


def test_file_of_format_1_stays_readable() -> None:
    """The promise of docs/saving.md. A new format gets a file of its own beside this one."""
    archive = read_archive(Path(__file__).parent / "data" / "format_1.neumap")
    assert archive.blobs == {"note": b"hello"}
    assert archive.metadata["dims"] == (28, 28)
    assert archive.metadata["limit"] == math.inf
    assert archive.tensors["half"].tolist() == [1.5, -2.0]
    assert unpack_csr(archive.tensors, "graph").toarray().tolist() == [[0, 2.5], [0, 0]]
    net = unpack_module(archive.metadata["encoder"], archive.tensors, "encoder")
    # By hand: (1 - 2*2 + 1, .5 + 4*2 - 1) = (-2, 7.5); leaky: (-.5, 7.5); 2*(-.5) + 3*7.5 = 21.5.
    assert net(torch.tensor([[1.0, 2.0]])).tolist() == [[21.5]]
    assert not net.training
