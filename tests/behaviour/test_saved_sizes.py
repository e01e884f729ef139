"""Three sizes of a saved model: what each holds and can do, and what it says it cannot do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import neumap
from neumap import UMAP, ParametricUMAP, load, plots
from neumap.archive import read_archive
from neumap.cli import main

Keep = Any


def rows(n_rows: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_rows, 5)).astype(np.float32)


def fitted(n_rows: int = 40, **settings: Any) -> ParametricUMAP:
    settings = {"preset": "fast", "n_epochs": 1, "n_neighbors": 5, "random_state": 0, **settings}
    return ParametricUMAP(**settings).fit(rows(n_rows))


@pytest.fixture(scope="module")
def model() -> ParametricUMAP:
    return fitted(parametric_reconstruction=True).add_landmarks(rows(), 0.2)


def saved(model: UMAP, folder: Path, keep: Keep) -> Any:
    return load(model.save(folder / f"{keep}.neumap", keep=keep))


@pytest.mark.parametrize("keep", ["network", "map", "data"])
def test_every_size_places_and_decodes_as_the_model(
    keep: Keep, model: ParametricUMAP, tmp_path: Path
) -> None:
    again = saved(model, tmp_path, keep)
    new = rows(7, seed=1)
    placed = model.transform(new)
    np.testing.assert_array_equal(again.transform(new), placed)
    np.testing.assert_array_equal(again.inverse_transform(placed), model.inverse_transform(placed))
    assert again.history_ == model.history_
    assert again.get_params()["n_neighbors"] == 5
    light = neumap.runtime.load(tmp_path / f"{keep}.neumap")
    np.testing.assert_allclose(light.transform(new), placed, atol=1e-5)


def test_the_smallest_file_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def n_bytes(n_rows: int, keep: Keep) -> int:
        distances, indices = NearestNeighbors(n_neighbors=5).fit(rows(n_rows)).kneighbors()
        model = fitted(n_rows, precomputed_knn=(indices, distances))
        with (
            pytest.warns(UserWarning, match="precomputed_knn: it grows")
            if keep == "network"
            else _quiet()
        ):
            return model.save(tmp_path / "m.neumap", keep=keep).stat().st_size

    assert abs(n_bytes(400, "network") - n_bytes(40, "network")) < 2_000
    per_row = (n_bytes(400, "map") - n_bytes(40, "map")) / 360
    assert per_row > 50
    # A row of five float32 numbers.
    assert n_bytes(400, "data") - n_bytes(400, "map") == pytest.approx(400 * 20, abs=2_000)


class _quiet:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_positions_are_in_a_file_once(model: ParametricUMAP, tmp_path: Path) -> None:
    arrays = read_archive(model.save(tmp_path / "m.neumap")).tensors.values()
    equal = [a for a in arrays if np.array_equal(np.asarray(a), model.embedding_)]
    assert len(equal) == 1


def test_the_smallest_file_holds_no_row_of_data(model: ParametricUMAP, tmp_path: Path) -> None:
    tensors = read_archive(model.save(tmp_path / "m.neumap", keep="network")).tensors
    assert {name.partition(".")[0] for name in tensors} <= {"encoder", "decoder", "card"}
    wide = [np.asarray(t) for t in tensors.values() if np.shape(t)[-1:] == (5,)]
    assert not any((array == row).all() for array in wide for row in rows())


REFUSED: list[tuple[str, Any]] = [
    (r"^update needs the training rows .*keep='data'", lambda m: m.update(rows(4))),
    (r"^partial_fit needs the training rows .*keep='data'", lambda m: m.partial_fit(rows(4))),
    (r"^confidence needs the training rows.*keep='data'", lambda m: m.confidence(rows(4))),
    (r"graph_ must be of a model .*keep='map'", lambda m: m.graph_),
    (r"embedding_ must be of a model .*keep='map'", lambda m: m.embedding_),
    (r"Models to combine must be .*keep='map'", lambda m: m + m),
    (r"keep='map'", lambda m: plots.points(m)),
    (r"training rows must be of a model", lambda m: m._n_neighbors),
    (r"must be 'network' or 'map' .* got 'data'", lambda m: m.save("never.neumap", keep="data")),
    (
        r"needs the training rows.*keep='data'",
        lambda m: m.set_params(transform_mode="graph").transform(rows(4)),
    ),
]


@pytest.mark.parametrize(("message", "use"), REFUSED)
def test_a_network_alone_says_how_to_save_it(
    message: str, use: Any, model: ParametricUMAP, tmp_path: Path
) -> None:
    again = saved(model, tmp_path, "network")
    with pytest.raises((ValueError, AttributeError), match=message):
        use(again)


def test_a_network_alone_can_be_fitted_again(model: ParametricUMAP, tmp_path: Path) -> None:
    again = saved(model, tmp_path, "network").fit(rows())
    np.testing.assert_array_equal(
        again.embedding_, fitted(parametric_reconstruction=True).embedding_
    )


def test_a_network_alone_can_be_saved_and_pickled_again(
    model: ParametricUMAP, tmp_path: Path
) -> None:
    small = saved(model, tmp_path, "network")
    for again in (saved(small, tmp_path, None), pickle.loads(pickle.dumps(small))):
        np.testing.assert_array_equal(again.transform(rows()), model.transform(rows()))
        assert not hasattr(again, "graph_")


def test_its_decoder_can_be_exported(model: ParametricUMAP, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    small = saved(model, tmp_path, "network")
    assert small.to_onnx(tmp_path / "d.onnx", part="decoder").exists()


def test_all_data_can_be_updated(model: ParametricUMAP, tmp_path: Path) -> None:
    again = saved(model, tmp_path, "data")
    assert len(again.update(rows(4, seed=2)).embedding_) == 44


def test_the_default_is_the_map_and_rows_where_they_are_needed(
    model: ParametricUMAP, tmp_path: Path
) -> None:
    assert saved(model, tmp_path, None)._model().holds == "map"
    free = UMAP(n_neighbors=5, n_epochs=2).fit(rows())
    assert saved(free, tmp_path, None)._model().holds == "data"
    assert saved(free, tmp_path, "map")._model().holds == "map"


@pytest.mark.parametrize(("keep", "keep_data"), [("map", False), ("data", True)])
def test_keep_data_is_one_of_the_sizes(
    keep: Keep, keep_data: bool, model: ParametricUMAP, tmp_path: Path
) -> None:
    one = model.save(tmp_path / "one.neumap", keep=keep).read_bytes()
    assert model.save(tmp_path / "other.neumap", keep_data=keep_data).read_bytes() == one
    both = model.save(tmp_path / "both.neumap", keep=keep, keep_data=keep_data)
    assert both.read_bytes() == one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "all"}, r"^keep must be one of \['network', 'map', 'data'\], got 'all'"),
        ({"keep": "map", "keep_data": True}, r"^keep must be 'data' with keep_data=True, got 'map"),
        ({"keep": "network", "keep_data": False}, r"^keep must be 'map' with keep_data=False"),
    ],
)
def test_what_cannot_be_kept(
    arguments: dict[str, Any], message: str, model: ParametricUMAP, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "m.neumap", **arguments)
    assert not [*tmp_path.iterdir()]


def test_free_positions_have_no_network_to_keep(tmp_path: Path) -> None:
    free = UMAP(n_neighbors=5, n_epochs=2).fit(rows())
    with pytest.raises(ValueError, match=r"^keep must be 'map' or 'data' for this UMAP, which has"):
        free.save(tmp_path / "m.neumap", keep="network")


def test_the_command_says_what_a_model_holds_and_cannot_do(
    model: ParametricUMAP, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for keep, holds in [
        ("network", "network"),
        ("map", "network, positions and graph"),
        ("data", "network, positions, graph and training rows"),
    ]:
        path = model.save(tmp_path / f"{keep}.neumap", keep=keep)
        assert main(["info", str(path)]) == 0
        told = capsys.readouterr().out
        assert f"holds       {holds}\n" in told
        assert ("plots of the map" in told) == (keep == "network")
        assert ("update, confidence" in told) == (keep != "data")
        assert "fit with parametric_reconstruction" not in told


def test_the_command_says_what_inverse_transform_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = fitted()
    for keep, is_possible in [("network", False), ("map", False), ("data", True)]:
        path = plain.save(tmp_path / f"{keep}.neumap", keep=keep)
        assert main(["info", str(path)]) == 0
        assert ("inverse_transform" not in capsys.readouterr().out) == is_possible
        if is_possible:
            assert load(path).inverse_transform(np.zeros((1, 2))).shape == (1, 5)


def test_the_command_keeps_what_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "rows.npy", rows())
    source, target = str(tmp_path / "rows.npy"), tmp_path / "m.neumap"
    words = ["fit", source, "-o", str(target), "--preset", "fast", "--n-epochs", "1"]
    assert main([*words, "--keep", "network", "--n-neighbors", "5"]) == 0
    assert load(target)._model().holds == "network"
    assert main(["transform", str(target), source, "-o", str(tmp_path / "z.npy")]) == 0
    assert np.load(tmp_path / "z.npy").shape == (40, 2)
    capsys.readouterr()
