"""The yard of data sets: its rows, its scores, its targets, and that it can be resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics import pairwise_distances

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def result_row(data, method, seed=0, variant="", n_train=1000, **scores):
    return {
        "set": data,
        "method": method,
        "variant": variant,
        "seed": seed,
        "rows": "validation",
        "n_train": n_train,
        "fingerprint": [1.0, 2.0],
        "scores": scores,
        "fit_seconds": 1.0,
        "fit_cpu_seconds": 1.0,
        "peak_bytes": 2**20,
    }


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize("name", ["digits", "density", "rings", "loops", "binary"])
def test_a_set_is_divided_without_overlap_and_repeats(script, name):
    sets = script("lib.sets")
    first, again = (sets.load(name, 0, sets.Sources()) for _ in range(2))
    other = sets.load(name, 1, sets.Sources())
    np.testing.assert_array_equal(first.X_train, again.X_train)
    assert not np.array_equal(first.X_train[:50], other.X_train[:50])
    parts = [first.X_train, first.held_out["validation"][0], first.held_out["test"][0]]
    rows = np.vstack(parts)
    # The digits hold no two equal images; continuous rows never are.
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert len(parts[1]) == len(parts[2]) >= len(rows) // 7


def test_every_generated_set_has_finite_rows_and_a_label_each(script):
    sets = script("lib.sets")
    for name in set(sets.SETS) - {"text", "pbmc"}:
        drawn = sets.SETS[name](np.random.default_rng(0), sets.Sources())
        assert np.isfinite(drawn.X).all(), name
        assert len(drawn.X) == len(drawn.labels), name
        assert len(np.unique(drawn.labels)) > 1, name


def test_the_hierarchy_has_five_groups_of_five_groups_of_five(script):
    sets = script("lib.sets")
    drawn = sets.SETS["hierarchy"](np.random.default_rng(3), sets.Sources())
    leaves = np.array([drawn.X[drawn.labels == leaf].mean(0) for leaf in range(125)])
    apart = pairwise_distances(leaves)
    np.fill_diagonal(apart, np.inf)
    assert np.mean(apart.argmin(1) // 5 == np.arange(125) // 5) == 1.0
    groups = leaves.reshape(25, 5, -1).mean(1)
    apart = pairwise_distances(groups)
    np.fill_diagonal(apart, np.inf)
    assert np.mean(apart.argmin(1) // 5 == np.arange(25) // 5) > 0.9


def test_texts_are_those_of_the_packages_and_are_kept(script, tmp_path, monkeypatch):
    sets = script("lib.sets")
    package = tmp_path / "somewhere"
    (package / "first").mkdir(parents=True)
    (package / "first" / "tests").mkdir()
    long = " ".join(f"word{i}" for i in range(50))
    source = f'def shown():\n    """{long}"""\ndef short():\n    """Few."""\n'
    (package / "first" / "a.py").write_text(source)
    (package / "first" / "tests" / "b.py").write_text(source.replace("word1", "tested"))
    (package / "top.py").write_text(source.replace("word1", "top"))
    monkeypatch.setattr(sets, "TEXT_PACKAGES", ("somewhere",))
    monkeypatch.setattr(sets, "_package_folder", lambda name: package)
    expected = {"labels": ["somewhere.first"], "rows": [long]}
    sources = sets.Sources(shipped=tmp_path / "kept")
    assert sets._shipped(sources, "texts", sets._docstrings) == expected
    assert sets._shipped(sources, "texts", dict) == expected


def test_mnist_needs_a_file(script):
    sets = script("lib.sets")
    with pytest.raises(SystemExit, match=r"--mnist must be an \.npz file for mnist-300, got none"):
        sets.load("mnist-300", 0, sets.Sources())
    assert not any(name.startswith("mnist") for name in sets.available(sets.Sources()))


# ------------------------------------------------------------------ scores


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "hamming"])
def test_comparable_rows_have_the_order_of_the_metric(script, metric):
    scores = script("lib.map_scores")
    rng = np.random.default_rng(0)
    X = rng.random((30, 12)) < 0.5 if metric == "hamming" else rng.normal(size=(30, 12))
    rows = scores.comparable(X, metric).astype(float)
    ours = pairwise_distances(rows, metric="sqeuclidean")
    right = pairwise_distances(X, metric=metric)
    ranks = [np.round(d, 5)[0].argsort(kind="stable") for d in (ours, right)]
    np.testing.assert_array_equal(*ranks)


def test_comparable_rows_of_a_sparse_matrix(script):
    scores = script("lib.map_scores")
    X = scipy.sparse.csr_matrix([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(scores.comparable(X, "cosine"), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_extents_of_equal_density_are_equal_and_of_equal_counts_follow_the_radius(script):
    scores = script("lib.map_scores")
    rng = np.random.default_rng(0)

    def disc(n, radius, centre):
        angle, r = rng.uniform(0, 2 * np.pi, n), radius * np.sqrt(rng.random(n))
        return np.column_stack([centre + r * np.cos(angle), r * np.sin(angle)])

    labels = np.repeat([0, 1], [2000, 8000])
    even = np.vstack([disc(2000, 1, 0), disc(8000, 2, 9)])
    assert scores.extent_ratio(even, labels) == pytest.approx(1, abs=0.05)
    same_size = np.vstack([disc(2000, 1, 0), disc(8000, 1, 9)])
    assert scores.extent_ratio(same_size, labels) == pytest.approx(2, abs=0.1)


def test_centres_that_move_along_are_fully_correlated(script):
    scores = script("lib.map_scores")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    positions = rng.normal(size=(8, 2))[labels]
    assert scores.centre_correlation(3 * positions + 1, positions, labels) == pytest.approx(1)
    # Distances 1, 9, 8 in the data, 3, 2, 1 on the map: Spearman's correlation is -1/2.
    data, moved = np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [3.0], [2.0]])
    ranks = scores.centre_correlation(data, moved, np.arange(3))
    assert ranks == pytest.approx(-0.5)


def test_siblings_are_clusters_whose_nearest_one_is_of_their_group(script):
    scores = script("lib.map_scores")
    # Groups of two: 0 and 1 lie side by side; 2 and 3 are apart, and 3 lies beside 1.
    positions = np.array([[0.0, 0], [1, 0], [9, 0], [2.5, 0], [2.5, 0]])
    labels = np.array([0, 1, 2, 3, 3])
    assert scores.sibling_rate(positions, labels, 2) == 0.75


def test_rows_without_position_go_to_the_middle(script):
    scores = script("lib.map_scores")
    positions = np.array([[0.0, 0], [np.nan, np.nan], [2, 4], [1, 1]])
    np.testing.assert_array_equal(scores.without_nan(positions)[1], [1, 1])


def test_a_perfect_map_of_a_plane_has_perfect_scores(script):
    sets, scores = script("lib.sets"), script("lib.map_scores")
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(300, 2)), rng.normal(size=(60, 2))
    y, y_new = (X[:, 0] > 0).astype(int), (new[:, 0] > 0).astype(int)
    data = sets.YardSet("plane", 0, X, y, {"test": (new, y_new)}, "euclidean", True)
    found = scores.score(data, "test", X, new)
    for name in ("trust", "recall", "held_out_trust", "held_out_recall", "triplets"):
        assert found[name] == pytest.approx(1, abs=1e-3), name
    assert found["unplaced"] == 0
    assert "extents" not in found
    shuffled = scores.score(data, "test", rng.permutation(X), rng.permutation(new))
    assert shuffled["held_out_recall"] < 0.2


# ------------------------------------------------------------------ targets


def test_missed_targets_name_the_set_and_both_values(script):
    report = script("lib.yard_report")
    good = {"trust": 0.9, "recall": 0.5, "held_out_trust": 0.9, "held_out_recall": 0.4}
    good |= {"held_out_5nn": 0.8, "triplets": 0.7}
    worse = good | {"held_out_recall": 0.37, "recall": 0.44}
    rows = [
        result_row("a", "neumap", **worse),
        result_row("a", "umap", **good),
        result_row("b", "neumap", **good | {"held_out_recall": 0.39}),
        result_row("b", "umap", **good),
        result_row("large", "neumap", n_train=10_001, **worse),
        result_row("large", "umap", n_train=10_001, **good),
    ]
    text = report.report(rows, "validation", "")
    assert "held-out recall at least .95 of it: 1 of 2 sets; missed by a (0.370, 0.400)" in text
    assert "training recall at least .9 of it: 1 of 2 sets; missed by a (0.440, 0.500)" in text
    assert "held-out trust within .01: 3 of 3 sets\n" in text
    assert "Not comparable" not in text


def test_cluster_sizes_are_asked_of_the_gaussians_only(script):
    report = script("lib.yard_report")
    rows = [
        result_row(data, method, extents=extents)
        for data in ("density", "unequal")
        for method, extents in (("neumap", 2.5), ("umap", 1.1))
    ]
    target = next(t for t in report.TARGETS if t.score == "extents")
    found = report.medians(rows)
    asked = [n for n in ("density", "unequal") if report._applies(target, n, *_pair(found, n))]
    assert asked == ["density"]
    assert not report._meets(target, "density", *_pair(found, "density"))


def _pair(found, name):
    return found[name, "neumap", ""], found[name, "umap", ""]


def test_a_table_holds_medians_and_ratios(script):
    report = script("lib.yard_report")
    rows = [result_row("a", "neumap", seed, recall=r) for seed, r in enumerate((0.3, 0.1, 0.4))]
    rows.append(result_row("a", "umap", recall=0.5))
    first = report.table(report.medians(rows)).split("\n")[2]
    assert "| 0.300 / x0.60 |" in first


def test_a_compact_table_sets_missed_targets_in_bold_and_mnist_last(script):
    report = script("lib.yard_report")
    rows = []
    for name, ours in (("mnist-1000", 0.4), ("mnist-300", 0.5), ("tree", 0.5)):
        rows += [result_row(name, "neumap", recall=ours), result_row(name, "umap", recall=0.5)]
    rows.append(result_row("rings", "neumap", recall=0.5))  # nothing beside it
    # Other seeds of umap-learn do not count where neumap has none.
    rows += [result_row("tree", "umap", seed, recall=0.9) for seed in (1, 2)]
    lines = report.report(rows, "validation", "", "neumap").split("\n")
    shown = [[cell.strip() for cell in line.split("|")[1:5]] for line in lines if ".500" in line]
    assert [cells[0] for cells in shown[:3]] == ["tree", "mnist-300", "mnist-1000"]
    assert [cells[3] for cells in shown[:3]] == [".500 (.500)", ".500 (.500)", "**.400** (.500)"]


def test_numbers_lose_the_zero_before_their_point_only(script):
    short = script("lib.yard_report")._short
    assert [short(v, 1) for v in (0.5, -0.5, 10.5, 20.04)] == [".5", "-.5", "10.5", "20.0"]
    assert short(0.9996, 3) == "1.000"


def test_results_on_other_rows_are_named(script):
    report = script("lib.yard_report")
    rows = [result_row("text", m, recall=0.5) for m in ("neumap", "umap")]
    rows[1]["fingerprint"] = [1.1, 2.0]
    assert report.mixed_rows(rows) == ["text, seed 0"]
    rows[1]["fingerprint"] = [1.00001, 2.0]
    assert report.mixed_rows(rows) == []


# ------------------------------------------------------------------ jobs and overrides


def test_jobs_keep_their_numbers_when_others_are_done(script, tmp_path, capsys):
    yard = script("yard")
    output = tmp_path / "yard.jsonl"
    yard.append(result_row("rings", "umap", 0), output)
    words = f"--sets rings --methods neumap umap --seeds 0 1 --jobs-list --output {output}".split()
    yard.main(words)
    assert capsys.readouterr().out.split("\n") == [
        "0 rings neumap 0",
        "2 rings neumap 1",
        "3 rings umap 1",
        "",
    ]
    yard.main([*words, "--variant", "x", "--preset-override", "n_steps=3"])
    # A variant changes neumap; what is known of umap-learn stays known.
    assert len(capsys.readouterr().out.split("\n")) == 4
    yard.main([*words, "--rows-for", "both"])
    assert "1 rings umap 0" in capsys.readouterr().out


def test_overrides_change_fields_softening_and_constants(script, monkeypatch):
    yard = script("yard")
    from neumap.estimators import PRESETS
    from neumap.estimators.positions import presets

    monkeypatch.setattr(presets, "STEP_GROWTH", presets.STEP_GROWTH)
    words = ["n_steps=77", "hidden=[8]*2", "softening.end=0.5", "STEP_GROWTH=0.25"]
    changed = yard.overridden(PRESETS["default"], words)
    assert (changed.n_steps, changed.hidden, changed.softening.end) == (77, (8, 8), 0.5)
    assert presets.STEP_GROWTH == 0.25
    assert PRESETS["default"].n_steps != 77
    with pytest.raises(SystemExit, match="got STEPGROWTH"):
        yard.overridden(PRESETS["default"], ["STEPGROWTH=1"])


def test_overrides_need_a_name(script, capsys):
    yard = script("yard")
    with pytest.raises(SystemExit):
        yard.main(["--preset-override", "n_steps=3"])
    assert "--variant must name the overrides" in capsys.readouterr().err


@pytest.mark.slow
def test_the_yard_writes_lines_once_and_pictures(tmp_path):
    output = tmp_path / "yard.jsonl"

    def run(*words):
        command = [sys.executable, str(BENCHMARKS / "yard.py"), "--sets", "rings", "--seeds", "0"]
        command += ["--methods", "neumap", "--variant", "short", "--output", str(output), *words]
        command += ["--preset-override", "n_steps=60"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("--rows-for", "both")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["rows"] for line in lines] == ["validation", "test"]
    assert lines[0]["scores"]["trust"] == lines[1]["scores"]["trust"] > 0.7
    assert lines[0]["scores"]["held_out_recall"] != lines[1]["scores"]["held_out_recall"]
    assert lines[0]["n_steps"] == 60  # the steps of a preset are the least
    assert lines[0]["overrides"] == ["n_steps=60"]
    assert run() == ""
    assert len(output.read_text().splitlines()) == 2
    assert "| rings |" in run("--table")
    run("--pictures", str(tmp_path / "pictures"), "--maps", str(tmp_path / "maps"))
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["yard_rings.png"]
    with np.load(tmp_path / "maps" / "rings-0-neumap-short.npz") as kept:
        assert kept["embedding"].shape == (2000, 2)


def test_colours_tell_outer_groups_by_hue_and_inner_ones_by_lightness(script):
    import colorsys

    sets, report = script("lib.sets"), script("lib.yard_report")
    labels = np.arange(125)
    data = sets.YardSet("hierarchy", 0, np.zeros((125, 2)), labels, {}, n_siblings=5)
    colours = report.colours(data)
    assert len(np.unique(colours.round(6), axis=0)) == 25
    hues, lightness, _ = np.array([colorsys.rgb_to_hls(*colour) for colour in colours]).T
    outer = hues.reshape(5, 25)
    np.testing.assert_allclose(outer, outer[:, :1].repeat(25, 1), atol=0.02)
    assert np.diff(np.sort(outer[:, 0])).min() > 0.02
    assert (np.diff(lightness.reshape(5, 5, 5)[:, :, 0], axis=1) < 0).all()
