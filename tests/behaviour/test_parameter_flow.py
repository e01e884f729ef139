"""Every constructor parameter acts: it changes what reaches its room or the result, or raises.

``FLOWS`` holds, for each parameter, another value than the default, what to look at and why it
must differ. A parameter that is missing from the table fails the test of completeness.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neumap.estimators.task as task_room
from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Callback
from neumap.estimators import PRESETS
from neumap.neighbors import DescentBackend, NeighborSearch, find_neighbors

N_ROWS = 60
GENERATOR = np.random.default_rng(11)
CENTRES = GENERATOR.normal(scale=3.0, size=(3, 6))
X = (CENTRES[np.arange(N_ROWS) % 3] + GENERATOR.normal(size=(N_ROWS, 6))).astype(np.float32)
DUPLICATES = np.concatenate([X[:40], X[:20]])
MANY = GENERATOR.normal(size=(600, 6)).astype(np.float32)  # more rows than are sampled to repel
CLASSES = np.arange(N_ROWS) // 20  # across the clusters, so that edges join unlike rows
VALUES = X[:, :2] + GENERATOR.normal(size=(N_ROWS, 2)).astype(np.float32)
LANDMARKS = np.full((N_ROWS, 2), np.nan, dtype=np.float32)
LANDMARKS[:20] = GENERATOR.normal(scale=5.0, size=(20, 2))

QUICK: dict[type, dict[str, Any]] = {
    UMAP: {"n_neighbors": 5, "n_epochs": 5, "random_state": 0},
    ParametricUMAP: {"n_neighbors": 5, "n_epochs": 3, "random_state": 0, "preset": "fast"},
}


class Stop(Callback):
    """Ends the training after one epoch."""

    def on_epoch_end(self, run: Any) -> None:
        run.stop_training = True


@dataclass
class Seen:
    """What one fit, and the placing of new rows, let us see."""

    model: Any
    result: Any
    data: Any
    calls: dict[str, Any] = field(default_factory=dict)
    stderr: str = ""


Look = Callable[[Seen], Any]


def positions(seen: Seen) -> Any:
    return seen.result


def graph(seen: Seen) -> Any:
    return seen.model.graph_.toarray()


def placed(seen: Seen) -> Any:
    return seen.model.transform(seen.data + np.float32(0.1))


def attribute(name: str) -> Look:
    return lambda seen: hasattr(seen.model, name)


def history_length(seen: Seen) -> Any:
    return len(seen.model.history_["loss"])


def n_steps(seen: Seen) -> Any:
    return seen.model.report_["n_steps"]


def search(name: str) -> Look:
    return lambda seen: seen.calls["search"][name]


@dataclass(frozen=True)
class Flow:
    """One parameter: a changed value, and where the change shows."""

    changed: Any
    why: str
    look: Look = positions
    base: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    y: Any = None
    raises: str | None = None
    fit: dict[str, Any] = field(default_factory=dict)


GUIDE = ParametricUMAP(**QUICK[ParametricUMAP]).fit(X)
KNN = find_neighbors(X, 5, metric="manhattan")
DENSE = {"densmap": True}
VECTORS = pd.DataFrame({"one": list(X), "other": list(X[:, ::-1] ** 2)})
NUMBERS = {"target_metric": "euclidean"}

SHARED: dict[str, Flow] = {
    "n_neighbors": Flow(8, "more neighbours, more edges", graph),
    "n_components": Flow(3, "width of the map", lambda seen: seen.result.shape),
    "metric": Flow("manhattan", "other distances", graph),
    "metric_kwds": Flow({"p": 1}, "other power", graph, {"metric": "minkowski"}),
    "output_metric": Flow(
        "manhattan", "forces are Euclidean", raises="output_metric must be 'euclidean'"
    ),
    "output_metric_kwds": Flow({"p": 1}, "forces are Euclidean", raises="output_metric_kwds"),
    "n_epochs": Flow(9, "draws of each edge set the steps", n_steps),
    "learning_rate": Flow(0.5, "factor of every step size"),
    "min_dist": Flow(0.5, "a and b of the similarity"),
    "spread": Flow(2.0, "a and b of the similarity"),
    "low_memory": Flow(
        False, "a setting of nearest-neighbour descent", lambda s: s.calls["backend"].low_memory
    ),
    "n_jobs": Flow(1, "threads of the search", search("n_jobs")),
    "set_op_mix_ratio": Flow(0.3, "between union and intersection", graph),
    "local_connectivity": Flow(2.0, "neighbours at full strength", graph),
    "repulsion_strength": Flow(3.0, "weight of repulsion"),
    "negative_sample_rate": Flow(10, "weight of repulsion"),
    "transform_queue_size": Flow(
        9.0,
        "candidates of the approximate search",
        lambda seen: seen.calls["search"]["backend"].ef_search,
        {"force_approximation_algorithm": True},
    ),
    "a": Flow(3.0, "the similarity itself", base={"a": 1.0, "b": 1.0}),
    "b": Flow(0.7, "the similarity itself", base={"a": 1.0, "b": 1.0}),
    "random_state": Flow(1, "edges, starts and weights are drawn"),
    "angular_rp_forest": Flow(
        True, "a setting of nearest-neighbour descent", lambda s: s.calls["backend"].angular
    ),
    "target_n_neighbors": Flow(3, "graph of the targets", graph, NUMBERS, y=VALUES),
    "target_metric": Flow("euclidean", "labels or numbers", graph, y=CLASSES),
    "target_metric_kwds": Flow({"p": 1}, "power", graph, {"target_metric": "minkowski"}, y=VALUES),
    "target_weight": Flow(0.9, "strength of the labels", graph, y=CLASSES),
    "transform_mode": Flow("graph", "what is returned", lambda seen: type(seen.result)),
    "force_approximation_algorithm": Flow(
        True, "another search", lambda seen: seen.model.report_["neighbors"]
    ),
    "verbose": Flow(True, "a progress bar", lambda seen: bool(seen.stderr)),
    "tqdm_kwds": Flow(
        {"desc": "learning"},
        "text of the bar",
        lambda seen: "learning" in seen.stderr,
        {"verbose": True},
    ),
    "unique": Flow(
        True,
        "one place for equal rows",
        lambda s: s.model._model().positions.shape,
        data=DUPLICATES,
    ),
    "densmap": Flow(True, "a term for local radii"),
    "dens_lambda": Flow(9.0, "weight of the term", base=DENSE),
    "dens_frac": Flow(0.9, "share of the training with the term", base=DENSE),
    "dens_var_shift": Flow(5.0, "denominator of the correlation", base=DENSE),
    "output_dens": Flow(True, "radii are returned too", lambda seen: type(seen.result)),
    "disconnection_distance": Flow(3.0, "longer edges are cut", graph),
    "precomputed_knn": Flow((KNN.indices, KNN.distances), "neighbours are taken", graph),
    "batch_size": Flow(20, "edges per step", n_steps),
    "n_training_epochs": Flow(2, "times the steps", n_steps),
    "loss_report_frequency": Flow(2, "reports per training epoch", history_length),
    "optimizer": Flow("sgd", "another rule of descent"),
    "callbacks": Flow([Stop()], "may stop the training", history_length),
    "max_time": Flow(1e-9, "seconds of training", n_steps),
    "column": Flow("other", "the vectors that are read", base={"column": "one"}, data=VECTORS),
    "device": Flow("cpu", "where arithmetic runs", lambda seen: seen.calls["device"]),
}

FREE = {"parametric_embedding": False}
DECODER = {"parametric_reconstruction": True}
RECONSTRUCTION = "reconstruction_loss"

FLOWS: dict[type, dict[str, Flow]] = {
    UMAP: {
        **SHARED,
        "init": Flow("random", "where positions start"),
        "transform_seed": Flow(1, "the sample of rows that repel new ones", placed, data=MANY),
    },
    ParametricUMAP: {
        **SHARED,
        "init": Flow("random", "where positions start", base=FREE),
        "transform_seed": Flow(1, "the sample of rows that repel", placed, FREE, data=MANY),
        "dims": Flow((2, 3), "shape the network sees", lambda seen: seen.model.row_shape_),
        "encoder": Flow(torch.nn.Linear(6, 2), "the network", lambda s: type(s.model.encoder_)),
        "decoder": Flow(
            torch.nn.Linear(2, 6), "the network", lambda s: type(s.model.decoder_), DECODER
        ),
        "parametric_embedding": Flow(False, "no network", attribute("encoder_")),
        "parametric_reconstruction": Flow(True, "a decoder", attribute("decoder_")),
        "parametric_reconstruction_loss_fcn": Flow(
            "mae", "another loss", lambda seen: seen.model.history_[RECONSTRUCTION], DECODER
        ),
        "parametric_reconstruction_loss_weight": Flow(
            7.0, "weight of the loss", lambda seen: seen.model.history_["loss"][0], DECODER
        ),
        "autoencoder_loss": Flow(True, "the encoder feels the decoder", base=DECODER),
        "reconstruction_validation": Flow(
            X[:9], "a loss of held-out rows", lambda seen: list(seen.model.history_), DECODER
        ),
        "reconstruction_rows": Flow(
            8, "rows decoded", lambda seen: seen.model.report_["reconstruction_rows"], DECODER
        ),
        "guide": Flow(GUIDE, "positions to learn from", lambda seen: list(seen.model.history_)),
        "n_anchors": Flow(20, "rows whose edges there are", graph),
        "global_correlation_loss_weight": Flow(5.0, "a term for far distances"),
        "landmark_loss_fn": Flow(
            lambda target, placed: (target - placed).abs().mean(),
            "another loss",
            fit={"landmark_positions": LANDMARKS},
        ),
        "landmark_loss_weight": Flow(
            50.0, "weight of the loss", fit={"landmark_positions": LANDMARKS}
        ),
        "classifier_loss_weight": Flow(5.0, "a term for labels", y=CLASSES),
        "keras_fit_kwargs": Flow({"callbacks": [Stop()]}, "may stop the training", history_length),
        "preset": Flow("default", "width of the network", lambda s: s.model.encoder_.hidden),
    },
}

CASES = [(kind, name) for kind, flows in FLOWS.items() for name in flows]


def observe(
    kind: type[UMAP],
    flow: Flow,
    parameters: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Seen:
    """Fit once, with an eye on what the search and the device resolver are asked for."""
    calls: dict[str, Any] = {}

    find = NeighborSearch.find

    def watched_search(self: NeighborSearch, *args: Any, **kwargs: Any) -> Any:
        calls["search"] = {**vars(self), **kwargs}
        calls["backend"] = DescentBackend()  # what "auto" would be without the settings
        if isinstance(self.backend, DescentBackend):
            calls["backend"] = self.backend  # seen, not run: its compilation takes half a minute
            return find(replace(self, backend="auto"), *args, **kwargs)
        return find(self, *args, **kwargs)

    resolve_device = task_room.resolve_device

    def watched_device(device: Any) -> torch.device:
        calls["device"] = device
        return resolve_device(device)

    monkeypatch.setattr(NeighborSearch, "find", watched_search)
    monkeypatch.setattr(task_room, "resolve_device", watched_device)
    data = X if flow.data is None else flow.data
    model = kind(**{**QUICK[kind], **flow.base, **parameters})
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that lose all neighbours are part of the game
        result = model.fit_transform(data, flow.y, **flow.fit)
    return Seen(model, result, data, calls, capfd.readouterr().err)


BEFORE: dict[Any, Seen] = {}


def before(kind: type[UMAP], flow: Flow, *patches: Any) -> Seen:
    """Return the fit without the change, one for all parameters that start from the same."""
    landmarks = flow.fit.get("landmark_positions")
    key = (kind, repr(flow.base), *map(id, (flow.data, flow.y, landmarks)))
    if key not in BEFORE:
        BEFORE[key] = observe(kind, flow, {}, *patches)
    return BEFORE[key]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def documented_parameters(kind: type[UMAP]) -> list[str]:
    """Return the names in the section "Parameters" of a class's docstring."""
    section = inspect.getdoc(kind).split("Parameters\n----------\n")[1].split("\nAttributes\n")[0]
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip() for head in heads for name in head.split(" : ")[0].split(",")]


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_the_docstring_holds_every_parameter(kind: type[UMAP]) -> None:
    assert sorted(documented_parameters(kind)) == sorted(inspect.signature(kind).parameters)


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_the_table_holds_every_parameter(kind: type[UMAP]) -> None:
    assert set(FLOWS[kind]) == set(inspect.signature(kind).parameters)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_parameter_acts(
    kind: type[UMAP],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    flow = FLOWS[kind][name]
    if flow.raises is not None:
        with pytest.raises(ValueError, match=flow.raises):
            observe(kind, flow, {name: flow.changed}, monkeypatch, capfd)
        return
    without = flow.look(before(kind, flow, monkeypatch, capfd))
    after = flow.look(observe(kind, flow, {name: flow.changed}, monkeypatch, capfd))
    assert not same(without, after), f"{name} changed nothing, though: {flow.why}"


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize("look", [positions, graph, placed, n_steps, history_length])
def test_what_is_looked_at_repeats(
    kind: type[UMAP], look: Look, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    flow = Flow(None, "nothing is changed", look)
    first, second = (look(observe(kind, flow, {}, monkeypatch, capfd)) for _ in range(2))
    assert same(first, second)


def test_start_of_an_encoder_cannot_be_chosen_by_init() -> None:
    with pytest.raises(ValueError, match="init must be 'auto' for an encoder"):
        ParametricUMAP(**QUICK[ParametricUMAP], init="spectral").fit(X)


@pytest.mark.parametrize(
    ("parameters", "switch"),
    [
        ({"decoder": torch.nn.Linear(2, 6)}, "parametric_reconstruction"),
        ({"parametric_reconstruction_loss_fcn": "mae"}, "parametric_reconstruction"),
        ({"autoencoder_loss": True}, "parametric_reconstruction"),
        ({"reconstruction_rows": 9}, "parametric_reconstruction"),
        ({"guide": GUIDE, **FREE}, "parametric_embedding"),
        ({"encoder": torch.nn.Linear(6, 2), **FREE}, "parametric_embedding"),
    ],
)
def test_a_parameter_behind_a_switch_warns(parameters: dict[str, Any], switch: str) -> None:
    model = ParametricUMAP(**QUICK[ParametricUMAP], **parameters)
    with pytest.warns(UserWarning, match=f"has no effect while {switch}=False"):
        model.fit(X)


def test_validation_without_a_decoder_is_refused() -> None:
    model = ParametricUMAP(**QUICK[ParametricUMAP], reconstruction_validation=X)
    with pytest.raises(ValueError, match="parametric_reconstruction=True"):
        model.fit(X)


def test_half_a_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="a and b describe one curve together"):
        UMAP(**QUICK[UMAP], a=1.5).fit(X)


def test_other_metrics_are_searched_approximately_by_descent() -> None:
    settings = UMAP(metric="manhattan", force_approximation_algorithm=True)._recipe().graph
    assert settings.search(X, torch.device("cpu")).backend == "pynndescent"


PAGE = Path(__file__).parents[2] / "docs" / "from_umap_learn.md"
NOT_ACCEPTED = {"run_eagerly"}  # listed with the reason
# Tests of a parameter of the page in addition to `test_parameter_acts`, which covers each.
FURTHER_TESTS = {
    "metric": "test_umap_behaviour.py::test_metrics_of_rows",
    "init": "test_parameter_flow.py::test_start_of_an_encoder_cannot_be_chosen_by_init",
    "random_state": "test_estimators_contract.py::test_global_random_state_is_left_alone",
    "target_metric": "test_umap_behaviour.py::test_other_targets",
    "transform_mode": "test_umap_behaviour.py::test_graph_instead_of_positions",
    "verbose": (
        "test_estimators_contract.py::test_verbose_speaks_on_stderr_only_and_changes_nothing"
    ),
    "unique": "test_umap_behaviour.py::test_unique_gives_equal_rows_one_place",
    "densmap": "test_umap_behaviour.py::test_density",
    "disconnection_distance": "test_umap_behaviour.py::test_isolated_rows_have_no_place",
    "precomputed_knn": "test_umap_behaviour.py::test_precomputed_neighbours_give_the_same_graph",
    "batch_size": "test_page_blocks.py::test_batch_size_sets_the_edges_of_a_step",
    "dims": "test_page_blocks.py::test_own_network",
    "encoder": "test_estimators_contract.py::test_networks_of_the_user_are_left_alone",
    "decoder": "test_parameter_flow.py::test_a_parameter_behind_a_switch_warns",
    "parametric_reconstruction": "test_page_blocks.py::test_reconstruction",
    "autoencoder_loss": (
        "test_page_blocks.py::test_autoencoder_loss_decides_whether_the_encoder_feels_the_decoder"
    ),
    "reconstruction_validation": (
        "test_page_blocks.py::test_validation_loss_is_the_loss_of_the_decoded_rows"
    ),
    "global_correlation_loss_weight": "test_page_blocks.py::test_global_correlation_loss",
    "landmark_loss_fn": "test_page_blocks.py::test_landmark_loss_fn",
    "landmark_loss_weight": "test_page_blocks.py::test_landmark_loss_weight_is_a_trade",
    "keras_fit_kwargs": "test_page_blocks.py::test_early_stopping",
    "optimizer": "test_page_blocks.py::test_optimizer",
    "parametric_embedding": "test_page_blocks.py::test_non_parametric_embedding",
    "run_eagerly": "test_page_blocks.py::test_what_does_not_exist_is_refused",
    "classifier_loss_weight": (
        "test_estimators_contract.py::test_predict_exists_only_with_a_classifier"
    ),
}


def rows_of_the_page(*headings: str) -> list[list[str]]:
    """Return the cells of the tables below these headings."""
    sections = {part.splitlines()[0]: part for part in PAGE.read_text().split("\n## ")[1:]}
    lines = [line for heading in headings for line in sections[heading].splitlines()]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| `" in line
    ]


PARAMETER_TABLES = (
    "The parameters of `umap.UMAP`",
    "The parameters of `umap.parametric_umap.ParametricUMAP`",
    "Documented there and removed since, here again",
    "New here",
)


def test_the_page_names_exactly_the_parameters() -> None:
    named = [cells[0].strip("`") for cells in rows_of_the_page(*PARAMETER_TABLES)]
    assert len(named) == len(set(named))
    assert set(named) - NOT_ACCEPTED == set(inspect.signature(ParametricUMAP).parameters)
    assert len(rows_of_the_page(PARAMETER_TABLES[0])) == 39


@pytest.mark.reference
def test_the_page_names_every_parameter_of_umap_learn() -> None:
    reference = pytest.importorskip("umap")
    named = {cells[0].strip("`") for cells in rows_of_the_page(PARAMETER_TABLES[0])}
    assert named == set(inspect.signature(reference.UMAP).parameters)


def test_every_row_of_the_page_has_its_tests() -> None:
    named = {cells[0].strip("`") for cells in rows_of_the_page(*PARAMETER_TABLES)}
    acting = {name for flows in FLOWS.values() for name in flows}
    assert named - acting == NOT_ACCEPTED
    assert named >= FURTHER_TESTS.keys() >= NOT_ACCEPTED
    for test in FURTHER_TESTS.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (Path(__file__).parent / file).read_text(), test


def test_the_page_states_the_budget_as_it_is() -> None:
    steps = PRESETS["default"].n_steps
    assert f"{steps:,} up to 10,000 rows" in PAGE.read_text()
    model = ParametricUMAP(n_neighbors=5, preset="fast").fit(X)
    assert model.report_["n_steps"] == PRESETS["fast"].steps(N_ROWS)
    model = ParametricUMAP(**QUICK[ParametricUMAP], batch_size=20).fit(X)
    assert model.report_["n_steps"] == np.ceil(3 * model.graph_.sum() / 20)
    assert UMAP(**QUICK[UMAP], n_training_epochs=3).fit(X).report_["n_steps"] == 15
