"""What the pictures show: positions, colours, words, files. The values come from other routes."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from scipy import sparse
from sklearn.decomposition import PCA

from neumap import UMAP, ParametricUMAP, plots
from neumap.plots import density, frame, local
from neumap.plots.bundling import bundle
from neumap.plots.reading import categories_of
from neumap.plots.themes import DARK_PALETTE, LIGHT_PALETTE


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def square() -> np.ndarray:
    return np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])


class Fitted:
    """Stands for any fitted object."""

    def __init__(self, n: int = 80, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._raw_data = rng.normal(size=(n, 6)).astype(np.float32)
        self.embedding_ = self._raw_data[:, :2] + 0.3 * rng.normal(size=(n, 2)).astype(np.float32)
        upper = sparse.random(n, n, 0.08, rng=rng, format="csr")
        self.graph_ = sparse.csr_array(upper.maximum(upper.T))
        self.n_neighbors, self.min_dist, self.metric = 10, 0.1, "euclidean"
        self._small_data = True


def color_at(ax: Axes, position: np.ndarray) -> str:
    """Colour drawn at a position, whatever the order of drawing; the topmost collection wins."""
    for collection in reversed(ax.collections):
        offsets = np.asarray(collection.get_offsets())
        hit = np.flatnonzero(np.isclose(offsets, position).all(axis=1))
        if hit.size:
            return to_hex(collection.get_facecolors()[hit[0]])
    raise AssertionError(f"nothing is drawn at {position}")


def legend_texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# points


def test_points_draws_each_row_in_the_colour_of_its_label(square: np.ndarray) -> None:
    key = {"cat": "#ff0000", "dog": "#0000ff"}
    ax = plots.points(square, labels=["cat", "dog", "dog", "cat"], color_key=key)
    assert [color_at(ax, row) for row in square] == ["#ff0000", "#0000ff", "#0000ff", "#ff0000"]
    handles = ax.get_legend().legend_handles
    assert [to_hex(handle.get_color()) for handle in handles] == ["#ff0000", "#0000ff"]


def test_points_takes_a_fitted_object_and_says_how_it_was_made() -> None:
    fitted = Fitted()
    ax = plots.points(fitted)
    drawn = np.asarray(ax.collections[0].get_offsets())
    assert np.array_equal(
        np.sort(drawn, axis=0), np.sort(fitted.embedding_.astype(np.float64), axis=0)
    )
    assert ax.texts[0].get_text() == "UMAP: n_neighbors=10, min_dist=0.1"
    fitted.metric = "cosine"
    assert "metric=cosine" in plots.points(fitted).texts[0].get_text()


def test_points_has_equal_scales_and_no_clutter(square: np.ndarray) -> None:
    ax = plots.points(square)
    assert ax.get_aspect() == 1
    assert ax.get_adjustable() == "datalim"  # the box stays as large as the caller made it
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    assert not any(spine.get_visible() for spine in ax.spines.values())
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, -1, 0],
        [0.0, 1.0, np.nan, 0.0],
        [0.0, 1.0, -1.0, 0.0],
        [0, 1, None, 0],
        pd.Series([0, 1, pd.NA, 0], dtype="Int64"),
        pd.Categorical([0, 1, None, 0]),
    ],
)
def test_missing_labels_are_grey_below_and_named(square: np.ndarray, labels: object) -> None:
    ax = plots.points(square, labels=labels)
    assert color_at(ax, square[2]) == "#b4b8bf"
    assert np.array_equal(np.asarray(ax.collections[0].get_offsets()), square[2:3])
    assert legend_texts(ax) == ["0", "1", "no label"]


def test_labels_are_sorted_as_people_count() -> None:
    assert categories_of(["c10", "c9", "c1"], 3).names == ("c1", "c9", "c10")
    assert categories_of([10, 9, 2], 3).names == (2, 9, 10)
    assert categories_of(["b", 2, "a"], 3).names == ("2", "a", "b")
    declared = pd.Categorical(["low", "high"], categories=["low", "mid", "high"])
    assert categories_of(declared, 2).names == ("low", "high")
    assert categories_of(pd.Series(declared, name="level"), 2).title == "level"


def test_values_follow_the_ramp_and_nan_is_grey(square: np.ndarray) -> None:
    ax = plots.points(square, values=[0.0, 5.0, 10.0, np.nan], cmap="magma")
    ramp = mpl.colormaps["magma"]
    drawn = [color_at(ax, row) for row in square]
    assert drawn == [to_hex(ramp(0.0)), to_hex(ramp(0.5)), to_hex(ramp(1.0)), "#b4b8bf"]
    bar = ax.get_figure().axes[1]
    assert bar.get_ylim() == (0.0, 10.0)


def test_title_of_colour_bar_and_legend_is_the_name_of_the_column(square: np.ndarray) -> None:
    ax = plots.points(square, values=pd.Series([1.0, 2, 3, 4], name="depth"))
    assert ax.get_figure().axes[1].get_ylabel() == "depth"
    ax = plots.points(square, labels=pd.Series(list("aabb"), name="tissue"))
    assert ax.get_legend().get_title().get_text() == "tissue"


def test_subset_points_takes_a_mask_or_indices_with_labels_at_full_length(
    square: np.ndarray,
) -> None:
    key = {"a": "#ff0000", "b": "#00ff00"}
    for subset in (np.array([False, True, False, True]), [1, 3]):
        ax = plots.points(square, labels=["a", "a", "b", "b"], color_key=key, subset_points=subset)
        drawn = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])
        assert sorted(drawn.tolist()) == [[2.0, 0.0], [2.0, 2.0]]
        assert color_at(ax, square[3]) == "#00ff00"


def test_rows_without_position_are_left_out_and_counted(square: np.ndarray) -> None:
    square[1] = np.nan
    ax = plots.points(square, labels=[0, 1, 2, 3])
    assert sum(len(c.get_offsets()) for c in ax.collections) == 3
    assert ax.texts[0].get_text() == "1 without position, not drawn"
    assert legend_texts(ax) == ["0", "2", "3"]


def test_more_points_are_smaller_and_more_transparent() -> None:
    ax = plots.points(np.zeros((1, 2)))
    sizes, alphas = zip(
        *(frame.point_style(ax, n) for n in (100, 1_000, 10_000, 100_000)), strict=True
    )
    assert list(sizes) == sorted(sizes, reverse=True)
    assert sizes[0] > 10 * sizes[-1]
    assert list(alphas) == sorted(alphas, reverse=True)
    given = plots.points(np.zeros((1, 2)), alpha=0.25, point_size=7).collections[0]
    assert given.get_alpha() == 0.25
    assert given.get_sizes().tolist() == [7]


def test_drawing_order_is_mixed_so_that_no_class_covers_another() -> None:
    labels = np.repeat([0, 1], 500)
    ax = plots.points(np.random.default_rng(0).normal(size=(1000, 2)), labels=labels)
    colors = ax.collections[0].get_facecolors()
    first_half = (colors[:500] == colors[0]).all(axis=1).sum()
    assert 200 < first_half < 300


def test_three_components_give_a_3d_picture() -> None:
    positions = np.random.default_rng(0).normal(size=(30, 3))
    ax = plots.points(positions, labels=np.arange(30) % 3)
    assert ax.name == "3d"
    drawn = np.column_stack(ax.collections[0]._offsets3d)
    assert np.array_equal(np.sort(drawn, axis=0), np.sort(positions, axis=0))
    assert legend_texts(ax) == ["0", "1", "2"]
    ax.get_figure().canvas.draw()


def test_given_axes_are_used_and_a_second_drawing_keeps_the_first_in_view() -> None:
    _, given = plt.subplots()
    assert plots.points(np.zeros((1, 2)), ax=given) is given
    plots.points(np.full((1, 2), 9.0), ax=given, theme="dark")
    given.get_figure().canvas.draw()
    assert given.get_xlim()[0] < 0
    assert given.get_xlim()[1] > 9
    assert to_hex(given.get_facecolor()) == "#0e1116"


def test_dark_background_brings_light_text(square: np.ndarray) -> None:
    ax = plots.points(square, labels=list("aabb"), background="#101010")
    assert to_hex(ax.get_legend().get_texts()[0].get_color()) == "#e6e9ef"
    assert to_hex(ax.get_figure().get_facecolor()) == "#101010"
    light = plots.points(square, labels=list("aabb"))
    assert to_hex(light.get_legend().get_texts()[0].get_color()) == "#2b303b"


@pytest.mark.parametrize("theme", sorted(plots.THEMES))
def test_every_theme_draws_classes_apart_from_its_background(theme: str) -> None:
    rows = np.arange(12.0).reshape(6, 2)
    ax = plots.points(rows, labels=list("abcdef"), theme=theme)
    background = to_hex(ax.get_facecolor())
    drawn = [color_at(ax, row) for row in rows]
    assert len(set(drawn)) == 6
    assert background not in drawn
    ax.get_figure().canvas.draw()


def test_what_is_given_by_hand_wins_over_the_theme(square: np.ndarray) -> None:
    ax = plots.points(square, values=[0, 1, 2, 3], theme="fire", cmap="viridis", background="white")
    assert to_hex(ax.get_facecolor()) == "#ffffff"
    assert color_at(ax, square[3]) == to_hex(mpl.colormaps["viridis"](1.0))


def test_long_legends_are_cut_to_the_most_frequent_classes() -> None:
    labels = np.concatenate([np.repeat(np.arange(39), 3), np.arange(39, 100)])
    ax = plots.points(np.random.default_rng(0).normal(size=(len(labels), 2)), labels=labels)
    texts = legend_texts(ax)
    assert texts == [*map(str, range(39)), "and 61 more"]
    assert ax.get_legend()._ncols == 2


def test_names_on_the_map_stand_on_a_point_of_their_class() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(50, 2)), 20 + rng.normal(size=(50, 2))])
    ax = plots.points(rows, labels=np.repeat(["left", "right"], 50), show_legend="map")
    assert ax.get_legend() is None
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert np.linalg.norm(places["left"]) < 1
    assert np.linalg.norm(np.array(places["right"]) - 20) < 1
    assert any(np.allclose(places["left"], row) for row in rows[:50])


def test_awkward_label_texts_reach_the_legend(square: np.ndarray) -> None:
    ax = plots.points(square, labels=["_hidden", "$5 & $6", "x" * 80, ""])
    ax.get_figure().canvas.draw()  # a broken formula would raise here
    texts = legend_texts(ax)
    assert len(texts) == 4
    assert max(map(len, texts)) <= 33


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [1, 2]}, r"labels must have shape \(4,\).*got \(2,\).*subset_points"),
        ({"values": [1.0, 2.0, 3.0]}, r"values must have shape \(4,\).*got \(3,\)"),
        ({"labels": [1] * 4, "values": [1] * 4}, "labels and values must be None, got both"),
        ({"values": list("abcd")}, "numbers.*as `labels`"),
        ({"alpha": 2}, "between 0 and 1, got 2"),
        ({"theme": "pink"}, "one of light, dark.*got 'pink'"),
        ({"cmap": "no such ramp"}, "name of a colormap, got 'no such ramp'"),
        ({"labels": list("abcd"), "color_key": ["red"]}, "4 colours.*got 1"),
        ({"labels": list("abcd"), "color_key": {"a": "red"}}, "none for .*'b'"),
        ({"subset_points": [True, False]}, "mask.*length 4"),
        ({"subset_points": [9]}, "below 4"),
        ({"subset_points": [0.5]}, "boolean mask or a list of row indices"),
        ({"renderer": "gpu"}, "'markers'.*got 'gpu'"),
    ],
)
def test_points_explains_wrong_arguments(
    square: np.ndarray, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plots.points(square, **arguments)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.zeros((5, 1)), r"have 2 or 3 components, got 1.*\[:, :2\]"),
        (np.zeros((5, 7)), "components, got 7"),
        (np.zeros(5), r"shape \(5,\)"),
        (object(), "fitted object with `embedding_`.*Fit the object first"),
        (np.full((3, 2), np.nan), "At least one row must have finite"),
    ],
)
def test_points_explains_wrong_embeddings(embedding: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plots.points(embedding)


def test_axes_of_the_wrong_kind_are_refused(square: np.ndarray) -> None:
    _, flat = plt.subplots()
    with pytest.raises(ValueError, match="projection='3d'"):
        plots.points(np.zeros((4, 3)), ax=flat)
    with pytest.raises(ValueError, match="ax must be axes for 2 components"):
        plots.points(square, ax=plt.figure().add_subplot(projection="3d"))


def test_continuous_labels_are_sent_to_values() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 2))
    with pytest.raises(ValueError, match="Pass them as `values`"):
        plots.points(rows, labels=rows[:, 0])


def test_nothing_is_shown_and_the_backend_stays(
    square: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("shown"))
    before, settings = mpl.get_backend(), mpl.rcParams.copy()
    plots.points(square, theme="dark")
    plots.loss({"loss": [1.0]})
    assert mpl.get_backend() == before
    assert mpl.rcParams == settings


def test_importing_plots_loads_no_plotting_library() -> None:
    code = (
        "import sys, neumap.plots;"
        "print([m for m in ('matplotlib', 'bokeh', 'datashader', 'pandas', 'torch')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("global_random_state_untouched")
def test_pictures_leave_the_global_random_state() -> None:
    fitted = Fitted()
    plots.points(fitted, labels=np.arange(80) % 4)
    plots.diagnostic(fitted, kind="all", nhood_size=5)


# colours


def oklab(linear: np.ndarray) -> np.ndarray:
    """OKLab of linear sRGB (Ottosson 2020)."""
    lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(lms @ np.clip(linear, 0, 1))


DEFICIENCIES = {  # Machado, Oliveira and Fernandes 2009, severity 1.0
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


@pytest.mark.parametrize("vision", DEFICIENCIES)
@pytest.mark.parametrize("palette", [LIGHT_PALETTE, DARK_PALETTE])
def test_default_palettes_stay_apart_for_colour_blind_eyes(
    palette: tuple[str, ...], vision: str
) -> None:
    def closest(colors: tuple[str, ...]) -> float:
        srgb = np.array([to_rgba(color)[:3] for color in colors])
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        seen = [oklab(DEFICIENCIES[vision] @ color) for color in linear]
        return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))

    tab10 = tuple(mpl.colormaps["tab10"].colors)
    assert closest(palette) > 0.09
    if vision != "normal":
        assert closest(palette) > 3 * closest(tab10)  # matplotlib's own default


def test_thirty_six_classes_get_thirty_six_colours() -> None:
    rows = np.random.default_rng(0).normal(size=(36, 2))
    ax = plots.points(rows, labels=np.arange(36))
    assert len({color_at(ax, row) for row in rows}) == 36


# very many points


@pytest.fixture
def crowd() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(30_000, 2)), rng.normal(loc=[12, 6], size=(30_000, 2))])


def around(ax: Axes, position: tuple[float, float]) -> np.ndarray:
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    data = np.asarray(image.get_array())
    row = int((position[1] - bottom) / (top - bottom) * data.shape[0])
    column = int((position[0] - left) / (right - left) * data.shape[1])
    patch = data[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 4)
    drawn = patch[patch[:, 3] > 0]  # single pixels in a crowd may be empty
    return np.median(drawn, axis=0) if len(drawn) else np.zeros(4)


def test_many_points_become_an_image_in_map_coordinates(crowd: np.ndarray) -> None:
    pytest.importorskip("datashader")
    ax = plots.points(
        crowd, labels=np.repeat(["a", "b"], 30_000), color_key={"a": "#ff0000", "b": "#0000ff"}
    )
    assert not ax.collections
    assert to_hex(around(ax, (0.0, 0.0))[:3] / 255) == "#ff0000"
    assert to_hex(around(ax, (12.0, 6.0))[:3] / 255) == "#0000ff"
    assert around(ax, (12.0, 0.0))[3] == 0  # up is up
    assert legend_texts(ax) == ["a", "b"]


def test_many_points_by_value_and_by_density(crowd: np.ndarray) -> None:
    pytest.importorskip("datashader")
    values = np.repeat([1.0, np.nan], 30_000)
    values[:100] = 0.0
    ax = plots.points(crowd, values=values, cmap="gray")
    grey = around(ax, (12.0, 6.0))
    assert to_hex(grey[:3] / 255) == "#b4b8bf"
    assert around(ax, (0.0, 0.0))[:3].mean() > 200
    plain = plots.points(crowd, cmap="gray_r")
    assert around(plain, (0.0, 0.0))[:3].mean() < around(plain, (2.3, 0.0))[:3].mean()


def test_many_points_without_datashader_are_rasterised_markers(
    crowd: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(density, "has_datashader", lambda: False)
    ax = plots.points(crowd)
    assert len(ax.collections[0].get_offsets()) == len(crowd)
    assert ax.collections[0].get_rasterized()
    assert not ax.images


def test_asking_for_datashader_without_it_names_the_extra(
    square: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datashader", None)
    with pytest.raises(ImportError, match=r"neumap\[large-plot\]"):
        plots.points(square, renderer="datashader")


# graph


def test_connectivity_draws_every_pair_once_between_its_points(square: np.ndarray) -> None:
    graph = sparse.coo_array(([0.2, 0.9, 0.5], ([0, 1, 2], [1, 0, 3])), shape=(4, 4))
    ax = plots.connectivity((square, graph), edge_cmap="gray_r")
    lines = ax.collections[0]
    segments = {tuple(map(tuple, segment)) for segment in lines.get_segments()}
    assert segments == {((0.0, 0.0), (2.0, 0.0)), ((0.0, 2.0), (2.0, 2.0))}
    darkness = 1 - lines.get_colors()[:, 0]
    assert darkness[1] > darkness[0]  # the strong one, .9, is drawn last and darker
    assert np.allclose(lines.get_segments()[1][1], [2.0, 0.0])


def test_connectivity_of_a_fitted_object_with_points() -> None:
    fitted = Fitted()
    ax = plots.connectivity(fitted, labels=np.arange(80) % 2, theme="dark")
    lines, marks = ax.collections
    assert len(lines.get_segments()) == sparse.triu(fitted.graph_, 1).nnz
    assert len(marks.get_offsets()) == 80
    assert lines.get_zorder() < marks.get_zorder()
    assert len(plots.connectivity(fitted).collections) == 1


def test_connectivity_takes_anything_with_to_csr() -> None:
    fitted = Fitted()
    graph = types.SimpleNamespace(to_csr=lambda: fitted.graph_)
    ax = plots.connectivity(fitted.embedding_, graph)
    assert len(ax.collections[0].get_segments()) == sparse.triu(fitted.graph_, 1).nnz


def test_many_edges_become_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datashader")
    monkeypatch.setattr("neumap.plots.edges.MANY_EDGES", 1)
    rows = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    graph = sparse.coo_array(([1.0, 1.0], ([0, 2], [1, 3])), shape=(4, 4))
    ax = plots.connectivity((rows, graph))
    assert not ax.collections
    opacity = np.asarray(ax.images[0].get_array())[..., 3]
    drawn_rows = np.flatnonzero(opacity.any(axis=1)) / opacity.shape[0]
    assert np.ptp(drawn_rows) == pytest.approx(10 / 10.8, abs=0.02)  # two lines, at y = 0 and 10


def test_bundled_edges_keep_their_ends_and_come_together() -> None:
    left = np.stack([np.zeros(9), np.linspace(0, 1, 9)], axis=1)
    ends = np.stack([left, left + np.array([3.0, 0.0])], axis=1)  # nine parallel lines
    chains = bundle(ends, np.ones(9))
    assert np.allclose(chains[:, [0, -1]], ends)
    assert np.ptp(chains[:, 12, 1]) < 0.6 * np.ptp(ends[:, 0, 1])
    ax = plots.connectivity(Fitted(), edge_bundling="hammer")
    assert ax.collections[0].get_segments()[0].shape == (25, 2)


def test_connectivity_explains_wrong_graphs(square: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scipy sparse matrix, got NoneType"):
        plots.connectivity(square)
    with pytest.raises(ValueError, match=r"shape \(4, 4\).*got \(3, 3\)"):
        plots.connectivity((square, sparse.eye_array(3).tocsr()))
    with pytest.raises(ValueError, match="'hammer', got 'glue'"):
        plots.connectivity(Fitted(), edge_bundling="glue")


def test_nearest_neighbour_distribution_averages_each_row() -> None:
    distances = np.array([[0.0, 1.0, 3.0], [0.0, 4.0, 6.0]])
    ax = plots.nearest_neighbour_distribution(types.SimpleNamespace(distances=distances), bins=3)
    heights = [patch.get_height() for patch in ax.patches]
    edges = [ax.patches[0].get_x(), ax.patches[-1].get_x() + ax.patches[-1].get_width()]
    assert heights == [1, 0, 1]
    assert edges == pytest.approx([2.0, 5.0])
    assert ax.get_xlabel() == "Average distance to nearest neighbors"
    assert ax.get_ylabel() == "Frequency"


def test_weights_of_a_fitted_graph_are_not_called_distances() -> None:
    ax = plots.nearest_neighbour_distribution(Fitted())
    assert "membership strength" in ax.get_xlabel()


# loss


def test_loss_has_the_axis_labels_and_every_component() -> None:
    history = {
        "loss": [3.0, 2.0, 1.0],
        "umap_loss": [2.0, 1.5, 0.7],
        "val_loss": [np.nan, 2.5, 1.5],
        "learning_rate": [100.0, 100.0, 100.0],
    }
    ax = plots.loss(history)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Epoch", "Cross Entropy")
    assert legend_texts(ax) == ["total", "UMAP", "validation"]
    total, _, validation = ax.lines
    assert total.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert validation.get_xydata().tolist() == [[2, 2.5], [3, 1.5]]
    assert validation.get_color() is not None
    assert np.allclose(to_rgba(validation.get_color()), to_rgba(total.get_color()))
    assert validation.get_linestyle() == "--"


def test_loss_of_a_fitted_object_on_a_logarithmic_axis() -> None:
    fitted = types.SimpleNamespace(history_={"loss": [10.0, 0.1]})
    ax = plots.loss(fitted, log=True)
    assert ax.get_yscale() == "log"
    assert ax.get_legend() is None
    old = types.SimpleNamespace(_history={"loss": [1.0, 2.0, 3.0]})
    assert len(plots.loss(old).lines[0].get_xdata()) == 3


def test_one_epoch_is_a_visible_dot() -> None:
    assert plots.loss({"loss": [1.0]}).lines[0].get_marker() == "o"


def test_loss_explains_wrong_histories() -> None:
    with pytest.raises(ValueError, match="history_"):
        plots.loss({})
    with pytest.raises(ValueError, match="among loss, got nothing"):
        plots.loss({"loss": [1.0]}, components=["nothing"])
    with pytest.raises(ValueError, match="zero or negative ones in global_correlation_loss"):
        plots.loss({"loss": [1.0], "global_correlation_loss": [-0.5]}, log=True)


# images


def test_reconstruction_shows_pairs_on_one_scale() -> None:
    originals = np.arange(48.0).reshape(3, 16)
    figure = plots.reconstruction(originals, originals / 2, n=2)
    images = [ax.images[0] for ax in figure.axes]
    assert np.array_equal(images[0].get_array(), originals[0].reshape(4, 4))
    assert np.array_equal(images[1].get_array(), originals[0].reshape(4, 4) / 2)
    assert np.array_equal(images[2].get_array(), originals[1].reshape(4, 4))
    assert {image.get_clim() for image in images} == {(0.0, 31.0)}
    figure.canvas.draw()
    above, below = figure.axes[0].get_position(), figure.axes[1].get_position()
    assert above.y0 >= below.y1
    assert above.x0 == pytest.approx(below.x0)


@pytest.mark.parametrize(
    ("shape", "dims", "drawn"),
    [
        ((5, 12), (3, 4), (3, 4)),
        ((5, 12), (3, 4, 1), (3, 4)),
        ((5, 12), (2, 2, 3), (2, 2, 3)),
        ((5, 3, 4, 1), None, (3, 4)),
        ((5, 16), None, (4, 4)),
    ],
)
def test_reconstruction_reads_the_shape_of_images(
    shape: tuple[int, ...], dims: tuple[int, ...] | None, drawn: tuple[int, ...]
) -> None:
    rows = np.random.default_rng(0).random(shape)
    flat = rows.reshape(len(rows), -1)  # a decoder may return flat rows for image-shaped ones
    figure = plots.reconstruction(rows, flat, dims=dims, n=1)
    assert figure.axes[0].images[0].get_array().shape == drawn


def test_reconstruction_explains_wrong_input() -> None:
    rows = np.zeros((4, 12))
    with pytest.raises(ValueError, match=r"dims.*got \(3, 3\)"):
        plots.reconstruction(rows, rows)
    with pytest.raises(ValueError, match=r"got \(4, 12\) and \(3, 12\)"):
        plots.reconstruction(rows, rows[:3], dims=(3, 4))


def test_inverse_grid_decodes_the_middle_of_each_cell_with_points() -> None:
    rows = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])  # the upper right is empty
    asked: list[np.ndarray] = []

    def decode(positions: np.ndarray) -> np.ndarray:
        asked.append(positions)
        return np.repeat(positions[:, :1], 4, axis=1)

    ax = plots.inverse_grid(rows, decode, (2, 2), n=3)
    assert sorted(asked[0].tolist()) == [[0.5, 0.5], [0.5, 2.5], [2.5, 0.5]]
    mosaic = ax.images[0]
    assert np.asarray(mosaic.get_array()).shape == (6, 6, 4)
    assert mosaic.get_extent() == [0.0, 3.0, 0.0, 3.0] or mosaic.get_extent() == (
        0.0,
        3.0,
        0.0,
        3.0,
    )
    ink = np.asarray(mosaic.get_array())[..., 3]
    assert ink[5, 5] == 1  # lower right: the largest decoded value
    assert ink[:3, 3:].max() == 0  # nothing where the map is empty
    plots.inverse_grid(rows, decode, (2, 2), n=3, everywhere=True)
    assert len(asked[1]) == 9


def test_inverse_grid_uses_the_fitted_decoder_and_draws_colour_images() -> None:
    fitted = Fitted()
    fitted.inverse_transform = lambda positions: np.full((len(positions), 2, 2, 3), 0.5)
    ax = plots.inverse_grid(fitted, n=4, labels=np.arange(80) % 2)
    assert legend_texts(ax) == ["0", "1"]
    opacity = np.asarray(ax.images[0].get_array())[..., 3]
    assert set(np.unique(opacity)) <= {0.0, 1.0}
    with pytest.raises(ValueError, match="no inverse_transform"):
        plots.inverse_grid(Fitted().embedding_)
    with pytest.raises(ValueError, match="one per position"):
        plots.inverse_grid(fitted, lambda positions: positions[:1], (1, 2))


# diagnostics


def test_jaccard_by_sets() -> None:
    rng = np.random.default_rng(0)
    left = np.array([rng.permutation(30)[:8] for _ in range(50)])
    right = np.array([rng.permutation(30)[:8] for _ in range(50)])
    direct = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]
    assert np.allclose(local.neighborhood_jaccard(left, right), direct)


def test_local_dimension_equals_pca_of_each_neighbourhood() -> None:
    data = np.random.default_rng(0).normal(size=(60, 5)) * [5, 3, 1, 0.2, 0.1]
    neighbors = local.nearest(data, 12)
    direct = [
        1 + int(np.argmax(np.cumsum(PCA().fit(data[row]).explained_variance_ratio_) > 0.8))
        for row in neighbors
    ]
    assert local.local_dimension(data, neighbors, 0.8).tolist() == direct
    flat = np.zeros((5, 3))
    assert local.local_dimension(flat, np.tile(np.arange(5), (5, 1)), 0.8).tolist() == [0] * 5


def test_a_plane_in_many_dimensions_has_local_dimension_two() -> None:
    rng = np.random.default_rng(0)
    plane = rng.uniform(size=(300, 2)) @ rng.normal(size=(2, 40))
    _, dimension = plots.diagnostic(
        plane[:, :2], plane, kind="local_dim", local_variance_threshold=0.999,
        return_diagnostics=True,
    )  # fmt: skip
    assert set(dimension) == {2}


def test_neighborhood_is_perfect_for_a_copy_and_colours_follow() -> None:
    data = np.random.default_rng(0).normal(size=(100, 2))
    _, kept = plots.diagnostic(data, data, kind="neighborhood", return_diagnostics=True)
    assert (kept == 1).all()
    shuffled = data[np.random.default_rng(1).permutation(100)]
    ax, lost = plots.diagnostic(shuffled, data, kind="neighborhood", return_diagnostics=True)
    assert lost.mean() < 0.3
    best, worst = np.argmax(lost), np.argmin(lost)
    ramp = mpl.colormaps["viridis"]
    assert color_at(ax, shuffled[best]) == to_hex(ramp(1.0))
    assert color_at(ax, shuffled[worst]) == to_hex(ramp(0.0))
    assert ax.get_title() == "Colored by neighborhood Jaccard index"


def test_pca_colours_are_the_components() -> None:
    fitted = Fitted()
    ax, colors = plots.diagnostic(fitted, kind="pca", return_diagnostics=True)
    components = PCA(3).fit_transform(fitted._raw_data)
    for channel in range(3):
        assert abs(np.corrcoef(colors[:, channel], components[:, channel])[0, 1]) > 0.99
    assert colors.min(axis=0).tolist() == [0, 0, 0]  # a weak component gets the full range as well
    assert colors.max(axis=0).tolist() == [1, 1, 1]
    assert color_at(ax, fitted.embedding_[7]) == to_hex(colors[7])


def test_all_draws_five_panels() -> None:
    figure, found = plots.diagnostic(Fitted(), kind="all", return_diagnostics=True)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 5
    assert set(found) == {"pca", "ica", "vq", "local_dim", "neighborhood"}
    assert found["vq"].shape == (80, 3)
    figure.canvas.draw()


def test_known_neighbours_save_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = Fitted()
    known = local.nearest(fitted._raw_data, 20)
    expected = plots.diagnostic(fitted, kind="local_dim", return_diagnostics=True)[1]
    monkeypatch.setattr(local, "nearest", lambda *_: pytest.fail("searched"))
    found = plots.diagnostic(fitted, kind="local_dim", neighbors=known, return_diagnostics=True)[1]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "tsne"}, "pca, ica.*got 'tsne'"),
        ({"X": np.zeros((3, 2))}, r"\(80, n_features\).*got \(3, 2\)"),
        ({"kind": "neighborhood", "nhood_size": 99}, "from 2 to 80 .*got 99"),
        ({"kind": "local_dim", "neighbors": np.zeros((80, 3))}, "at least nhood_size=15"),
    ],
)
def test_diagnostic_explains_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plots.diagnostic(Fitted(), **arguments)


def test_diagnostic_without_data_says_to_pass_them(square: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Pass X"):
        plots.diagnostic(square)


# interactive


def test_interactive_holds_positions_labels_and_tooltips(square: np.ndarray) -> None:
    table = pd.DataFrame({"name": list("wxyz"), "x": [9, 8, 7, 6]})
    plot = plots.interactive(
        square, labels=["b", "a", None, "b"], hover_data=table, color_key={"a": "red", "b": "blue"}
    )
    source = plot.renderers[0].data_source
    assert np.array_equal(np.column_stack([source.data["x"], source.data["y"]]), square)
    assert list(source.data["label"]) == ["b", "a", "no label", "b"]
    assert list(source.data["color"]) == ["#0000ff", "#ff0000", "#b4b8bf", "#0000ff"]
    assert list(source.data["x (data)"]) == [9, 8, 7, 6]  # the user's x, beside the map's
    tooltips = dict(plot.hover[0].tooltips)
    assert {"label", "name", "x (data)"} <= set(tooltips)
    legend = plot.legend[0]
    assert [item.label.value for item in legend.items] == ["a", "b", "no label"]
    assert legend.click_policy == "hide"
    shown = {item.label.value: list(item.renderers[0].view.filter.indices) for item in legend.items}
    assert shown == {"a": [1], "b": [0, 3], "no label": [2]}


def test_interactive_values_and_subset(square: np.ndarray) -> None:
    plot = plots.interactive(
        square, values=[1.0, 2.0, 3.0, np.nan], subset_points=[0, 2, 3], hover_data={"i": range(4)}
    )
    source = plot.renderers[0].data_source
    assert list(source.data["i"]) == [0, 2, 3]
    mapper = plot.renderers[0].glyph.fill_color.transform
    assert (mapper.low, mapper.high) == (1.0, 3.0)
    assert mapper.nan_color == "#b4b8bf"


def test_interactive_many_classes_have_no_endless_legend() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2))
    plot = plots.interactive(rows, labels=np.arange(50))
    assert len(plot.renderers) == 1
    assert not plot.legend


def external_sources(page: str) -> list[str]:
    return re.findall(
        r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page
    )


def test_interactive_file_needs_no_network_and_escapes_text(
    tmp_path: Path, square: np.ndarray
) -> None:
    target = tmp_path / "map.html"
    evil = "</script><script src='http://evil.example/x.js'></script>"
    layout = plots.interactive(
        square, labels=[evil, "$$x^2$$", "c", "d"], path=target, interactive_text_search=True
    )
    names = [item.label.value for item in layout.children[1].legend[0].items]
    assert not any("$$" in name for name in names)  # bokeh would fetch MathJax for it
    page = target.read_text(encoding="utf-8")
    assert [source for source in external_sources(page) if "${" not in source] == []
    document = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert document is not None
    assert "CDSView" in json.dumps(json.loads(document.group(1)))
    assert list(tmp_path.iterdir()) == [target]


HOSTILE = [
    "label}{safe}<img src=x onerror=alert(1)>",
    "@label{safe}<img src=x onerror=alert(1)>",
    "{safe}",
    "$color[hex]:label",
    "$swatch:label",
    "</script><script>alert(1)</script>",
    '<b>bold</b> & "quoted"',
    "a{b}",
    "",
    " x ",
    "$$x^2$$",
    r"\(x^2\)",
    r"\[x^2\]",
    "#0",
    "label",
    "label (data)",
]


class Elements(HTMLParser):
    """Names of all elements of a page, as a browser would create them before scripts run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


