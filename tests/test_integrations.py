"""neumap inside other tools: the real package where it is installed, its contract otherwise.

FiftyOne as a whole needs a database, which `make test-fiftyone` brings along. Without it the
visualization module of its brain runs with stand-ins for the parts that it only mentions.
"""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import HDBSCAN, MiniBatchKMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neumap import ParametricUMAP, load_ParametricUMAP
from neumap.integrations import embedding_atlas
from neumap.integrations import fiftyone as integration

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def make(**parameters: Any) -> ParametricUMAP:
    return ParametricUMAP(**{"preset": "fast", "random_state": 0, **parameters})


# ------------------------------------------------------------------ FiftyOne


def get_class(name: str) -> Any:
    """As eta.core.utils.get_class finds a class by its stored name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


class BrainMethodConfig:
    """As that of fiftyone.core.brain: the name of the class is stored, which finds the method."""

    def __init__(self, **kwargs: Any) -> None:
        assert not kwargs, f"unknown settings {kwargs}"

    @property
    def cls(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    @property
    def run_cls(self) -> Any:
        return get_class(self.cls[: -len("Config")])

    def build(self) -> Any:
        return self.run_cls(self)


class BrainMethod:
    def __init__(self, config: Any) -> None:
        self.config = config


class VisualizationConfig(BrainMethodConfig):
    """The settings that fiftyone.brain.visualization.VisualizationConfig takes (brain 0.27)."""

    def __init__(self, embeddings_field: Any = None, num_dims: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embeddings_field = embeddings_field
        self.num_dims = num_dims


class Visualization(BrainMethod):
    SUPPORTS_UPDATES = False


def module(name: str, **names: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(names)
    return made


def contract() -> types.ModuleType:
    """Return what neumap uses of fiftyone.brain.visualization, by hand."""
    return module(
        "fiftyone.brain.visualization",
        VisualizationConfig=VisualizationConfig,
        Visualization=Visualization,
        _pickle_reducer=lambda reducer: base64.b64encode(
            zlib.compress(pickle.dumps(reducer))
        ).decode("ascii"),
        _unpickle_reducer=lambda blob: pickle.loads(zlib.decompress(base64.b64decode(blob))),
    )


def brain_file() -> Path | None:
    """Return the file of the installed fiftyone-brain, without importing FiftyOne."""
    folders = [Path(folder) / "fiftyone" / "brain" / "visualization.py" for folder in sys.path]
    return next((file for file in folders if file.is_file()), None)


def real(file: Path) -> types.ModuleType:
    """Run the brain's own file, with stand-ins for the rest of FiftyOne."""
    stand_ins = {
        "eta": module("eta"),
        "eta.core": module("eta.core"),
        "eta.core.utils": module("eta.core.utils", is_str=lambda value: isinstance(value, str)),
        "fiftyone.core": module("fiftyone.core"),
    }
    empty = module("brain_config", default_visualization_method="umap")
    stand_ins["fiftyone.brain"] = module("fiftyone.brain", brain_config=empty)
    for part in ("dataset", "expressions", "fields", "plots", "validation"):
        stand_ins[f"fiftyone.core.{part}"] = module(f"fiftyone.core.{part}")
    stand_ins["fiftyone.core.brain"] = module(
        "fiftyone.core.brain",
        BrainMethodConfig=BrainMethodConfig,
        BrainMethod=BrainMethod,
        BrainResults=object,
    )
    stand_ins["fiftyone.core.utils"] = module("fiftyone.core.utils", lazy_import=module)
    for name, made in stand_ins.items():
        sys.modules[name] = made
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, made)
    made = module("fiftyone.brain.visualization")
    exec(compile(file.read_text("utf-8"), str(file), "exec"), made.__dict__)
    return made


