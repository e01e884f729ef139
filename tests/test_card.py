"""The card of a map: what it measures, what it warns of, and what it does not warn of."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler, normalize

import neumap
from neumap import UMAP, ParametricUMAP, UnusualRowsWarning, load, runtime
from neumap._card import Card, card_of, row_statistics
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.cli import main

DATA = Path(__file__).parent / "data"
DIGITS, CLASSES = load_digits(return_X_y=True)
SETS = {
    "digits": DIGITS,
    "iris": load_iris().data,
    "wine": load_wine().data,
    "cancer": load_breast_cancer().data,
    "heavy tails": np.exp(2.0 * np.random.default_rng(0).normal(size=(600, 20))),
    "counts": np.random.default_rng(0).poisson(0.5, (400, 50)).astype(float),
    "unit vectors": normalize(np.random.default_rng(0).normal(size=(600, 100)) + 0.3),
}


def fitted(X: Any, kind: type[UMAP] = ParametricUMAP, **settings: Any) -> Any:
    settings = {"n_epochs": 1, "n_neighbors": 5, "random_state": 0, **settings}
    if kind is ParametricUMAP:
        settings = {"preset": "fast", **settings}
    return kind(**settings).fit(X)


def warned(use: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use()
    return [str(w.message) for w in caught if issubclass(w.category, UnusualRowsWarning)]


# ---- measurements -------------------------------------------------------------------------------


def test_lengths_and_distances_by_hand() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [-3.0, 4.0]], np.float32)
    found = row_statistics(rows)
    assert found is not None
    assert found.n_rows == 3  # one row is incomplete
    np.testing.assert_allclose(found.center, [0.0, 8 / 3])
    assert found.values == pytest.approx((-3.0, 8 / 6, 4.0))
    assert found.length[0] == 0.0
    assert found.length[2] == found.length[4] == 5.0
    near, far = 8 / 3, np.hypot(3, 4 / 3)
    assert found.distance[0] == pytest.approx(near)
    assert found.distance[4] == pytest.approx(far)


def test_nothing_is_measured_without_a_complete_row() -> None:
    assert row_statistics(np.full((3, 2), np.nan, np.float32)) is None


@pytest.mark.parametrize("name", SETS)
def test_ordinary_held_out_rows_are_not_outside(name: str) -> None:
    X = SETS[name]
    for seed in range(12):
        train, test = train_test_split(X, random_state=seed)
        usual = row_statistics(train.astype(np.float32))
        assert usual is not None
        for n_rows in (1, 2, 3, 5, 20, 128):
            for start in range(0, min(len(test), 60), n_rows):
                assert usual.difference(test[start : start + n_rows]) is None


def test_rows_of_one_class_are_not_outside() -> None:
    train, test, _, labels = train_test_split(DIGITS, CLASSES, random_state=0)
    usual = row_statistics(train.astype(np.float32))
    assert usual is not None
    for digit in range(10):
        assert usual.difference(test[labels == digit]) is None


CHANGES: dict[str, Any] = {
    "255 times": lambda rows: rows * 255.0,
    "a sixteenth": lambda rows: rows / 16.0,
    "normalised": normalize,
    "standardised": lambda rows: StandardScaler().fit_transform(rows),
    "negative": lambda rows: -rows,
}


@pytest.mark.parametrize("n_rows", [1, 4, 100])
@pytest.mark.parametrize("change", CHANGES)
def test_rows_of_another_scale_are_outside(change: str, n_rows: int) -> None:
    train, test = train_test_split(DIGITS, random_state=0)
    usual = row_statistics(train.astype(np.float32))
    assert usual is not None
    changed = CHANGES[change](test)[:n_rows]
    assert (usual.difference(changed) is not None) or (change == "negative" and n_rows < 5)
    undone = row_statistics(CHANGES[change](train).astype(np.float32))
    assert undone is not None
    assert (undone.difference(test[:n_rows]) is not None) or n_rows < 5


@pytest.mark.parametrize("name", ["iris", "wine", "cancer", "unit vectors"])
def test_raw_rows_where_normalised_ones_are_expected_are_outside(name: str) -> None:
    train, test = train_test_split(SETS[name] * 3.0, random_state=0)
    usual = row_statistics(normalize(train).astype(np.float32))
    assert usual is not None
    assert "length is about" in str(usual.difference(test))
    assert usual.difference(normalize(test)) is None


@pytest.mark.parametrize("name", ["iris", "wine", "cancer"])
def test_raw_rows_where_standardised_ones_are_expected_are_outside(name: str) -> None:
    """Some standardised rows are almost empty: only the upper side may count for long rows."""
    for seed in range(5):
        train, test = train_test_split(SETS[name], random_state=seed)
        scaler = StandardScaler().fit(train)
        usual = row_statistics(scaler.transform(train).astype(np.float32))
        assert usual is not None
        assert usual.difference(test) is not None
        assert usual.difference(scaler.transform(test)) is None


def test_half_the_rows_may_lie_outside() -> None:
    usual = row_statistics(DIGITS[:500].astype(np.float32))
    assert usual is not None
    mixed = DIGITS[500:520].copy()
    mixed[:10] *= 255.0
    assert usual.difference(mixed) is None
    mixed[10] *= 255.0
    assert usual.difference(mixed) is not None


def test_few_rows_of_a_fit_say_nothing() -> None:
    usual = row_statistics(DIGITS[:29].astype(np.float32))
    assert usual is not None
    assert usual.difference(DIGITS * 255.0) is None


def test_huge_rows_do_not_overflow() -> None:
    usual = row_statistics(np.full((40, 3), 1e30, np.float32) * np.arange(1, 41)[:, None] / 40)
    assert usual is not None
    assert usual.difference(np.full((9, 3), 1e36, np.float32)) is not None


# ---- in a model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ParametricUMAP, UMAP])
def test_a_model_warns_once_in_its_life(kind: type[UMAP]) -> None:
    X = DIGITS[:300] / 16.0
    model = fitted(X, kind)
    assert warned(lambda: model.transform(DIGITS[300:340] / 16.0)) == []
    (message,) = warned(lambda: model.transform(DIGITS[300:340]))
    assert message.startswith("X must hold rows like those of the fit, got rows that lie clearly")
    assert "category=neumap.UnusualRowsWarning" in message
    assert warned(lambda: model.transform(DIGITS[300:340])) == []
    model.fit(X)
    assert len(warned(lambda: model.transform(DIGITS[300:340]))) == 1


def test_the_warning_points_at_the_line_of_the_user() -> None:
    model = fitted(DIGITS[:100])
    with pytest.warns(UnusualRowsWarning) as caught:
        model.transform(DIGITS[100:110] * 99.0)
    assert caught[0].filename == __file__


def test_the_warning_can_be_ignored() -> None:
    model = fitted(DIGITS[:100])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=neumap.UnusualRowsWarning)
        model.transform(DIGITS[100:110] * 99.0)


def test_a_model_that_ignores_length_does_not_warn_of_it() -> None:
    for kind, metric in [(ParametricUMAP, "cosine"), (UMAP, "cosine"), (UMAP, "correlation")]:
        model = fitted(DIGITS[:200], kind, metric=metric)
        assert warned(lambda model=model: model.transform(DIGITS[200:230] * 99.0)) == []
    # The network of a user reads rows as they are, whatever the metric.
    import torch

    own = fitted(DIGITS[:200], metric="cosine", encoder=torch.nn.Linear(64, 2))
    assert len(warned(lambda: own.transform(DIGITS[200:230] * 99.0))) == 1


@pytest.mark.parametrize("kind", ["tensor", "sparse", "images", "uint8"])
def test_every_kind_of_rows_in_memory_is_checked(kind: str) -> None:
    import torch

    form = {
        "tensor": lambda rows: torch.from_numpy(rows),
        "sparse": sparse.csr_matrix,
        "images": lambda rows: rows.reshape(-1, 8, 8),
        "uint8": lambda rows: rows.clip(0, 255).astype(np.uint8),
    }[kind]
    model = fitted(form(DIGITS[:200]))
    assert warned(lambda: model.transform(form(DIGITS[200:260]))) == []
    assert len(warned(lambda: model.transform(form(DIGITS[200:260] * 15.0)))) == 1


def test_distances_are_not_measured() -> None:
    from scipy.spatial.distance import cdist

    X = DIGITS[:60]
    model = fitted(cdist(X, X), UMAP, metric="precomputed")
    assert model.card_["rows"] == {}
    assert warned(lambda: model.transform(cdist(DIGITS[60:70], X) * 1000.0)) == []


def test_novel_rows_may_be_asked_about_without_a_warning() -> None:
    model = fitted(DIGITS[:200])
    assert warned(lambda: model.confidence(DIGITS[200:220] * 99.0)) == []


def test_the_card_says_what_a_map_is() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(SETS["iris"], columns=["a", "b", "c", "d"])
    model = fitted(table)
    card = model.card_
    assert (card["n_rows"], card["columns"], card["row_shape"]) == (150, list("abcd"), (4,))
    assert card["rows"]["values"]["largest"] == np.float32(7.9)
    lengths = np.linalg.norm(SETS["iris"], axis=1)
    assert card["rows"]["length"]["median"] == pytest.approx(np.median(lengths), rel=1e-5)
    low, high = model.embedding_.min(0), model.embedding_.max(0)
    np.testing.assert_allclose(card["extent"], np.stack([low, high], axis=1), rtol=1e-6)
    assert card["neumap"]
    assert card["created"].startswith("20")
    assert card["notes"] == {}


def test_an_unfitted_model_has_no_card() -> None:
    with pytest.raises(AttributeError, match="no attribute 'card_': this model is not fitted"):
        _ = ParametricUMAP().card_


# ---- in a file ----------------------------------------------------------------------------------

NOTES = {"embedding model": "all-MiniLM-L6-v2", "prompt": "query: ", "versions": [1, 2.5]}


@pytest.mark.parametrize("keep", ["network", "map", "data"])
def test_notes_and_measurements_go_through_files(keep: Any, tmp_path: Path) -> None:
    model = fitted(DIGITS[:200])
    path = model.save(tmp_path / "m.neumap", keep=keep, card=NOTES)
    assert model.card_["notes"] == {}
    again = load(path)
    assert again.card_ == {**model.card_, "notes": NOTES}
    assert runtime.load(path).card_ == again.card_
    for reader in (load, runtime.load):
        loaded: Any = reader(path)
        assert warned(lambda loaded=loaded: loaded.transform(DIGITS[200:260])) == []
        assert len(warned(lambda loaded=loaded: loaded.transform(DIGITS[200:260] / 16))) == 1
        assert warned(lambda loaded=loaded: loaded.transform(DIGITS[200:260] / 16)) == []
    more = load(again.save(tmp_path / "more.neumap", card={"prompt": "passage: "}))
    assert more.card_["notes"] == {**NOTES, "prompt": "passage: "}


def test_notes_stay_through_an_update(tmp_path: Path) -> None:
    path = fitted(DIGITS[:100]).save(tmp_path / "m.neumap", keep="data", card=NOTES)
    model = load(path).update(DIGITS[100:110])
    assert model.card_["notes"] == NOTES
    assert model.card_["n_rows"] == 110


def test_a_file_of_the_first_version_has_no_card_and_takes_notes(tmp_path: Path) -> None:
    old = load(DATA / "model_0_1_network.neumap")
    with pytest.raises(AttributeError, match=r"was fitted by neumap 0\.1"):
        _ = old.card_
    assert warned(lambda: old.transform(np.full((9, 4), 1e6))) == []
    assert runtime.load(DATA / "model_0_1_network.neumap").card_ == {}
    new = load(old.save(tmp_path / "m.neumap", card={"of": "tests"}))
    assert new.card_["notes"] == {"of": "tests"}


@pytest.mark.parametrize("card", [{"f": max}, {3: "x"}, "text", {"array": np.zeros(3)}])
def test_notes_that_a_file_cannot_hold_are_refused(card: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^card must map names to text, numbers, and lists"):
        fitted(DIGITS[:60]).save(tmp_path / "m.neumap", card=card)
    with pytest.raises(ValueError, match=r"^card must be None for a model that is not fitted"):
        ParametricUMAP().save(tmp_path / "m.neumap", card={"a": 1})
    assert not [*tmp_path.iterdir()]


def forged(path: Path, change: Any) -> Path:
    archive = read_archive(path)
    change(archive.metadata["estimator"]["fitted"]["card"]["dict"], archive.tensors)
    return write_archive(path, tensors=archive.tensors, metadata=archive.metadata)


FORGERIES = [
    lambda card, tensors: card.pop("notes"),
    lambda card, tensors: card.update(more={"value": 1}),
    lambda card, tensors: card.update(n_rows={"value": -1}),
    lambda card, tensors: card.update(created={"value": "x" * 1000}),
    lambda card, tensors: card.update(extent={"value": ((1.0,),)}),
    lambda card, tensors: card["rows"]["dict"].update(form={"value": "other"}),
    lambda card, tensors: card["rows"]["dict"].update(length={"value": (1.0, float("nan"))}),
    lambda card, tensors: tensors.update({"card.rows.center": np.zeros(7, np.float32)}),
    lambda card, tensors: tensors.update({"card.rows.center": np.zeros(64, np.float64)}),
    lambda card, tensors: tensors.update({"card.rows.center": np.full(64, np.nan, np.float32)}),
]


@pytest.mark.parametrize("change", FORGERIES)
def test_a_card_that_no_fit_wrote_is_refused(change: Any, tmp_path: Path) -> None:
    path = forged(fitted(DIGITS[:60]).save(tmp_path / "m.neumap"), change)
    for reader in (load, runtime.load):
        with pytest.raises(ArchiveError, match=r"card.* must be"):
            reader(path)


def test_a_card_equals_what_its_values_make() -> None:
    usual = row_statistics(DIGITS.astype(np.float32))
    card = Card("2026", "0.1", 3, ((0.0, 1.0),), usual, {"a": 1})
    again = card_of(card.as_dict())
    assert again.described(None, (64,)) == card.described(None, (64,))
    assert again.complaint(DIGITS * 99.0) == card.complaint(DIGITS * 99.0)


def test_the_command_shows_the_card_and_no_signs_that_control_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = {"rows": "counts\x1b[2J per gene"}
    path = fitted(DIGITS[:60]).save(tmp_path / "m.neumap", card=notes)
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "counts\\x1b[2J per gene" in told
    assert "\x1b" not in told
    assert "median" in told
    assert main(["info", str(path), "--json"]) == 0