def test_interactive_shows_hostile_names_as_text(tmp_path: Path, square: np.ndarray) -> None:
    target = tmp_path / "<img src=x onerror=alert(1)>.html"
    hover = {name: [f"{name} {row}" for row in range(4)] for name in HOSTILE}
    labels = pd.Series([*HOSTILE[:3], HOSTILE[5]], name=HOSTILE[11])
    layout = plots.interactive(
        square, labels=labels, hover_data=hover, path=target, interactive_text_search=True
    )
    plot = layout.children[1]
    data = plot.renderers[0].data_source.data
    title_of = {"label": "label (data)"}
    titles = [title_of.get(name, name) for name in HOSTILE]
    tooltips = plot.hover[0].tooltips
    assert [title for title, _ in tooltips] == ["row", "label", *titles]  # written as text
    for name, (_, shown) in zip(HOSTILE, tooltips[2:], strict=True):
        # bokeh reads this one as HTML: it holds a column and nothing else
        placeholder = re.fullmatch(r"@\{([\w #.,()/%+-]+)\}", shown)
        assert placeholder is not None, shown
        assert list(data[placeholder[1]]) == hover[name]
    searched = layout.children[0].js_property_callbacks["change:value_input"][0].args["columns"]
    assert set(searched) <= set(data)
    texts = [item.label.value for item in plot.legend[0].items] + [plot.legend[0].title]
    assert not any(re.search(r"\$\$|\\[\[(]", text) for text in texts)
    page = target.read_text(encoding="utf-8")
    assert Elements(page).names == {
        *("html", "head", "meta", "title", "style", "script", "body", "div")
    }
    assert "onerror" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).replace(
        "&lt;img src=x onerror=alert(1)&gt;", ""
    )