@pytest.fixture(params=["contract", "fiftyone-brain"])
def brain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = dict(sys.modules)
    sys.modules["fiftyone"] = module("fiftyone")
    sys.modules["fiftyone.brain"] = module("fiftyone.brain")
    file = brain_file() if request.param == "fiftyone-brain" else None
    try:
        if request.param == "fiftyone-brain" and file is None:
            pytest.skip("fiftyone-brain is not installed")
        made = contract() if file is None else real(file)
        sys.modules["fiftyone.brain.visualization"] = made
        yield made
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in ("fiftyone", "eta"):
                del sys.modules[name]
        for name in ("NeumapVisualization", "NeumapVisualizationConfig"):
            vars(integration).pop(name, None)


FRESH = """
import base64, pickle, sys, zlib
import numpy as np
reducer = pickle.loads(zlib.decompress(base64.b64decode(open(sys.argv[1]).read())))
np.save(sys.argv[2], reducer.transform(np.load(sys.argv[3])))
"""


def test_fiftyone_keeps_the_reducer_and_places_new_samples(brain: Any, tmp_path: Path) -> None:
    config = integration.NeumapVisualizationConfig(
        embeddings_field="clip", seed=0, verbose=False, preset="fast", parameters={"n_epochs": 3}
    )
    assert (config.method, config.num_dims, config.embeddings_field) == ("neumap", 2, "clip")
    method = config.build()  # by the stored name of the configuration's class
    assert isinstance(method, brain.Visualization)
    assert method.SUPPORTS_UPDATES
    points, reducer = method.fit_reducer(X[:300])
    expected = make(n_epochs=3).fit(X[:300])
    np.testing.assert_array_equal(points, expected.embedding_)
    assert reducer.n_features_in_ == 64
    blob = brain._pickle_reducer(reducer)
    twice = brain._pickle_reducer(method.fit_reducer(np.tile(X[:300], (2, 1)))[1])
    assert len(twice) < 1.05 * len(blob)  # nothing per row
    np.testing.assert_array_equal(
        brain._unpickle_reducer(blob).transform(X[300:320]), expected.transform(X[300:320])
    )
    (tmp_path / "blob").write_text(blob)
    np.save(tmp_path / "new.npy", X[300:320])
    arguments = [str(tmp_path / name) for name in ("blob", "placed.npy", "new.npy")]
    subprocess.run([sys.executable, "-c", FRESH, *arguments], check=True, timeout=120)
    placed = np.load(tmp_path / "placed.npy")
    np.testing.assert_allclose(placed, expected.transform(X[300:320]), atol=1e-5)


IN_FIFTYONE = """
import sys
import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
from neumap.integrations.fiftyone import NeumapVisualizationConfig

step, vectors, positions = sys.argv[1:]
vectors = np.load(vectors)
samples = lambda name: [
    fo.Sample(filepath=f"/{name}/{row}.png", clip=vector.tolist())
    for row, vector in enumerate(vectors)
]
if step == "fit":
    dataset = fo.Dataset("digits", persistent=True)
    dataset.add_samples(samples("old"))
    results = fob.compute_visualization(
        dataset,
        embeddings="clip",
        brain_key="map",
        method=NeumapVisualizationConfig,
        seed=0,
        verbose=False,
        preset="fast",
        parameters={"n_epochs": 3},
    )
else:
    dataset = fo.load_dataset("digits")
    results = dataset.load_brain_results("map")
    ids = dataset.add_samples(samples("new"))
    results.add_samples(dataset.select(ids))
    assert results.total_index_size == len(dataset)
    dataset.delete_samples(ids)
np.save(positions, results.points)
"""


