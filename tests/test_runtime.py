"""A saved map by NumPy alone gives what the model in torch gives, and refuses what it refuses."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_archive_forged import forge, mutate
from torch import nn

import neumap
from neumap import ParametricUMAP, runtime
from neumap._card import in_form
from neumap.archive import ArchiveError, pack_module, read_archive, write_archive
from neumap.networks import MLP, Standardize

DATA = Path(__file__).parent / "data"
HEAVY = ("torch", "scipy", "sklearn", "pandas", "faiss", "safetensors", "tqdm", "click", "onnx")
N_FORGERIES = int(os.environ.get("NEUMAP_FORGERIES", "60"))


def rows(n_rows: int = 60, n_features: int = 6, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n_rows, n_features))
    return (drawn * 3.0 + 1.0).astype(np.float32)


def fitted(X: np.ndarray | None = None, **settings: Any) -> ParametricUMAP:
    settings = {"preset": "fast", "n_epochs": 1, "n_neighbors": 5, "device": "cpu", **settings}
    return ParametricUMAP(random_state=0, **settings).fit(rows() if X is None else X)


@pytest.fixture(scope="module")
def model() -> ParametricUMAP:
    return fitted(parametric_reconstruction=True)


@pytest.fixture(scope="module")
def file(model: ParametricUMAP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("runtime") / "map.neumap")


# ---- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_positions_and_rows_are_those_of_the_model(
    preset: str, metric: str, tmp_path: Path
) -> None:
    X = rows(60, 140)  # wide enough for a subspace
    ours = fitted(X, preset=preset, metric=metric, parametric_reconstruction=True)
    light = runtime.load(ours.save(tmp_path / "map.neumap"))
    new = rows(9, 140, seed=1)
    new[3] = 0.0  # without direction
    new[4] *= 1e-3
    placed = ours.transform(new)
    extent = np.ptp(ours.embedding_, axis=0).max()
    np.testing.assert_allclose(light.transform(new), placed, atol=1e-5 * extent)
    decoded = ours.inverse_transform(placed)
    np.testing.assert_allclose(light.inverse_transform(placed), decoded, rtol=1e-5, atol=1e-5)


def test_the_formula_of_a_perceptron_in_double_precision(model: ParametricUMAP, file: Path) -> None:
    state = {k: v.numpy().astype(np.float64) for k, v in model.encoder_.state_dict().items()}
    x = (rows(5, seed=2) - state["standardize.mean"]) / state["standardize.scale"]
    n_layers = len(model.encoder_.layers)
    for index in range(n_layers):
        x = x @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
        x = x if index == n_layers - 1 else np.maximum(x, 0.0)
    np.testing.assert_allclose(runtime.load(file).transform(rows(5, seed=2)), x, atol=1e-5)


def test_a_residual_network_in_a_subspace_in_double_precision(tmp_path: Path) -> None:
    net = MLP(6, 2, (8, 8, 5, 5), residual=True, subspace=4).double()
    net.basis.copy_(torch.linalg.qr(torch.randn(6, 6).double())[0][:4])
    ours = fitted()
    ours.encoder_ = net.eval()
    light = runtime.load(ours.save(tmp_path / "map.neumap"))
    np.testing.assert_allclose(light.transform(rows()), ours.transform(rows()), atol=1e-5)


def test_a_file_of_the_first_version_gives_the_numbers_of_its_time() -> None:
    expected = np.load(DATA / "model_0_1_expected.npz")
    light = runtime.load(DATA / "model_0_1_network.neumap")
    np.testing.assert_allclose(light.transform(expected["X"]), expected["network"], atol=1e-5)
    decoded = light.inverse_transform(load_positions())
    np.testing.assert_allclose(decoded, expected["decoded"], atol=1e-4)


def load_positions() -> np.ndarray:
    return neumap.load(DATA / "model_0_1_network.neumap").embedding_


def test_images_and_whole_numbers(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (50, 4, 3), dtype=np.uint8)
    ours = fitted(images, dims=(4, 3), parametric_reconstruction=True)
    light = runtime.load(ours.save(tmp_path / "map.neumap"))
    placed = ours.transform(images)
    np.testing.assert_allclose(light.transform(images), placed, atol=1e-4)
    assert light.inverse_transform(placed).shape == (50, 4, 3)
    np.testing.assert_allclose(
        light.inverse_transform(placed), ours.inverse_transform(placed), rtol=1e-4
    )


def test_values_of_a_decoder_with_logits_lie_in_their_range(tmp_path: Path) -> None:
    X = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    ours = fitted(X, parametric_reconstruction=True)
    assert ours.reconstruction_loss_.name == "bce"
    light = runtime.load(ours.save(tmp_path / "map.neumap"))
    far = np.array([[-1e4, 1e4], [0.0, 0.0]], np.float32)
    decoded = light.inverse_transform(far)
    assert 0.0 <= decoded.min() <= decoded.max() <= 1.0
    np.testing.assert_allclose(decoded, ours.inverse_transform(far), atol=1e-6)


def test_many_rows_come_in_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    light = runtime.load(file)
    whole = light.transform(rows(40))
    monkeypatch.setattr("neumap.runtime.networks.MOST_ROWS", 16)
    parts = runtime.load(file).transform(rows(40))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(light.transform(rows(40)[7:8]), whole[7:8], atol=1e-5)


@pytest.mark.parametrize("form", ["raw", "unit", "centred unit"])
def test_rows_are_normalised_as_the_network_does(form: Any) -> None:
    X = rows(8, 6)
    X[0] = 0.0
    X[1] = 7.25  # constant
    X[2] *= 1e20
    X[3] *= 1e-20
    ours = Standardize(6, form).form(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(in_form(X, form), ours, atol=1e-6)


# ---- other networks -----------------------------------------------------------------------------


def test_a_network_of_the_user_comes_as_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    encoder = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 2))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
    ours = fitted(encoder=encoder, decoder=decoder, parametric_reconstruction=True)
    file = ours.save(tmp_path / "map.neumap")
    with pytest.raises(ArchiveError, match=r"must be an MLP .* got Sequential.*encoder='encoder"):
        runtime.load(file)
    onnx = [ours.to_onnx(tmp_path / f"{part}.onnx", part=part) for part in ("encoder", "decoder")]
    light = runtime.load(file, encoder=onnx[0], decoder=onnx[1])
    placed = ours.transform(rows())
    np.testing.assert_allclose(light.transform(rows()), placed, atol=1e-5)
    decoded = ours.inverse_transform(placed)
    np.testing.assert_allclose(light.inverse_transform(placed), decoded, atol=1e-5)
    with pytest.raises(ValueError, match=r"decoder that is an MLP .* got Sequential.*to_onnx"):
        runtime.load(file, encoder=onnx[0]).inverse_transform(placed)
    with pytest.raises(ValueError, match=r"^encoder must map rows of shape \(6,\) to \(2,\), got"):
        runtime.load(file, encoder=onnx[1])
    with pytest.raises(ValueError, match=r"^encoder must be a file of to_onnx, got .*map.neumap"):
        runtime.load(file, encoder=file)


def test_half_precision_is_refused_with_advice(tmp_path: Path) -> None:
    ours = fitted()
    ours.encoder_ = copy.deepcopy(ours.encoder_).bfloat16()
    with pytest.raises(ArchiveError, match=r"of float32 or float64.*encoder_.float\(\)"):
        runtime.load(ours.save(tmp_path / "map.neumap"))


def test_free_positions_are_refused(tmp_path: Path) -> None:
    free = neumap.UMAP(n_epochs=2, n_neighbors=5, random_state=0).fit(rows())
    with pytest.raises(ArchiveError, match=r"with an encoder .* got free positions.*neumap.load"):
        runtime.load(free.save(tmp_path / "free.neumap"))


def test_an_unfitted_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"must hold a fitted model.*Save it after fit"):
        runtime.load(ParametricUMAP().save(tmp_path / "new.neumap"))


def test_a_model_without_a_decoder_says_so(tmp_path: Path) -> None:
    light = runtime.load(fitted().save(tmp_path / "map.neumap"))
    with pytest.raises(ValueError, match=r"got none. Fit with parametric_reconstruction=True"):
        light.inverse_transform(np.zeros((1, 2)))


# ---- what it is given ---------------------------------------------------------------------------

WRONG: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((3, 5)), ValueError, "6 features as the rows of the fit, got 5"),
    (np.zeros(6), ValueError, r"two axes or more, got shape \(6,\)"),
    (np.zeros((0, 6)), ValueError, "at least one row, got none"),
    (np.full((2, 6), np.nan), ValueError, r"got NaN in 12 value\(s\), the first in row 0"),
    (np.full((2, 6), 1e300), ValueError, "got infinity or a value too large"),
    ([["a"] * 6], TypeError, "must hold numbers"),
    (np.full((2, 6), "a", object), TypeError, "got values that are none"),
    (np.full((2, 6), None), ValueError, "got NaN in 12"),
    ("map.npy", TypeError, "must hold numbers, got a str"),
    (np.zeros((2, 6), complex), TypeError, "of dtype complex128"),
]


@pytest.mark.parametrize(("X", "kind", "message"), WRONG)
def test_rows_that_are_none_are_refused_as_by_the_model(
    X: Any, kind: type[Exception], message: str, model: ParametricUMAP, file: Path
) -> None:
    with pytest.raises(kind, match=message):
        runtime.load(file).transform(X)
    with pytest.raises((ValueError, TypeError)):
        model.transform(X)


@pytest.mark.parametrize("X", [np.zeros((2, 3)), np.zeros(2), np.full((1, 2), np.inf)])
def test_positions_that_are_none_are_refused(X: Any, file: Path) -> None:
    with pytest.raises(ValueError, match="Positions must"):
        runtime.load(file).inverse_transform(X)


def test_tables_must_have_the_columns_of_the_fit(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    table = pd.DataFrame(rows(), columns=list("abcdef"))
    ours = fitted(table)
    light = runtime.load(ours.save(tmp_path / "map.neumap"))
    assert light.feature_names_in_ == list("abcdef")
    for same in (table, pl.DataFrame(rows(), schema=list("abcdef")), table.to_numpy()):
        np.testing.assert_allclose(light.transform(same), ours.transform(table), atol=1e-5)
    for wrong, message in [
        (table[list("bacdef")], "got another order"),
        (table.rename(columns={"a": "z"}), "got no a and the unknown z"),
    ]:
        with pytest.raises(ValueError, match=f"columns of the fit in their order, {message}"):
            light.transform(wrong)
    np.testing.assert_allclose(
        light.transform(table[list("bacdef")][light.feature_names_in_]), ours.transform(table),
        atol=1e-5,
    )  # fmt: skip


# ---- files --------------------------------------------------------------------------------------


def test_a_changed_byte_of_a_weight_is_found(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    weight = read_archive(file).tensors["encoder.layers.0.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 1
    damaged = tmp_path / "damaged.neumap"
    damaged.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"checksum of 'encoder.layers.0.weight' differs"):
        runtime.load(damaged)


def test_files_that_are_cut_or_missing(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for n_bytes in (0, 7, 9, 300, len(content) - 1):
        (tmp_path / "cut.neumap").write_bytes(content[:n_bytes])
        with pytest.raises(ArchiveError, match="ends too early"):
            runtime.load(tmp_path / "cut.neumap")
    with pytest.raises(ArchiveError, match="got nothing there"):
        runtime.load(tmp_path / "no.neumap")
    (tmp_path / "p.neumap").write_bytes(b"\x80\x04abcdefghijkl")
    with pytest.raises(ArchiveError, match="got a pickle"):
        runtime.load(tmp_path / "p.neumap")


def test_sizes_are_compared_with_the_tensors(tmp_path: Path) -> None:
    """A description of a huge network needs no memory."""
    net = MLP(6, 2, (4,))
    spec, tensors = pack_module(net, "encoder")
    spec["root"]["config"]["hidden"] = [2**40]
    shape = {"value": (6,)}
    fields = {"n_features": {"value": 6}, "n_components": {"value": 2}, "input_shape": shape}
    nodes = {"format": 2, "fitted": {**fields, "encoder": {"module": spec, "name": "encoder"}}}
    huge = write_archive(tmp_path / "h.neumap", tensors=tensors, metadata={"estimator": nodes})
    with pytest.raises(ArchiveError, match=r"layers.0.weight must be an array of shape \(1099511"):
        runtime.load(huge)


@pytest.mark.parametrize("seed", range(N_FORGERIES))
def test_a_forged_file_is_refused_or_works(seed: int, file: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)

    def change(body: dict[str, Any]) -> None:
        fields = body["metadata"]["estimator"]["fitted"]
        for _ in range(rng.choice([1, 1, 3])):
            mutate(rng.choice([fields, {"fields": fields}, body]), rng)

    forged = forge(file, tmp_path / "forged.neumap", change)
    try:
        light = runtime.load(forged)
    except ArchiveError:
        return
    X = rows(3, light.n_features_in_)
    assert light.transform(X).shape == (3, light.n_components)


# ---- a server without the rest ------------------------------------------------------------------

PROBE = """
import sys
for name in {heavy!r}:
    sys.modules[name] = None  # its import raises