def test_interactive_keeps_columns_apart_whose_names_collide(square: np.ndarray) -> None:
    hover = {1: list("abcd"), "1": list("efgh"), "x": list("ijkl"), "x (data)": list("mnop")}
    plot = plots.interactive(square, hover_data=hover)
    data = plot.renderers[0].data_source.data
    shown = [list(data[shown[2:-1]]) for _, shown in plot.hover[0].tooltips[1:]]
    assert shown == list(hover.values())


def test_interactive_search_looks_where_told(square: np.ndarray) -> None:
    layout = plots.interactive(
        square, labels=list("abcd"), hover_data={"note": list("wxyz")}, interactive_text_search=True
    )
    field, plot = layout.children
    callback = field.js_property_callbacks["change:value_input"][0]
    assert callback.args["columns"] == ["label", "note"]
    assert callback.args["source"] is plot.renderers[0].data_source
    with pytest.raises(ValueError, match=r"columns to search.*got nothing"):
        plots.interactive(
            square, labels=list("abcd"), interactive_text_search=True,
            interactive_text_search_columns=["nothing"],
        )  # fmt: skip


def test_interactive_explains_wrong_arguments(square: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must have 2 components"):
        plots.interactive(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="hover_data column 'n' must have 4 entries"):
        plots.interactive(square, hover_data={"n": [1, 2]})
    with pytest.raises(ValueError, match="table or a dict"):
        plots.interactive(square, hover_data=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="got both"):
        plots.interactive(square, labels=[1] * 4, values=[1] * 4)


# files


@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_save_writes_the_same_bytes_each_time(
    tmp_path: Path, square: np.ndarray, ending: str, magic: bytes
) -> None:
    written = []
    for name in ("one", "two"):
        ax = plots.points(square, labels=list("abab"), theme="dark")
        path = plots.save(ax, tmp_path / f"{name}.{ending}", dpi=50)
        written.append(path.read_bytes())
    assert written[0].startswith(magic)
    assert written[0] == written[1]


def test_save_keeps_the_background(tmp_path: Path, square: np.ndarray) -> None:
    path = plots.save(plots.points(square, theme="dark"), str(tmp_path / "map.png"), dpi=50)
    corner = plt.imread(path)[0, 0, :3]
    assert to_hex(corner) == "#0e1116"


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, square: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(b"old")
    ax = plots.points(square)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save(ax, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_explains_wrong_endings(tmp_path: Path, square: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf, got"):
        plots.save(plots.points(square), tmp_path / "map.html")
    with pytest.raises(ValueError, match=r"\.html for an interactive"):
        plots.save(plots.interactive(square), tmp_path / "map.png")
    assert plots.output is plots.save


# umap-learn's own functions

OF_UMAP_PLOT = {
    "points": "points labels values theme cmap color_key color_key_cmap background width height "
    "show_legend subset_points ax alpha",
    "connectivity": "edge_bundling edge_cmap show_points labels values theme cmap color_key "
    "color_key_cmap background width height",
    "diagnostic": "diagnostic_type nhood_size local_variance_threshold ax cmap point_size "
    "background width height return_diagnostics plot_result",
    "interactive": "labels values hover_data tools theme cmap color_key color_key_cmap background "
    "width height point_size subset_points interactive_text_search "
    "interactive_text_search_columns interactive_text_search_alpha_contrast alpha",
    "nearest_neighbour_distribution": "bins ax",
    "show": "",
    "output_notebook": "",
    "output_file": "filename title",
}


@pytest.mark.parametrize("name", OF_UMAP_PLOT)
def test_the_arguments_of_umap_plot_are_here(name: str) -> None:
    ours = inspect.signature(getattr(plots, name)).parameters
    assert set(OF_UMAP_PLOT[name].split()) <= ours.keys()


@pytest.mark.parametrize("kind", ["pca", "ica", "vq", "local_dim", "neighborhood"])
def test_diagnostics_by_the_names_of_umap_plot(kind: str) -> None:
    fitted = Fitted()
    ax, wanted = plots.diagnostic(fitted, kind=kind, return_diagnostics=True)  # type: ignore[arg-type]
    other, shown = plots.diagnostic(fitted, diagnostic_type=kind, return_diagnostics=True)
    np.testing.assert_array_equal(shown, wanted)
    assert other.get_title() == ax.get_title()
    assert plots.diagnostic(fitted, kind).get_title() == ax.get_title()  # by its place
    plt.close("all")
    alone = plots.diagnostic(fitted, kind, return_diagnostics=True, plot_result=False)
    np.testing.assert_array_equal(alone, wanted)
    assert plots.diagnostic(fitted, kind, plot_result=False) is None
    assert not plt.get_fignums()


def test_all_diagnostics_without_a_picture() -> None:
    found = plots.diagnostic(Fitted(), "all", return_diagnostics=True, plot_result=False)
    assert set(found) == {"pca", "ica", "vq", "local_dim", "neighborhood"}
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"diagnostic_type": "tsne"}, "diagnostic_type must be one of pca, .* got 'tsne'"),
        ({"X": "tsne"}, "diagnostic_type must be one of pca, .* got 'tsne'"),
        ({"kind": "tsne"}, "kind must be one of pca, .* got 'tsne'"),
        (
            {"diagnostic_type": "pca", "kind": "vq"},
            "diagnostic_type must be given once, got diagnostic_type='pca', kind='vq'",
        ),
    ],
)
def test_diagnostics_that_do_not_exist(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.diagnostic(Fitted(), **arguments)  # type: ignore[arg-type]


def test_arguments_in_the_places_of_umap_plot() -> None:
    fitted = Fitted()
    straight = plots.connectivity(fitted).collections[0].get_segments()
    bundled = plots.connectivity(fitted, "hammer").collections[0].get_segments()
    assert max(map(len, straight)) == 2
    assert max(map(len, bundled)) > 2
    with pytest.raises(ValueError, match="edge_bundling must be None or 'hammer', got 'wood'"):
        plots.connectivity(fitted, "wood")
    with pytest.raises(ValueError, match=r"labels must have shape \(80,\).* got \(80, 2\)"):
        plots.points(fitted, fitted.embedding_)  # positions are second in umap.plot


def test_notebooks_need_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="output_notebook must be called in a notebook"):
        plots.output_notebook()


