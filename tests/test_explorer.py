"""The explorer's payload and page, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from neumap import UMAP, ParametricUMAP, explorer
from neumap._card import in_form
from neumap.callbacks import Snapshots
from neumap.cli import main
from neumap.explorer import page as pages
from neumap.explorer import payload as payloads
from neumap.explorer.colours import PALETTES
from neumap.explorer.images import image_facts, step_of, tiles_of
from neumap.explorer.networks import layers_of
from neumap.explorer.payload import Inputs, payload_of
from neumap.explorer.reference import reference_of
from neumap.networks import MLP, ConvEncoder

WEB = Path(__file__).parents[1] / "web" / "explorer"
BUNDLE = Path(pages.__file__).with_name("static") / "explorer.js"
N_ROWS, N_FEATURES = 120, 6
HOSTILE = [
    "</script><script>window.ran=1</script>",
    "<!--",
    "a & b",
    "\u2028",
    "\ud800",
    "'\"`${1}",
]


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(N_ROWS, N_FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def snapshots() -> Snapshots:
    return Snapshots()


@pytest.fixture(scope="module")
def model(X: NDArray[np.float32], snapshots: Snapshots) -> ParametricUMAP:
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 3, "random_state": 0}
    return ParametricUMAP(parametric_reconstruction=True, callbacks=[snapshots], **settings).fit(X)


def positions_in(payload: payloads.Payload) -> NDArray[Any]:
    """The positions that a page has, in the units of transform."""
    frame = payload.head["frame"]
    stored = np.frombuffer(payload.parts["xy"], "<u2").reshape(-1, 2)
    return np.asarray(frame["low"] + stored / 65535 * frame["span"])


# ---- networks -----------------------------------------------------------------------------------


def disturbed(module: nn.Module) -> nn.Module:
    """The module with other weights than those it starts with, statistics included."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize(
    "network",
    [
        MLP(6, 2),
        MLP(6, 2, hidden=(8, 8, 8), residual=True),
        MLP(6, 3, hidden=(5,), rows="unit", subspace=4),
        MLP(6, 2, hidden=(), rows="centred unit"),
        MLP(2, 6, output_shape=(2, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 2)),
        nn.Sequential(nn.Linear(6, 3, bias=False), nn.Sigmoid()),
    ],
    ids=str,
)
def test_layers_give_what_the_network_gives(network: nn.Module) -> None:
    disturbed(network)
    width = 2 if getattr(network, "n_inputs", 6) == 2 else 6
    rows = torch.randn(9, width, generator=torch.Generator().manual_seed(1))
    layers = layers_of(network)
    assert layers is not None
    with torch.no_grad():
        expected = network(rows).flatten(1).numpy()
    for dtype in (np.float32, np.float64):  # of the runtime, and of the page
        found = layers.apply(rows.numpy().astype(dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "network", [None, ConvEncoder((8, 8)), nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2)), "x"]
)
def test_other_networks_have_no_such_layers(network: Any) -> None:
    assert layers_of(network) is None