import numpy as np
from neumap import runtime
model = runtime.load({file!r})
placed = model.transform(np.load({rows!r}))
import json
from pathlib import Path
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
print(json.dumps({{
    "placed": placed.tolist(),
    "decoded": model.inverse_transform(placed).shape,
    "loaded": sorted({{name.partition(".")[0] for name in sys.modules}}),
    "neumap": sorted(name for name in sys.modules if name.startswith("neumap")),
    "mb": sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")),
}}))
"""


def test_nothing_but_numpy_is_loaded(model: ParametricUMAP, file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows())
    code = PROBE.format(heavy=HEAVY, file=str(file), rows=str(tmp_path / "rows.npy"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    found = json.loads(done.stdout)
    np.testing.assert_allclose(found["placed"], model.transform(rows()), atol=1e-5)
    assert found["decoded"] == [60, 6]
    foreign = set(found["loaded"]) - set(sys.stdlib_module_names) - set(HEAVY)
    started = {"__main__", "sitecustomize", "usercustomize", "_distutils_hack"}
    editable = {name for name in foreign if name.startswith("__editable__")}
    assert foreign - editable - started == {"neumap", "numpy"}
    rooms = {name.split(".")[1] for name in found["neumap"] if "." in name}
    assert rooms == {"_card", "_optional", "_warnings", "archive", "runtime"}
    # 30 MB of an ordinary system, of which Python and NumPy take 27.
    assert found["mb"] < 80


def test_without_torch_the_rest_of_the_package_says_what_it_needs() -> None:
    code = "import sys; sys.modules['torch'] = None; import neumap; neumap.ParametricUMAP"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=200
    )
    assert "ImportError: neumap.estimators needs 'torch', which is not installed" in done.stderr
    assert "Install them with: pip install neumap" in done.stderr


# ---- the page -----------------------------------------------------------------------------------


def test_examples_of_the_documentation_run(run_page: Callable[[str], int]) -> None:
    pytest.importorskip("onnxruntime")
    assert run_page("serving.md") == 3