def has_database() -> bool:
    """Whether FiftyOne can start or reach one."""
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return True
    return any((Path(at) / "fiftyone" / "db" / "bin" / "mongod").is_file() for at in sys.path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.integration("fiftyone")
def test_fiftyone_itself_maps_a_dataset_and_adds_samples_later(tmp_path: Path) -> None:
    if not os.environ.get("NEUMAP_INTEGRATIONS") and not has_database():
        pytest.skip("FiftyOne has no database here")
    expected = make(n_epochs=3).fit(X[:300])
    environment = {**os.environ, "HOME": str(tmp_path), "FIFTYONE_DO_NOT_TRACK": "true"}
    for step, rows in (("fit", X[:300]), ("add", X[300:320])):  # each in a process of its own
        np.save(tmp_path / "vectors.npy", rows)
        arguments = [step, str(tmp_path / "vectors.npy"), str(tmp_path / f"{step}.npy")]
        done = subprocess.run(
            [sys.executable, "-c", IN_FIFTYONE, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "fit.npy"), expected.embedding_, atol=1e-5)
    placed = np.load(tmp_path / "add.npy")
    np.testing.assert_allclose(placed[:300], expected.embedding_, atol=1e-5)
    np.testing.assert_allclose(placed[300:], expected.transform(X[300:320]), atol=1e-5)


def test_fiftyone_is_asked_for_when_it_is_needed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(ImportError, match="Install it with: pip install fiftyone"):
        _ = integration.NeumapVisualization
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = integration.Other


def test_a_model_without_rows_is_a_copy_and_needs_a_network() -> None:
    model = make(n_epochs=1).fit(X[:100])
    slim = integration.without_rows(model)
    assert model.embedding_.shape == (100, 2)
    assert not hasattr(slim, "embedding_")
    assert not hasattr(slim, "graph_")
    with pytest.raises(ValueError, match="needs the training rows"):
        slim.confidence(X[:5])
    with pytest.raises(ValueError, match="model must have an encoder to do without its rows"):
        integration.without_rows(make(parametric_embedding=False, n_epochs=1).fit(X[:100]))


# ------------------------------------------------------------------ Embedding Atlas


def test_embedding_atlas_gets_its_columns(tmp_path: Path) -> None:
    model = make(n_epochs=3, n_neighbors=6).fit(X[:200])
    table = pd.DataFrame({"label": Y[:200], "text": [f"digit {y}" for y in Y[:200]]})
    path = embedding_atlas.write_parquet(tmp_path / "new" / "map.parquet", model, table)
    read = pd.read_parquet(path)
    assert list(read) == ["label", "text", "projection_x", "projection_y", "neighbors"]
    assert read["text"].tolist() == table["text"].tolist()
    positions = read[["projection_x", "projection_y"]].to_numpy()
    np.testing.assert_array_equal(positions.astype(np.float32), model.embedding_)
    distances = np.linalg.norm(X[:200, None] - X[None, :200], axis=2)
    for row in (0, 57, 199):
        found = read["neighbors"][row]
        expected = np.sort(distances[row])[:6]
        assert found["ids"][0] == row
        np.testing.assert_allclose(found["distances"], expected, atol=1e-4)
        np.testing.assert_allclose(distances[row][list(found["ids"])], expected, atol=1e-4)
    pyarrow = pytest.importorskip("pyarrow")
    schema = pyarrow.parquet.read_schema(path)
    assert schema.field("projection_x").type == pyarrow.float64()
    lists = {"ids": pyarrow.list_(pyarrow.int64()), "distances": pyarrow.list_(pyarrow.float64())}
    for name, kind in lists.items():
        assert schema.field("neighbors").type.field(name).type == kind


@pytest.mark.slow
@pytest.mark.integration("embedding_atlas")
def test_embedding_atlas_itself_takes_the_columns(tmp_path: Path) -> None:
    model = make(n_epochs=3).fit(X[:300])
    path = embedding_atlas.write_parquet(tmp_path / "map.parquet", model, {"label": Y[:300]})
    columns = ["--x", "projection_x", "--y", "projection_y", "--neighbors", "neighbors"]
    program = [sys.executable, "-m", "embedding_atlas.cli", str(path), *columns]
    site = tmp_path / "site"
    done = subprocess.run(
        [*program, "--export-application", str(site)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads((site / "data" / "metadata.json").read_text("utf-8"))["props"]["data"]
    assert shown["projection"] == {"x": "projection_x", "y": "projection_y"}
    assert shown["neighbors"] == "neighbors"
    kept = pd.read_parquet(site / "data" / "dataset.parquet")
    assert kept["label"].tolist() == Y[:300].tolist()
    positions = kept[["projection_x", "projection_y"]].to_numpy()
    np.testing.assert_array_equal(positions.astype(np.float32), model.embedding_)
    assert kept["neighbors"][57]["ids"][0] == 57


def test_embedding_atlas_gets_new_rows_and_three_components() -> None:
    model = make(n_epochs=1, n_components=3).fit(X[:200])
    made = embedding_atlas.columns(model, X[200:230])
    assert list(made) == ["projection_x", "projection_y", "projection_z"]
    expected = model.transform(X[200:230])[:, 2]
    np.testing.assert_array_equal(np.array(made["projection_z"], np.float32), expected)
    assert list(embedding_atlas.columns(model, names=("a", "b", "c"), neighbors=None)) == [*"abc"]


def test_columns_that_do_not_fit_say_so(tmp_path: Path) -> None:
    model = make(n_epochs=1).fit(X[:100])
    with pytest.raises(ValueError, match="names must hold one name per component, got 1 for 2"):
        embedding_atlas.columns(model, names=("x",))
    with pytest.raises(ValueError, match="one row per row of the map, got 5 for 100"):
        embedding_atlas.write_parquet(tmp_path / "a.parquet", model, {"label": [1] * 5})
    with pytest.raises(ValueError, match=r"columns of the map, got \['neighbors'\]"):
        embedding_atlas.write_parquet(tmp_path / "a.parquet", model, {"neighbors": [1] * 100})
    model.save(tmp_path / "model.neumap")
    loaded = load_ParametricUMAP(tmp_path / "model.neumap")
    (tmp_path / "model.neumap").unlink()
    with pytest.raises(ValueError, match="neighbors must be None for a model without its training"):
        embedding_atlas.columns(loaded)
    assert len(embedding_atlas.columns(loaded, neighbors=None)) == 2
    with pytest.raises(ValueError, match="X must be given for a model without the positions"):
        embedding_atlas.columns(integration.without_rows(model))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ BERTopic

WORDS = {
    "space": "orbit rocket moon planet star launch astronaut comet",
    "kitchen": "flour oven butter recipe sugar dough bake whisk",
    "sport": "goal match team referee score player league stadium",
}


def documents(n_each: int, seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return texts of three topics, vectors for them, and the topics."""
    generator = np.random.default_rng(seed)
    topics = np.repeat(np.arange(3), n_each)
    words = [list(text.split()) for text in WORDS.values()]
    texts = [" ".join(generator.choice(words[topic], 6)) for topic in topics]
    centres = np.random.default_rng(99).normal(size=(3, 24)) * 3
    vectors = centres[topics] + generator.normal(size=(len(topics), 24))
    return texts, vectors.astype(np.float32), topics


@pytest.mark.slow
@pytest.mark.integration("bertopic")
def test_bertopic_reduces_places_and_grows_with_a_model(package: Any) -> None:
    texts, vectors, topics = documents(60, 0)
    reducer = make(n_components=5, metric="cosine", n_epochs=20)
    model = package.BERTopic(
        umap_model=reducer,
        hdbscan_model=MiniBatchKMeans(3, random_state=0, n_init=3),
        embedding_model=None,
    )
    found, _ = model.fit_transform(texts, vectors)
    assert adjusted_rand_score(topics, found) == 1.0
    more_texts, more_vectors, more_topics = documents(10, 1)
    placed, _ = model.transform(more_texts, more_vectors)
    assert adjusted_rand_score(more_topics, placed) == 1.0
    one, _ = model.transform(more_texts[:1], more_vectors[:1])
    assert one[0] == placed[0]
    again = pickle.loads(pickle.dumps(model))
    assert list(again.transform(more_texts, more_vectors)[0]) == list(placed)


@pytest.mark.slow
@pytest.mark.integration("bertopic")
def test_bertopics_partial_fit_has_bounded_memory(package: Any) -> None:
    online = importlib.import_module("bertopic.vectorizers")
    texts, vectors, topics = documents(100, 0)
    order = np.random.default_rng(0).permutation(300)
    first = order[:100]
    reducer = make(n_components=5, n_epochs=20).partial_fit(vectors[first], max_rows=50)
    model = package.BERTopic(
        umap_model=reducer,
        hdbscan_model=MiniBatchKMeans(3, random_state=0, n_init=3),
        vectorizer_model=online.OnlineCountVectorizer(),
        embedding_model=None,
    )
    for start in (100, 200):
        batch = order[start : start + 100]
        model.partial_fit([texts[at] for at in batch], vectors[batch])
        assert model.umap_model.embedding_.shape == (150, 5)
        assert adjusted_rand_score(topics[batch], model.topics_) > 0.9
    assert model.umap_model.report_["partial_fit"] == {
        "n_seen": 300,
        "n_added": 100,
        "max_rows": 50,
    }


# ------------------------------------------------------------------ clusters and labelled pictures


@pytest.fixture(scope="module")
def for_clusters() -> ParametricUMAP:
    return make(min_dist=0.0).fit(X[:1200])


def test_clusters_are_found_on_a_map(for_clusters: ParametricUMAP) -> None:
    labels = HDBSCAN(min_cluster_size=40, copy=True).fit_predict(for_clusters.embedding_)
    known = labels >= 0
    assert adjusted_rand_score(Y[:1200][known], labels[known]) > 0.8


@pytest.mark.integration("hdbscan")
def test_new_rows_join_the_clusters_of_hdbscan(for_clusters: ParametricUMAP, package: Any) -> None:
    fitted = package.HDBSCAN(min_cluster_size=40, prediction_data=True)
    fitted.fit(for_clusters.embedding_)
    joined, _ = package.approximate_predict(fitted, for_clusters.transform(X[1200:1500]))
    assert adjusted_rand_score(Y[1200:1500][joined >= 0], joined[joined >= 0]) > 0.7


@pytest.mark.slow
@pytest.mark.integration("datamapplot")
def test_datamapplot_draws_positions_as_they_are(package: Any) -> None:
    model = make(n_epochs=20).fit(X[:300])
    names = np.array([f"digit {y}" for y in Y[:300]])
    page = package.create_interactive_plot(model.embedding_, names, inline_data=True)
    packed = re.findall(r"H4sI[A-Za-z0-9+/=]{100,}", str(page))  # the data, gzip in base64
    data = b"".join(gzip.decompress(base64.b64decode(part)) for part in packed)
    assert all(f"digit {digit}".encode() in data for digit in range(10))


# ------------------------------------------------------------------ scikit-learn's callbacks


class Seen:
    """A callback that scikit-learn hands on to the steps of a pipeline."""

    max_propagation_depth = None

    def __init__(self) -> None:
        self.fitted: list[str] = []

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        self.fitted.append(type(estimator).__name__)


@pytest.mark.integration("sklearn.callback")
def test_a_pipeline_with_scikit_learns_callbacks_trains_the_map() -> None:
    seen = Seen()
    steps = make_pipeline(StandardScaler(), make(n_epochs=1), LogisticRegression())
    with pytest.warns(UserWarning, match="ParametricUMAP does not support callbacks"):
        steps.set_callbacks(seen).fit(X[:100], Y[:100])
    assert {"StandardScaler", "LogisticRegression", "Pipeline"} <= set(seen.fitted)
    assert "ParametricUMAP" not in seen.fitted
    expected = make(n_epochs=1).fit(StandardScaler().fit_transform(X[:100]), Y[:100])
    np.testing.assert_array_equal(steps[1].embedding_, expected.embedding_)


# ------------------------------------------------------------------ the page


def test_examples_of_the_page_run(run_page: Callable[[str], int]) -> None:
    assert run_page("integrations.md") > 0