def test_a_network_that_gives_other_numbers_is_left_out(
    X: NDArray[np.float32], model: ParametricUMAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(self: MLP, rows: torch.Tensor) -> torch.Tensor:
        return original(self, rows) + 0.01

    original = MLP.forward
    monkeypatch.setattr(MLP, "forward", shifted)
    networks = payload_of(model, X, Inputs()).head["networks"]
    assert networks == {"encoder": None, "decoder": None}


def test_the_networks_are_those_of_the_model(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    payload = payload_of(model, X, Inputs())
    weights = np.frombuffer(payload.parts["weights"], "<f4")
    for name, inputs, expected in (
        ("encoder", X, model.transform(X)),
        ("decoder", model.embedding_, model.inverse_transform(model.embedding_)),
    ):
        found = np.asarray(inputs, dtype=np.float64)
        for layer in payload.head["networks"][name]:
            found = by_hand(layer, weights, found)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def by_hand(layer: dict[str, Any], weights: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    def array(name: str) -> NDArray[Any]:
        place = layer[name]
        return weights[place["at"] : place["at"] + place["size"]]

    if layer["op"] == "form":
        assert layer["rows"] == "raw"
        return x
    if layer["op"] == "standardize":
        return np.asarray((x - array("mean")) / layer["scale"])
    assert layer["op"] == "linear"
    y = x @ array("weight").reshape(-1, x.shape[1]).T
    y = y if layer["bias"] is None else y + array("bias")
    return np.maximum(y, 0) if layer["relu"] else np.asarray(y)


# ---- the payload --------------------------------------------------------------------------------


def test_points_lie_where_transform_says(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    payload = payload_of(model, X, Inputs())
    placed = model.transform(X)
    assert np.abs(positions_in(payload) - placed).max() <= 1e-5 * np.ptp(placed, axis=0).max()


def test_labels_have_codes_and_names(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    labels = pd.Series(["b", "a", None, "c10", "c2"] * 24, name="kind")
    payload = payload_of(model, X, Inputs(labels=labels))
    expected = {"kind": "classes", "title": "kind", "names": ["a", "b", "c2", "c10"]}
    assert payload.head["labels"] == expected
    codes = np.frombuffer(payload.parts["codes"], "<u2")
    assert codes[:5].tolist() == [1, 0, 65535, 3, 2]


@pytest.mark.parametrize(
    "given",
    [
        {"values": np.arange(N_ROWS)},
        {"labels": np.arange(N_ROWS) / 4},
        {"labels": np.where(np.arange(N_ROWS) == 5, np.nan, np.arange(N_ROWS) + 0.5)},
    ],
)
def test_values_are_stored_as_they_are(
    X: NDArray[np.float32], model: ParametricUMAP, given: dict[str, Any]
) -> None:
    payload = payload_of(model, X, Inputs(**given))
    (expected,) = (np.asarray(column, dtype=np.float32) for column in given.values())
    np.testing.assert_array_equal(np.frombuffer(payload.parts["values"], "<f4"), expected)
    low, high = np.nanmin(expected), np.nanmax(expected)
    assert payload.head["labels"] == {"kind": "values", "title": "", "low": low, "high": high}


def test_texts_and_rows(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    texts = [None, float("nan"), *HOSTILE, *range(8, N_ROWS - 1), pd.NA]
    payload = payload_of(model, X, Inputs(texts=texts))
    stored = json.loads(payload.parts["texts"])
    surrogate = HOSTILE.index("\ud800") + 2
    shown = ["?" if at == surrogate else str(text) for at, text in enumerate(texts)]
    assert stored == ["", "", *shown[2:-1], ""]
    np.testing.assert_array_equal(np.frombuffer(payload.parts["table"], "<f4"), X.ravel())
    moments = np.frombuffer(payload.parts["moments"], "<f4").reshape(2, -1)
    np.testing.assert_allclose(moments, [X.mean(0), X.std(0)], rtol=1e-5, atol=1e-6)


def test_of_many_points_a_sample_is_drawn(
    X: NDArray[np.float32], model: ParametricUMAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "MOST_POINTS", 50)
    payload = payload_of(model, X, Inputs(texts=[f"row {at}" for at in range(N_ROWS)]))
    rows = np.frombuffer(payload.parts["rows"], "<u4")
    assert len(rows) == 50
    assert (np.diff(rows.astype(int)) > 0).all()
    assert json.loads(payload.parts["texts"]) == [f"row {row}" for row in rows]
    np.testing.assert_allclose(positions_in(payload), model.transform(X)[rows], atol=1e-3)
    assert payload.head["notes"] == ["A random sample of 50 of 120 points is drawn."]


def test_rows_without_a_position_are_left_out() -> None:
    placed = np.array([[0.0, 0.0], [np.nan, 1.0], [2.0, 1.0]])
    model = SimpleNamespace(transform=lambda X: placed, n_features_in_=2)
    payload = payload_of(model, np.zeros((3, 2)), Inputs(labels=["a", "b", "c"]))
    assert np.frombuffer(payload.parts["rows"], "<u4").tolist() == [0, 2]
    assert np.frombuffer(payload.parts["codes"], "<u2").tolist() == [0, 2]
    assert payload.head["notes"] == ["1 rows have no position and are not drawn."]


def test_names_of_columns_are_kept(X: NDArray[np.float32]) -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"))
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "random_state": 0}
    model = ParametricUMAP(**settings).fit(frame)
    assert explorer.show(model, frame).payload.head["columns"] == list("abcdef")
    with pytest.warns(UserWarning, match="valid feature names"):  # once, from transform
        explorer.show(model, X)


def test_the_film_has_the_snapshots(
    X: NDArray[np.float32], model: ParametricUMAP, snapshots: Snapshots
) -> None:
    payload = payload_of(model, X, Inputs(snapshots=snapshots))
    frames = np.frombuffer(payload.parts["film"], "<u2").reshape(-1, N_ROWS, 2)
    assert payload.head["film"]["steps"] == [step for step, _ in snapshots.snapshots]
    assert len(frames) == len(snapshots.snapshots)
    stored = np.frombuffer(payload.parts["xy"], "<u2").reshape(-1, 2)
    assert np.abs(frames[-1].astype(int) - stored).max() <= 1
    assert np.abs(frames[0].astype(int) - stored).max() > 1000


def test_a_long_film_is_thinned(
    X: NDArray[np.float32], model: ParametricUMAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "MOST_FILM", 5 * 2 * N_ROWS)
    film = [(step, model.embedding_) for step in range(0, 90, 10)]
    payload = payload_of(model, X, Inputs(snapshots=film))
    assert payload.head["film"]["steps"] == [0, 20, 40, 60, 80]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [1] * 3}, r"labels must have shape \(120,\)"),
        ({"texts": ["a"]}, "texts must have 120 entries, one per row, got 1"),
        ({"images": np.zeros((120, 4))}, r"images must have shape \(120, height, width\)"),
        ({"image_shape": (2, 2)}, r"image_shape must be .* with 6 values in total, got \(2, 2\)"),
        ({"snapshots": [(0, np.zeros((4, 2)))]}, r"snapshots must have shape \(120, 2\)"),
        ({"labels": [1] * 120, "values": [1] * 120}, "One of labels and values must be None"),
        ({"path": "map.png"}, "path must end in .html, got 'map.png'"),
    ],
)
def test_what_does_not_fit_is_refused(
    X: NDArray[np.float32], model: ParametricUMAP, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explorer.show(model, X, **given)


def test_maps_of_other_dimensions_are_refused(X: NDArray[np.float32]) -> None:
    model = SimpleNamespace(transform=lambda X: np.zeros((len(X), 3)))
    with pytest.raises(ValueError, match=r"must have 2 components, got .*\(120, 3\)"):
        explorer.show(model, X)


def kinds_of_rows() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    plain = generator.normal(size=(100, 6)).astype(np.float32)
    return {
        "sparse": scipy.sparse.random_array((100, 30), density=0.2, rng=generator, format="csr"),
        "colour images": generator.integers(0, 255, (100, 8, 8, 3)).astype(np.uint8),
        "tensor": torch.from_numpy(plain),
        "cosine": plain,
        "correlation": plain,
    }


@pytest.mark.parametrize("kind", kinds_of_rows())
def test_rows_of_every_kind_can_be_placed(kind: str) -> None:
    X = kinds_of_rows()[kind]
    metric = kind if kind in ("cosine", "correlation") else "euclidean"
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "random_state": 0}
    model = ParametricUMAP(metric=metric, **settings).fit(X)
    payload = payload_of(model, X, Inputs())
    assert payload.head["networks"]["encoder"] is not None
    form = {"cosine": "unit", "correlation": "centred unit"}.get(metric, "raw")
    assert payload.head["reference"] == {"n": 50, "form": form}


def test_a_map_without_a_network_is_shown() -> None:
    X = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    model = UMAP(n_epochs=3, random_state=0).fit(X)
    payload = payload_of(model, X, Inputs())
    assert payload.head["networks"] == {"encoder": None, "decoder": None}
    np.testing.assert_allclose(positions_in(payload), model.embedding_, atol=1e-3)


# ---- pictures and known rows --------------------------------------------------------------------


def test_images_have_their_range_and_the_place_of_their_ink() -> None:
    images = np.zeros((30, 10, 8), dtype=np.float32)
    images[:, 2:7, 3:5] = 16.0  # lines 2 to 6 and columns 3 and 4
    facts = image_facts(images.reshape(30, -1), (10, 8, 1))
    assert facts["box"] == pytest.approx([0.2, 0.7, 3 / 8, 5 / 8])
    assert (facts["low"], facts["high"], facts["ink"]) == (0.0, 16.0, "high")
    assert image_facts(16.0 - images.reshape(30, -1), (10, 8, 1))["ink"] == "low"
    noise = np.random.default_rng(0).random((30, 80)).astype(np.float32)
    assert image_facts(noise, (10, 8, 1))["box"] is None


def test_rows_that_are_images_are_their_own_pictures() -> None:
    X = np.random.default_rng(0).random((60, 8, 8)).astype(np.float32)
    model = ParametricUMAP(preset="fast", n_epochs=1, random_state=0).fit(X)
    payload = explorer.show(model, X).payload
    assert payload.head["image"]["shape"] == [8, 8, 1]
    tiles = np.frombuffer(payload.parts["tiles"], np.uint8).reshape(60, 8, 8)
    share = (X - X.min()) / (X.max() - X.min())
    np.testing.assert_allclose(tiles, 255 * share, atol=0.51)
    assert "table" not in payload.parts


def test_pictures_are_read_in_their_range() -> None:
    grey = np.array([[[0.0, 0.5], [1.0, 0.25]]])
    assert tiles_of(grey, 1).ravel().tolist() == [0, 128, 255, 64]
    colours = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert tiles_of(colours, 1).ravel().tolist() == list(range(12))


def test_many_pictures_are_made_smaller() -> None:
    assert step_of(1000, (28, 28, 1)) == 1
    assert step_of(60_000, (28, 28, 1)) == 2  # 47 MB would be too much, 12 MB are not
    assert step_of(10**6, (28, 28, 1)) is None


@pytest.mark.parametrize("form", ["raw", "unit", "centred unit"])
def test_trust_is_calibrated(form: str) -> None:
    """Of rows from the same distribution, a share of p has a p-value of at most p."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(1600, 5)).astype(np.float32)
    reference = reference_of(rows, np.arange(1600), form)
    assert reference is not None
    new = in_form(generator.normal(size=(400, 5)), form)
    known = in_form(reference.rows.astype(np.float64), form)
    nearest = np.sqrt(((new[:, None] - known[None]) ** 2).sum(2)).min(1)
    shares = [
        (1 + (reference.distances >= d).sum()) / (len(reference.distances) + 1) for d in nearest
    ]
    assert stats.kstest(shares, "uniform").pvalue > 0.01
    assert (np.diff(reference.distances) >= 0).all()


def test_few_rows_are_no_reference() -> None:
    assert reference_of(np.zeros((30, 2), np.float32), np.arange(30), "raw") is None


# ---- the page -----------------------------------------------------------------------------------


def test_texts_stand_in_the_page_as_data(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    names = [HOSTILE[at % len(HOSTILE)] for at in range(N_ROWS)]
    labels = pd.Series([name.replace("\ud800", "?") for name in names], name=HOSTILE[0])
    page = explorer.show(model, X, labels=labels, texts=names, title=HOSTILE[0]).html
    content, script = page.rsplit('<script type="module">', 1)
    assert script.lower().count("</script") == 1
    markup = re.sub(r'<script type="[^"]*"[^>]*>[^<]*</script>', "", content)
    assert "<script" not in markup
    assert "<!--" not in content
    assert "&lt;/script&gt;" in re.search("<title>(.*)</title>", page)[1]  # type: ignore[index]
    head = json.loads(re.search(r'id="head">(.*?)</script>', page)[1])  # type: ignore[index]
    assert head["labels"]["title"] == HOSTILE[0]


def test_a_page_asks_for_nothing_and_repeats(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    first, second = (explorer.show(model, X).html for _ in range(2))
    assert first == second
    addresses = set(re.findall(r"https?://[\w./]*", first))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in first
    assert "unsafe" not in re.search('content="(default-src.*?)"', first)[1]  # type: ignore[index]


def test_the_parts_of_a_page_are_those_of_the_payload(
    X: NDArray[np.float32], model: ParametricUMAP, tmp_path: Path
) -> None:
    page = explorer.show(model, X, labels=X[:, 0] > 0, path=tmp_path / "map.html")
    written = (tmp_path / "map.html").read_text("utf-8")
    found = re.findall(r'data-part="(\w+)">([^<]*)<', written)
    unpacked = {name: gzip.decompress(base64.b64decode(content)) for name, content in found}
    assert unpacked == page.payload.parts


def test_a_notebook_gets_the_page_in_a_frame(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    frame = explorer.show(model, X)._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert frame.count('"') == 4


def test_the_widget_needs_its_extra(
    X: NDArray[np.float32], model: ParametricUMAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r'pip install "neumap\[explorer\]"'):
        explorer.show(model, X).widget()


@pytest.mark.integration("anywidget")
def test_the_widget_holds_the_page(X: NDArray[np.float32], model: ParametricUMAP) -> None:
    page = explorer.show(model, X)
    widget = page.widget(height="300px")
    assert (widget.head, widget.height, widget.selection) == (page.payload.head, "300px", [])
    # What a notebook's front end is sent when the widget is displayed.
    state = widget.get_state()
    assert set(state["parts"]) == set(page.payload.parts)
    assert "render" in state["_esm"]


def test_colours_are_those_of_the_plots() -> None:
    themes = pytest.importorskip("neumap.plots.themes")
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    names = tuple(range(30))
    for name in ("light", "dark"):
        theme = themes.THEMES[name]
        expected = [to_hex(color) for color in themes.class_colors(names, None, theme)]
        assert PALETTES[name]["missing"] == theme.missing
        found = np.array(
            [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTES[name]["classes"]]
        )
        wanted = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in expected])
        assert np.abs(found[:30] - wanted).max() <= 1  # rounding


# ---- the command --------------------------------------------------------------------------------


def test_the_command_writes_a_page(
    X: NDArray[np.float32], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(kind="k", words="w & w", name="n")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    file, output = str(tmp_path / "rows.csv"), tmp_path / "page.html"
    columns = ["--label-column", "kind", "--id-column", "name", "--ignore-column", "words"]
    fit = ["fit", file, "-o", str(tmp_path / "m.neumap"), "--preset", "fast", "--n-epochs", "1"]
    assert main([*fit, *columns, "--quiet"]) == 0
    line = [
        "explore",
        str(tmp_path / "m.neumap"),
        file,
        "-o",
        str(output),
        "--text-column",
        "words",
    ]
    assert main([*line, *columns[:4], "--image-shape", "2x3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{output}: 120 rows"
    page = output.read_text("utf-8")
    head = json.loads(re.search(r'id="head">(.*?)</script>', page)[1])  # type: ignore[index]
    assert (head["title"], head["labels"]["names"]) == ("rows", ["k"])
    assert (head["image"]["shape"], head["columns"]) == ([2, 3, 1], list("abcdef"))
    texts = re.search(r'data-part="texts">([^<]*)<', page)[1]  # type: ignore[index]
    assert json.loads(gzip.decompress(base64.b64decode(texts))) == ["w & w"] * N_ROWS


@pytest.mark.parametrize("shape", ["28", "28x", "0x3", "axb", "1x2x3x4"])
def test_the_command_explains_the_shape_of_an_image(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "m", "rows.csv", "--image-shape", shape]) == 2
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


@pytest.mark.slow
def test_the_code_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "explorer.md"
    code = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) == 2
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(compile("\n".join(code), "explorer.md", "exec"), namespace)
    size = (tmp_path / "digits.html").stat().st_size
    assert 1_100_000 < size < 1_400_000  # the page says 1.2 MB
    networks = namespace["page"].payload.head["networks"]
    assert None not in networks.values()


# ---- the bundle ---------------------------------------------------------------------------------


def test_the_bundle_is_that_of_the_sources(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (WEB / "node_modules" / "esbuild").is_dir():
        pytest.skip("needs Node.js and `npm ci --ignore-scripts` in web/explorer")
    built = tmp_path / "explorer.js"
    subprocess.run([node, "build.mjs", str(built)], cwd=WEB, check=True, timeout=120)
    assert built.read_text("utf-8") == BUNDLE.read_text("utf-8")