def test_interactive_maps_go_to_a_file(tmp_path: Path) -> None:
    from bokeh.io.state import curstate

    plots.output_file(tmp_path / "digits.html")
    try:
        assert curstate().file is not None
        assert curstate().file.filename == str(tmp_path / "digits.html")
        assert curstate().file.title == "digits"
    finally:
        curstate().reset()


@pytest.fixture(scope="module")
def umap_plot() -> Iterator[types.ModuleType]:
    """``umap.plot`` imports holoviews, which only its very large interactive maps use."""
    pytest.importorskip("umap")
    stubs = ("holoviews", "holoviews.operation", "holoviews.operation.datashader")
    with pytest.MonkeyPatch.context() as patch:
        for name in stubs:
            if name not in sys.modules:
                patch.setitem(sys.modules, name, types.ModuleType(name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numba's, about a signature that umap.plot repeats
            import umap.plot

        yield umap.plot


@pytest.mark.slow  # numba compiles umap.plot on the first call
@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::bokeh.util.warnings.BokehDeprecationWarning")
def test_umap_plot_draws_our_fitted_object(umap_plot: types.ModuleType) -> None:
    fitted = Fitted()
    ax = umap_plot.points(fitted, labels=np.arange(80) % 3)
    assert np.allclose(ax.collections[0].get_offsets(), fitted.embedding_)
    assert umap_plot.connectivity(fitted).images
    assert umap_plot.nearest_neighbour_distribution(fitted).patches
    assert umap_plot.interactive(fitted, values=np.arange(80.0)).renderers


@pytest.mark.slow  # numba compiles umap.plot on the first call
@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::bokeh.util.warnings.BokehDeprecationWarning")
@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize("n", [200, 4200])  # umap-learn takes another path from 4,096 rows on
def test_umap_plot_reads_our_models(umap_plot: types.ModuleType, kind: type[UMAP], n: int) -> None:
    X = np.random.default_rng(0).random((n, 6)).astype(np.float32)
    fitted = kind(n_neighbors=10, n_epochs=1, random_state=0).fit(X)
    ax = umap_plot.points(fitted, values=X[:, 0])
    assert ax.collections or ax.images
    assert umap_plot.connectivity(fitted).images
    assert umap_plot.nearest_neighbour_distribution(fitted).patches
    assert umap_plot.interactive(fitted, labels=np.arange(n) % 3).renderers
    for diagnostic in ("pca", "ica", "vq", "local_dim", "neighborhood"):
        ax = umap_plot.diagnostic(fitted, diagnostic_type=diagnostic)
        assert ax.collections or ax.images
    theirs = umap_plot.diagnostic(
        fitted, "neighborhood", 12, return_diagnostics=True, plot_result=False
    )
    ours = plots.diagnostic(fitted, kind="neighborhood", nhood_size=12, return_diagnostics=True)[1]
    assert np.abs(ours - theirs).mean() < 1e-3


@pytest.mark.slow  # numba compiles umap.plot on the first call
@pytest.mark.reference
@pytest.mark.parametrize("kind", ["neighborhood", "local_dim", "pca", "vq"])
def test_diagnostics_agree_with_umap_plot(umap_plot: types.ModuleType, kind: str) -> None:
    fitted = Fitted(n=200)
    theirs = umap_plot.diagnostic(fitted, kind, 12, return_diagnostics=True, plot_result=False)
    ours = plots.diagnostic(
        fitted, kind=kind, nhood_size=10 if kind == "local_dim" else 12, return_diagnostics=True
    )[1]
    if kind == "neighborhood":
        assert np.allclose(ours, theirs)
    elif kind == "local_dim":
        assert np.array_equal(ours, theirs + 1)  # umap-learn counts dimensions from 0
    elif kind == "pca":
        closeness = [np.corrcoef(ours[:, k], theirs[:, k])[0, 1] for k in range(3)]
        assert np.abs(closeness).min() > 0.98
    else:  # clusters come in any order, from another start
        assert theirs.shape == ours.shape


@pytest.mark.slow  # numba compiles umap.plot on the first call
@pytest.mark.reference
def test_row_averages_agree_with_umap_learn(umap_plot: types.ModuleType) -> None:
    graph = Fitted().graph_
    theirs = umap_plot.average_nn_distance(graph)
    heights, edges = np.histogram(theirs, bins=25)
    ax = plots.nearest_neighbour_distribution(graph)
    assert [patch.get_height() for patch in ax.patches] == heights.tolist()
    assert ax.patches[0].get_x() == pytest.approx(edges[0])


# the page about pictures


def test_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "plots.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    assert {path.name for path in tmp_path.iterdir()} == {"digits.png", "digits.html", "digits.svg"}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_search_fades_what_does_not_match_and_forgets_nothing() -> None:
    script = Path(plots.__file__).with_name("search.js").read_text(encoding="utf-8")
    driver = (
        f"const run = new Function('source', 'columns', 'contrast', 'cb_obj', "
        f"'\"use strict\";' + {json.dumps(script)});"
        "const source = {data: {label: ['Cat', 'dog'], n: [12, 3],"
        " alpha: new Float32Array([0.5, 0.5])}, change: {emit() {}}};"
        "const seen = ['cat', '3', ''].map((value_input) => {"
        " run(source, ['label', 'n'], 0.75, {value_input}); return [...source.data.alpha]; });"
        "console.log(JSON.stringify(seen));"
    )
    done = subprocess.run(["node", "-e", driver], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]


# ------------------------------------------------------------------ explanation


def test_the_bars_are_mean_norms_of_the_strongest_features() -> None:
    jacobian = np.random.default_rng(0).normal(size=(30, 2, 6)) * np.array([1, 5, 2, 0, 3, 4])
    norms = np.sqrt((jacobian**2).sum(1))
    ax = plots.explanation(jacobian, names=list("abcdef"), n=4)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "f", "e", "c"]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, norms.mean(0)[[1, 5, 4, 2]])
    ends = ax.collections[0].get_segments()
    quartiles = np.percentile(norms[:, 1], (25, 75))
    np.testing.assert_allclose(np.asarray(ends[0])[:, 0], quartiles)
    assert ax.yaxis_inverted()  # the strongest is at the top
    again = plots.explanation(norms, n=4)
    np.testing.assert_allclose([bar.get_width() for bar in again.patches], widths)
    assert [text.get_text() for text in again.get_yticklabels()] == ["1", "5", "4", "2"]


def test_an_explanation_that_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match=r"effects must have one, two or three axes.*\(\)"):
        plots.explanation(3.0)
    with pytest.raises(ValueError, match="effects must be finite"):
        plots.explanation([1.0, np.nan])
    with pytest.raises(ValueError, match="one name per feature, got 1 for 2"):
        plots.explanation([1.0, 2.0], names=["a"])
