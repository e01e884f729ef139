"""Advice in messages of the command, the plots and scanpy: a case fails, follows it, and works."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow
import pytest
from click import ClickException
from matplotlib import pyplot as plt
from PIL import Image
from pyarrow import parquet
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph

import neumap
from neumap import ParametricUMAP, explorer, plots
from neumap.cli import main
from neumap.cli.errors import CommandError
from neumap.scanpy import Atlas, from_atlas, load_atlas
from neumap.scanpy import neumap as embed_cells

ROOT = Path(__file__).parents[1]
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Z = X[:, :2].astype(np.float64)
KINDS = np.array(["u", "v"])[np.arange(40) % 2]
QUICK = "--preset fast --n-epochs 1 --quiet"


@dataclass(frozen=True)
class Case:
    """Something that fails, the advice in its message, and what follows the advice."""

    fails: Callable[[], Any]
    advice: str
    works: Callable[[], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advice")
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=KINDS)
    frame.to_csv(folder / "rows.csv", index=False)
    np.save(folder / "rows.npy", X)
    np.save(folder / "kinds.npy", KINDS)
    np.savez(folder / "two.npz", first=X, second=2 * X, kinds=KINDS)
    assert main(shlex.split(f"fit {folder}/rows.csv -o {folder}/m.neumap {LABELLED} {QUICK}")) == 0
    return folder


LABELLED = "--label-column kind"
FIT = f"fit rows.csv -o out.neumap {QUICK}"
OUT = f"-o out.neumap {QUICK}"


def command(line: str) -> Callable[[], None]:
    """Run a command line; its error is raised here."""

    def run() -> None:
        assert main(["--traceback", *shlex.split(line)]) == 0

    return run


def csv(text: str, options: str = "") -> Callable[[], None]:
    """Fit to a table of this text, whose lines are repeated until there are enough rows."""

    def run() -> None:
        head, *rows = text.splitlines()
        Path("t.csv").write_text("\n".join([head, *rows]) + "\n")
        command(f"fit t.csv {OUT} --n-neighbors 2 {options}")()

    return run


def saved(name: str, array: Any, line: str) -> Callable[[], None]:
    def run() -> None:
        np.save(name, array)
        command(line)()

    return run


def renamed(old: str, new: str, line: str) -> Callable[[], None]:
    def run() -> None:
        Path(old).rename(new)
        command(line)()

    return run


def archive_as_npy() -> None:
    Path("archive.npy").write_bytes(Path("two.npz").read_bytes())
    command(f"fit archive.npy {OUT}")()


def array_as_npz() -> None:
    Path("array.npz").write_bytes(Path("rows.npy").read_bytes())
    command(f"fit array.npz {OUT}")()


def unfitted() -> None:
    ParametricUMAP().save("unfitted.neumap")
    command("info unfitted.neumap")()


def in_folder() -> None:
    Path("new").mkdir()
    command(f"fit rows.npy -o new/m.neumap {QUICK}")()


def numbers_at_first(line: str) -> Callable[[], None]:
    """Run a command on a table with a column of numbers before those that are wanted."""

    def run() -> None:
        table = pd.DataFrame(X, columns=list("abcd"))
        table.insert(0, "id", np.arange(len(X)))
        table.to_csv("numbered.csv", index=False)
        command(line)()

    return run


def of_cells(line: str) -> Callable[[], None]:
    """Run a command where a model was fitted on an array of obsm."""

    def run() -> None:
        cells = anndata.AnnData(X)
        cells.obsm["X_pca"] = X[:, :3]
        cells.write_h5ad("cells.h5ad")
        command(f"fit cells.h5ad --key X_pca -o cells.neumap {QUICK}")()
        command(line)()

    return run


def named_embedding(line: str) -> Callable[[], None]:
    """Run a command on a table with a column that is called as the positions in an ``.npz``."""

    def run() -> None:
        table = pd.DataFrame(X, columns=list("abcd")).assign(embedding=KINDS)
        table.to_csv("named.csv", index=False)
        command(line)()

    return run


WIDE = "1,2\n3,4\n5,6\n7,9\n"


def images(sizes: list[tuple[int, int]], line: str, *, damaged: bool = False) -> Callable[[], None]:
    """Run a command on a folder ``pictures/u`` of images of these sizes."""

    def run() -> None:
        folder = Path("pictures", "u")
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        for number, (width, height) in enumerate(sizes):
            pixels = random.integers(0, 255, (height, width), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
        broken = folder / "broken.png"
        broken.unlink(missing_ok=True)
        if damaged:
            broken.write_bytes(b"no image")
        command(line)()

    return run


def resized(line: str) -> Callable[[], None]:
    """Run a command where a model was fitted on images that were resized."""

    def run() -> None:
        images([(8, 8)] * 20, f"fit pictures {OUT} --image-size 4")()
        command(line)()

    return run


def cells(line: str, *, names_differ: bool = True, without_x: bool = False) -> Callable[[], None]:
    """Run a command on a file of 40 cells."""

    def run() -> None:
        adata = anndata.AnnData(None if without_x else X, obsm={"X_pca": X})
        if not without_x:
            adata.var_names = ["a", "b", "c", "d" if names_differ else "a"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Variable names are not unique", UserWarning)
            adata.write_h5ad("cells.h5ad")
            command(line)()

    return run


def vectors(line: str, n_rows: int = 40) -> Callable[[], None]:
    """Run a command on a table with a column of vectors and one of numbers."""

    def run() -> None:
        part = X[:n_rows]
        columns = {"vector": part.tolist(), "age": part[:, 0].tolist()}
        schema = pyarrow.schema({"vector": pyarrow.list_(pyarrow.float32()), "age": "float32"})
        parquet.write_table(pyarrow.table(columns, schema=schema), "vectors.parquet")
        command(line)()

    return run


def of_vectors(line: str, n_rows: int = 40) -> Callable[[], None]:
    """Fit a model to the vectors, and run a command with it."""

    def run() -> None:
        vectors(f"fit vectors.parquet -o v.neumap {QUICK} --vector-column vector")()
        vectors(line, n_rows)()

    return run


SIXTEEN = [(4, 4)] * 16
NAMED = f"fit vectors.parquet {OUT} --vector-column vector --names x y --coordinates"
PLACE = "transform v.neumap vectors.parquet -o placed.parquet --quiet"

COMMAND = [
    Case(
        command(f"fit rows.npy {OUT} --resume"),
        "Name it with --checkpoint",
        command(f"fit rows.npy {OUT} --resume --checkpoint training.neumap"),
    ),
    Case(
        images(SIXTEEN, f"fit pictures {OUT} {LABELLED}"),
        "Write --label-column folder",
        images(SIXTEEN, f"fit pictures {OUT} --label-column folder"),
    ),
    Case(
        images(SIXTEEN, f"fit pictures {OUT}", damaged=True),
        "Remove it, or write it again",
        images(SIXTEEN, f"fit pictures {OUT}"),
    ),
    Case(
        images([*SIXTEEN, (5, 3)], f"fit pictures {OUT}"),
        "Resize all, for example with --image-size 4x4",
        images([*SIXTEEN, (5, 3)], f"fit pictures {OUT} --image-size 4x4"),
    ),
    Case(
        images(SIXTEEN, f"fit pictures {OUT} --image-size 4by4"),
        "Write for example --image-size 32x32",
        images(SIXTEEN, f"fit pictures {OUT} --image-size 32x32"),
    ),
    Case(
        cells(f"fit cells.h5ad {OUT}", without_x=True),
        "Choose one of 'X_pca' with --key",
        cells(f"fit cells.h5ad {OUT} --key X_pca", without_x=True),
    ),
    Case(
        cells(f"fit cells.h5ad {OUT}", names_differ=False),
        "Call var_names_make_unique()",
        cells(f"fit cells.h5ad {OUT}"),
    ),
    Case(
        vectors(f"fit vectors.parquet {OUT} --keep-columns --vector-column vector"),
        "Name it with --coordinates",
        vectors(
            f"fit vectors.parquet {OUT} --keep-columns --vector-column vector --coordinates c.csv"
        ),
    ),
    *(
        Case(
            vectors(f"{NAMED} c.npy"),
            "Write a .csv or a .parquet file",
            vectors(f"{NAMED} {right}"),
        )
        for right in ("c.csv", "c.parquet")
    ),
    Case(
        vectors(f"fit vectors.parquet {OUT}"),
        "Name the vectors with --vector-column, or leave columns out with --ignore-column",
        vectors(f"fit vectors.parquet {OUT} --vector-column vector"),
    ),
    Case(
        vectors(f"fit vectors.parquet {OUT}"),
        "Name the vectors with --vector-column, or leave columns out with --ignore-column",
        vectors(f"fit vectors.parquet {OUT} --ignore-column vector"),
    ),
    Case(
        vectors(f"fit vectors.parquet {OUT} --vector-column age"),
        "Name another one",
        vectors(f"fit vectors.parquet {OUT} --vector-column vector"),
    ),
    Case(
        of_vectors(f"{PLACE} --names x"),
        "Write them behind --names, before the next option",
        of_vectors(f"{PLACE} --names x y"),
    ),
    Case(
        of_vectors(f"{PLACE} --keep-columns --names age y"),
        "Choose other names, such as --names x y",
        of_vectors(f"{PLACE} --keep-columns --names x y"),
    ),
    Case(of_vectors(PLACE, n_rows=0), "Choose another one", of_vectors(PLACE)),
    Case(
        command("explore m.neumap rows.npy -o page.html --image-shape 2"),
        "Write for example --image-shape 28x28",
        command("explore m.neumap rows.npy -o page.html --image-shape 2x2"),
    ),
    Case(
        archive_as_npy,
        "Rename it to .npz",
        renamed("archive.npy", "archive.npz", f"fit archive.npz {OUT} --key first"),
    ),
    Case(
        array_as_npz, "Rename it to .npy", renamed("array.npz", "array.npy", f"fit array.npy {OUT}")
    ),
    Case(
        command(f"fit two.npz {OUT}"),
        "Choose one with --key NAME",
        command(f"fit two.npz {OUT} --key first"),
    ),
    Case(
        command(f"fit rows.npy {OUT} {LABELLED}"),
        "Give 'labels.npy' or 'file.npz:key'",
        command(f"fit rows.npy {OUT} --label-column kinds.npy"),
    ),
    Case(
        command(f"fit rows.npy {OUT} {LABELLED}"),
        "Give 'labels.npy' or 'file.npz:key'",
        command(f"fit rows.npy {OUT} --label-column two.npz:kinds"),
    ),
    Case(
        saved("words.npy", X.astype(str), f"fit words.npy {OUT}"),
        "Convert it first",
        saved("words.npy", X.astype(str).astype(float), f"fit words.npy {OUT}"),
    ),
    Case(
        saved("flat.npy", X.ravel(), f"fit flat.npy {OUT}"),
        "Reshape it to (n_rows, n_columns)",
        saved("flat.npy", X.ravel().reshape(40, 4), f"fit flat.npy {OUT}"),
    ),
    Case(
        saved("gaps.npy", np.where(X > 2, np.nan, X), f"fit gaps.npy {OUT}"),
        "fill or drop such rows",
        saved("gaps.npy", np.nan_to_num(np.where(X > 2, np.nan, X)), f"fit gaps.npy {OUT}"),
    ),
    Case(
        saved("huge.npy", X * np.float64(1e300), f"fit huge.npy {OUT}"),
        "Rescale",
        saved("huge.npy", X * np.float64(1e300) / 1e300, f"fit huge.npy {OUT}"),
    ),
    *(
        Case(
            command(FIT),
            "--label-column, --id-column or --ignore-column",
            command(f"{FIT} {option} kind"),
        )
        for option in ("--label-column", "--id-column", "--ignore-column")
    ),
    Case(
        command(
            f"{FIT} {LABELLED} --ignore-column a --ignore-column b --ignore-column c "
            "--ignore-column d"
        ),
        "name fewer as label, id or ignored",
        command(f"{FIT} --ignore-column a --ignore-column b --ignore-column c {LABELLED}"),
    ),
    Case(
        csv("x,y\na,1,2\na,3,4\nb,5,6\n"),
        "Name every column in the header",
        csv("n,x,y\na,1,2\na,3,4\nb,5,6\n", "--ignore-column n"),
    ),
    Case(
        csv("x,y\n1,234.5,2\n2,345.5,4\n3,456,7"),
        "remove thousands separators",
        csv("x,y\n1234.5,2\n2345.5,4\n3456,7"),
    ),
    Case(
        csv("x,y,t\n1,2,a\n3,4,b,c\n5,6,d", "--label-column t"),
        "put quotes around cells with ',' in them",
        csv('x,y,t\n1,2,a\n3,4,"b,c"\n5,6,d', "--label-column t"),
    ),
    Case(
        csv('x,y\n1.5,2\n"1,234.5",4\n5,6'),
        "write no thousands separators",
        csv('x,y\n1.5,2\n"1234.5",4\n5,6'),
    ),
    Case(
        csv("x;y\n1.5;2\n3;4\n5,5;6", "--decimal ."),
        "name another mark with --decimal",
        csv("x;y\n1,5;2\n3;4\n5,5;6", "--decimal ,"),
    ),
    Case(
        csv("x,y\n1,2\n3,4\n5,a"),
        "leave the column out with --ignore-column",
        csv("x,y\n1,2\n3,4\n5,a", "--ignore-column y"),
    ),
    Case(
        csv("x;y\n1,234;2\n3,456;4\n5,678;6"),
        "say so with --decimal ','",
        csv("x;y\n1,234;2\n3,456;4\n5,678;6", "--decimal ,"),
    ),
    Case(
        csv("x;y\n1.234;2\n3.456;4\n5.678;6"),
        "say so with --decimal '.'",
        csv("x;y\n1.234;2\n3.456;4\n5.678;6", "--decimal ."),
    ),
    Case(
        csv("x;y\n1.234;2\n3.456;4\n5.678;6"), "else remove it", csv("x;y\n1234;2\n3456;4\n5678;6")
    ),
    Case(
        csv("x;y\n1,5;2.5\n3;4\n5;6"),
        "Remove thousands separators, or write all numbers alike",
        csv("x;y\n1,5;2,5\n3;4\n5;6"),
    ),
    Case(
        csv("x\n1,5\n2,5\n7,5"),
        "Name it, for example with --delimiter ','",
        csv("x\n1,5\n2,5\n7,5", "--delimiter ','"),
    ),
    Case(
        csv("x\n1,5\n2,5\n7,5"),
        "or the decimal mark with --decimal",
        csv("x\n1,5\n2,5\n7,5", "--decimal ,"),
    ),
    Case(csv("x,x\n1,2\n3,4\n5,6"), "Rename them", csv("x,y\n1,2\n3,4\n5,6")),
    Case(
        csv("x,,y\n1,2,3\n3,4,5\n5,6,9"),
        "Write one in the first line",
        csv("x,z,y\n1,2,3\n3,4,5\n5,6,9"),
    ),
    Case(csv("x,y\n"), "Add rows", csv("x,y\n1,2\n3,4\n5,6")),
    Case(csv('x,y\n1,2\n"3,4\n5,6'), "Correct this line", csv('x,y\n1,2\n"3",4\n5,6')),
    Case(
        command(f"{FIT} {LABELLED} --delimiter ab"),
        "Write for example --delimiter ';'",
        csv("x;y\n1;2\n3;4\n5;6", "--delimiter ';'"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --set spread"),
        "Write --set spread=1.5",
        command(f"{FIT} {LABELLED} --set spread=1.5"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --set sprad=1.5"),
        "Did you mean 'spread'",
        command(f"{FIT} {LABELLED} --set spread=1.5"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --set zzz=1.5"),
        "See help(neumap.ParametricUMAP)",
        lambda: help_of(ParametricUMAP),
    ),
    Case(
        command(f"{FIT} --supervised --ignore-column kind"),
        "Name their column with --label-column",
        command(f"{FIT} --supervised {LABELLED}"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --set transform_mode=graph"),
        "Use neumap.ParametricUMAP in Python",
        lambda: ParametricUMAP(transform_mode="graph", n_epochs=1).fit_transform(X),
    ),
    Case(
        command(f"{FIT} {LABELLED} --device meta"),
        "Use device='auto' or 'cpu'",
        command(f"{FIT} {LABELLED} --device cpu"),
    ),
    Case(
        command("transform rows.csv rows.csv -o o.csv"),
        "Run 'neumap fit' first",
        command("transform m.neumap rows.csv -o o.csv"),
    ),
    Case(unfitted, "Write it with 'neumap fit'", command("info m.neumap")),
    Case(unfitted, "save it after fit", lambda: fitted_and_saved("unfitted.neumap")),
    Case(
        numbers_at_first("transform five.neumap numbered.csv -o o.csv"),
        "Name the label and id columns",
        numbers_at_first("transform five.neumap numbered.csv -o o.csv --id-column id"),
    ),
    Case(
        saved("wide.npy", np.hstack([X, X]), "transform m.neumap wide.npy -o o.csv"),
        "Use the same columns",
        saved("wide.npy", X, "transform m.neumap wide.npy -o o.csv"),
    ),
    Case(
        of_cells("transform cells.neumap cells.h5ad -o o.csv"),
        "Choose the array of the fit with --key",
        of_cells("transform cells.neumap cells.h5ad --key X_pca -o o.csv"),
    ),
    Case(
        resized("transform out.neumap pictures -o o.csv"),
        "Resize the images as for the fit, with --image-size",
        resized("transform out.neumap pictures -o o.csv --image-size 4"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --seed 1 --set random_state=2"),
        "Leave one of them out",
        command(f"{FIT} {LABELLED} --set random_state=2"),
    ),
    Case(
        command(f"{FIT} {LABELLED} --set classifier_loss_weight=1"),
        "Add it, with --label-column",
        command(f"{FIT} {LABELLED} --set classifier_loss_weight=1 --supervised"),
    ),
    Case(
        named_embedding("transform m.neumap named.csv -o o.npz --keep-columns"),
        "Write a .csv or a .parquet file",
        named_embedding("transform m.neumap named.csv -o o.parquet --keep-columns"),
    ),
    Case(
        saved("narrow.npy", X[:, :3], "transform m.neumap narrow.npy -o o.csv"),
        "Use the same columns",
        saved("narrow.npy", X, "transform m.neumap narrow.npy -o o.csv"),
    ),
    Case(
        command("plot rows.csv rows.csv -o p.png"),
        "Leave it out",
        command(f"plot coordinates.csv -o p.png {LABELLED}"),
    ),
    Case(
        command(f"plot m.neumap -o p.png {LABELLED}"),
        "Give the table with this column",
        command(f"plot m.neumap rows.csv -o p.png {LABELLED}"),
    ),
    Case(
        command(f"plot rows.csv -o p.png {LABELLED}"),
        "name the columns that are no coordinates",
        command(f"plot rows.csv -o p.png {LABELLED} --ignore-column a --ignore-column b"),
    ),
    Case(
        command("plot five.neumap rows.npy -o p.png"),
        "Fit with --n-components 2",
        command(f"fit rows.csv {OUT} {LABELLED} --n-components 2"),
    ),
    Case(
        command(f"fit m.neumap {OUT}"),
        "Convert the file to one of these",
        command(f"fit rows.npy {OUT}"),
    ),
    Case(
        command("transform m.neumap rows.csv -o o.txt"),
        "Change the ending",
        command("transform m.neumap rows.csv -o o.csv"),
    ),
    Case(command(f"fit rows.npy -o new/m.neumap {QUICK}"), "Create it first", in_folder),
    Case(
        command("plot m.neumap rows.csv -o p.png --theme x"),
        "Use one of these names",
        command("plot m.neumap rows.csv -o p.png --theme dark"),
    ),
]


def fitted_and_saved(name: str) -> None:
    ParametricUMAP(preset="fast", n_epochs=1).fit(X).save(name)
    command(f"info {name}")()


def help_of(thing: type) -> None:
    assert "spread" in (thing.__doc__ or "")


@pytest.mark.parametrize("case", COMMAND, ids=lambda case: case.advice)
def test_advice_of_the_command(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: Case
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    command(f"transform m.neumap rows.csv -o coordinates.csv {LABELLED}")()
    command(f"fit rows.npy -o five.neumap {QUICK} --n-components 5")()
    with pytest.raises((CommandError, ClickException, ValueError)) as caught:
        case.fails()
    message = caught.value.message if isinstance(caught.value, ClickException) else caught.value
    assert case.advice in str(message)
    case.works()


# ------------------------------------------------------------------------------------- plots

GRAPH = kneighbors_graph(Z, 5)
ONE = np.where(np.arange(40)[:, None] == 0, np.nan, Z)
FRACTIONS = np.linspace(0, 1, 400) + 0.001
MANY = np.random.default_rng(1).normal(size=(400, 2))
MODEL = PCA(2).fit(X)


class Embedded:
    def __init__(self, embedding: np.ndarray) -> None:
        self.embedding_ = embedding


PICTURES = [
    Case(
        lambda: plots.explanation(3.0),
        "Pass what model.explain(X) returns",
        lambda: plots.explanation(ParametricUMAP(preset="fast", n_epochs=1).fit(X).explain(X)),
    ),
    Case(
        lambda: plots.explanation([[1.0, np.nan], [1.0, 2.0]]),
        "Leave out the rows where they are not",
        lambda: plots.explanation([[1.0, 2.0]]),
    ),
    Case(
        lambda: plots.explanation([1.0, 2.0], names=["a"]),
        "Leave names out to use numbers",
        lambda: plots.explanation([1.0, 2.0]),
    ),
    Case(
        lambda: plots.loss([1.0]),
        "Pass the fitted object's history_",
        lambda: plots.loss(ParametricUMAP(preset="fast", n_epochs=1).fit(X).history_),
    ),
    Case(
        lambda: plots.loss({"loss": [1.0]}, components=["x"]),
        "Leave components out",
        lambda: plots.loss({"loss": [1.0]}),
    ),
    Case(
        lambda: plots.loss({"loss": [0.0, 1.0]}, log=True),
        "Pass log=False",
        lambda: plots.loss({"loss": [0.0, 1.0]}, log=False),
    ),
    Case(
        lambda: plots.loss({"a_loss": [0.0, 1.0], "loss": [1.0, 2.0]}, log=True),
        "leave these names out of components",
        lambda: plots.loss(
            {"a_loss": [0.0, 1.0], "loss": [1.0, 2.0]}, log=True, components=["loss"]
        ),
    ),
    Case(
        lambda: plots.connectivity((Z, GRAPH), edge_bundling="x"),
        "Use None for straight edges",
        lambda: plots.connectivity((Z, GRAPH), edge_bundling=None),
    ),
    Case(
        lambda: plots.nearest_neighbour_distribution(3),
        "Pass one of these",
        lambda: plots.nearest_neighbour_distribution(GRAPH),
    ),
    Case(
        lambda: plots.save(plots.points(Z), "p.html"),
        "Change the ending",
        lambda: plots.save(plots.points(Z), "p.png"),
    ),
    Case(
        lambda: plots.save(plots.interactive(Z), "p.png"),
        "Change the ending",
        lambda: plots.save(plots.interactive(Z), "p.html"),
    ),
    Case(
        lambda: plots.save(plots.interactive(Z), "p.png"),
        "or pass matplotlib axes",
        lambda: plots.save(plots.points(Z), "p.png"),
    ),
    Case(
        lambda: plots.points(X[:, :3], ax=plt.figure().add_subplot()),
        "Create them with figure.add_subplot(projection='3d') for three components",
        lambda: plots.points(X[:, :3], ax=plt.figure().add_subplot(projection="3d")),
    ),
    Case(
        lambda: plots.points(Z, ax=plt.figure().add_subplot(projection="3d")),
        "without projection for two",
        lambda: plots.points(Z, ax=plt.figure().add_subplot()),
    ),
    *(
        Case(
            lambda draw=draw: draw(Z, labels=KINDS, values=Z[:, 0]),
            "pass the classes as `labels`",
            lambda draw=draw: (draw(Z, labels=KINDS), draw(Z, values=Z[:, 0])),
        )
        for draw in (plots.points, plots.interactive)
    ),
    *(
        Case(
            lambda draw=draw: draw(Z, alpha=2),
            "Use 1 for opaque points",
            lambda draw=draw: draw(Z, alpha=1),
        )
        for draw in (plots.points, plots.interactive)
    ),
    Case(
        lambda: plots.interactive(Z, labels=KINDS, values=Z[:, 0]),
        "and the other in hover_data",
        lambda: plots.interactive(Z, labels=KINDS, hover_data={"v": Z[:, 0]}),
    ),
    Case(
        lambda: plots.interactive(Z, interactive_text_search=True),
        "Pass labels or hover_data",
        lambda: plots.interactive(Z, labels=KINDS, interactive_text_search=True),
    ),
    Case(
        lambda: plots.interactive(
            Z, labels=KINDS, interactive_text_search=True, interactive_text_search_columns=["x"]
        ),
        "or name their columns",
        lambda: plots.interactive(
            Z, labels=KINDS, interactive_text_search=True, interactive_text_search_columns=["label"]
        ),
    ),
    Case(
        lambda: plots.interactive(Z, hover_data=[1, 2]),
        "Use {'name': sequence}",
        lambda: plots.interactive(Z, hover_data={"name": KINDS}),
    ),
    Case(
        lambda: plots.interactive(Z, hover_data={"n": KINDS[:3]}, subset_points=[0, 1, 2]),
        "Give one entry per point of the whole embedding",
        lambda: plots.interactive(Z, hover_data={"n": KINDS}, subset_points=[0, 1, 2]),
    ),
    Case(
        lambda: plots.reconstruction(X, X[:3], dims=(2, 2)),
        "Reconstruct exactly the rows that you pass",
        lambda: plots.reconstruction(X[:3], X[:3], dims=(2, 2)),
    ),
    Case(
        lambda: plots.reconstruction(X, X, dims=(3, 2)),
        "Pass dims that fit the data",
        lambda: plots.reconstruction(X, X, dims=(2, 2)),
    ),
    Case(
        lambda: plots.inverse_grid(Z, dims=(2, 2)),
        "Pass inverse_transform",
        lambda: plots.inverse_grid(Z, MODEL.inverse_transform, dims=(2, 2)),
    ),
    Case(
        lambda: plots.inverse_grid(Z, MODEL.inverse_transform, dims=(2, 2), n=0),
        "Try n=20",
        lambda: plots.inverse_grid(Z, MODEL.inverse_transform, dims=(2, 2), n=20),
    ),
    Case(
        lambda: plots.inverse_grid(Z, lambda z: z[:1], dims=(1, 2)),
        "Check inverse_transform",
        lambda: plots.inverse_grid(Z, lambda z: z, dims=(1, 2)),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="neighborhood", nhood_size=99),
        "Choose a number in this range",
        lambda: plots.diagnostic(Z, X, kind="neighborhood", nhood_size=40),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="pca", diagnostic_type="ica"),
        "Leave all but diagnostic_type out",
        lambda: plots.diagnostic(Z, X, diagnostic_type="ica"),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="x"),
        "Choose one of these",
        lambda: plots.diagnostic(Z, X, kind="pca"),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="all", ax=plt.figure().add_subplot()),
        "Leave ax out",
        lambda: plots.diagnostic(Z, X, kind="all"),
    ),
    Case(
        lambda: plots.diagnostic(ONE, X, kind="pca"),
        "Leave these rows out of the embedding and of X",
        lambda: plots.diagnostic(ONE[1:], X[1:], kind="pca"),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="neighborhood", neighbors=np.zeros((3, 5), dtype=int)),
        "Pass the indices of the graph",
        lambda: plots.diagnostic(Z, X, kind="neighborhood", neighbors=neighbors_of_all(15)),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="neighborhood", neighbors=neighbors_of_all(3)),
        "Lower nhood_size",
        lambda: plots.diagnostic(
            Z, X, kind="neighborhood", neighbors=neighbors_of_all(3), nhood_size=3
        ),
    ),
    Case(
        lambda: plots.diagnostic(Z, X, kind="neighborhood", neighbors=neighbors_of_all(3)),
        "or search for more neighbours",
        lambda: plots.diagnostic(Z, X, kind="neighborhood", neighbors=neighbors_of_all(15)),
    ),
    Case(
        lambda: plots.diagnostic(Z, kind="pca"),
        "Pass X, the array given to fit",
        lambda: plots.diagnostic(Z, X, kind="pca"),
    ),
    Case(
        lambda: plots.diagnostic(Z, X[:3], kind="pca"),
        "Pass the rows that this embedding was computed from",
        lambda: plots.diagnostic(Z, X, kind="pca"),
    ),
    Case(
        lambda: plots.points(ParametricUMAP()),
        "Fit the object first",
        lambda: plots.points(ParametricUMAP(preset="fast", n_epochs=1).fit(X)),
    ),
    Case(
        lambda: plots.points(ParametricUMAP()),
        "or pass the array of positions",
        lambda: plots.points(Z),
    ),
    Case(
        lambda: plots.points(X),
        "Select columns, such as embedding[:, :2]",
        lambda: plots.points(X[:, :2]),
    ),
    Case(
        lambda: plots.points(X),
        "or fit with n_components=2",
        lambda: plots.points(ParametricUMAP(n_components=2, preset="fast", n_epochs=1).fit(X)),
    ),
    Case(lambda: plots.points(Z * np.nan), "Check that the fit converged", lambda: plots.points(Z)),
    Case(
        lambda: plots.connectivity((Z, None)),
        "Pass a fitted object with `graph_`",
        lambda: plots.connectivity(ParametricUMAP(preset="fast", n_epochs=1).fit(X)),
    ),
    Case(
        lambda: plots.connectivity(Embedded(Z)),
        "or the pair (embedding, graph)",
        lambda: plots.connectivity((Embedded(Z), GRAPH)),
    ),
    Case(
        lambda: plots.connectivity((Z, sparse.eye(3))),
        "Pass the graph that this embedding was computed from",
        lambda: plots.connectivity((Z, GRAPH)),
    ),
    Case(
        lambda: plots.points(Z, subset_points=[0.5]),
        "Use mask = labels == 3",
        lambda: plots.points(Z, subset_points=np.arange(40) % 4 == 3),
    ),
    Case(
        lambda: plots.points(Z, subset_points=[99]),
        "Use indices into the whole embedding",
        lambda: plots.points(Z, subset_points=[39]),
    ),
    Case(
        lambda: plots.points(Z, subset_points=[True]),
        "Give one boolean per point",
        lambda: plots.points(Z, subset_points=[True] * 40),
    ),
    Case(
        lambda: plots.points(Z, labels=KINDS[:3]),
        "and choose rows with subset_points",
        lambda: plots.points(Z, labels=KINDS, subset_points=[0, 1, 2]),
    ),
    Case(
        lambda: plots.points(MANY, labels=FRACTIONS),
        "Pass them as `values`",
        lambda: plots.points(MANY, values=FRACTIONS),
    ),
    Case(
        lambda: plots.points(Z, values=KINDS),
        "Pass names of classes as `labels`",
        lambda: plots.points(Z, labels=KINDS),
    ),
    Case(
        lambda: plots.points(Z, renderer="x"),
        "Use 'auto'",
        lambda: plots.points(Z, renderer="auto"),
    ),
    Case(
        lambda: plots.points(Z, theme="x"),
        "Use one of these names",
        lambda: plots.points(Z, theme="dark"),
    ),
    Case(
        lambda: plots.points(Z, theme="x"),
        "or a neumap.plots.Theme",
        lambda: plots.points(Z, theme=a_theme()),
    ),
    Case(
        lambda: plots.points(Z, values=Z[:, 0], cmap="x"),
        "Use a matplotlib name such as 'viridis'",
        lambda: plots.points(Z, values=Z[:, 0], cmap="viridis"),
    ),
    Case(
        lambda: plots.points(Z, labels=KINDS, color_key={"u": "red"}),
        "Add these labels",
        lambda: plots.points(Z, labels=KINDS, color_key={"u": "red", "v": "blue"}),
    ),
    Case(
        lambda: plots.points(Z, labels=KINDS, color_key=["red"]),
        "Give more colours",
        lambda: plots.points(Z, labels=KINDS, color_key=["red", "blue"]),
    ),
    *(
        Case(
            lambda key=key: plots.points(Z, labels=KINDS, color_key=key),
            "or leave color_key out",
            lambda: plots.points(Z, labels=KINDS),
        )
        for key in ({"u": "red"}, ["red"])
    ),
]


def neighbors_of_all(n_neighbors: int) -> np.ndarray:
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    return np.argsort(distances, axis=1)[:, :n_neighbors]


def a_theme() -> Any:
    from neumap.plots import Theme
    from neumap.plots.themes import THEMES

    assert isinstance(THEMES["dark"], Theme)
    return THEMES["dark"]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.advice)
def test_advice_of_the_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError)) as caught:
        case.fails()
    assert case.advice in str(caught.value)
    case.works()


def test_an_index_that_does_not_exist_is_the_one_that_is_named() -> None:
    with pytest.raises(ValueError, match=r"got -41\."):
        plots.points(Z, subset_points=[0, -41, 39])


# ---------------------------------------------------------------------------------- explorer


@functools.cache
def mapped(n_components: int = 2) -> ParametricUMAP:
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "random_state": 0}
    return ParametricUMAP(n_components=n_components, **settings).fit(X)


def explored(model: Any = None, rows: Any = X, **known: Any) -> None:
    explorer.show(mapped() if model is None else model, rows, **known)


class Unplaced:
    """A map that places no row that holds anything."""

    n_features_in_ = 4

    def transform(self, rows: np.ndarray) -> np.ndarray:
        return np.where(rows[:, :2] != 0, np.nan, 0.0)


SINGLE = np.arange(66_000).astype(str)
EXPLORER = [
    Case(
        lambda: explored(images=np.zeros((40, 4))),
        "Pass one grey or RGB image per row of X",
        lambda: explored(images=np.zeros((40, 2, 2, 3))),
    ),
    Case(
        lambda: explored(image_shape=(3, 3)),
        "Pass the shape of one row",
        lambda: explored(image_shape=(2, 2)),
    ),
    Case(lambda: explored(mapped(3)), "Fit one with n_components=2", lambda: explored(mapped(2))),
    Case(
        lambda: explored(Unplaced()),
        "Check the rows",
        lambda: explored(Unplaced(), np.zeros((40, 4))),
    ),
    Case(
        lambda: explored(texts=["a"]),
        "Pass one text per row of X",
        lambda: explored(texts=["a"] * 40),
    ),
    Case(
        lambda: explored(snapshots=[(1, Z[:9])]),
        "Pass the rows that the model was fitted to",
        lambda: explored(snapshots=[(1, Z)]),
    ),
    Case(
        lambda: explored(Unplaced(), np.zeros((66_000, 4)), labels=SINGLE),
        "Pass names of single rows as texts",
        lambda: explored(Unplaced(), np.zeros((66_000, 4)), texts=SINGLE),
    ),
    Case(
        lambda: explored(labels=KINDS, values=X[:, 0]),
        "pass the classes as `labels` or the numbers as `values`, and the other in texts",
        lambda: explored(values=X[:, 0], texts=KINDS),
    ),
    Case(
        lambda: explored(path="page.png"),
        "Change the ending",
        lambda: explored(path="page.html"),
    ),
]


@pytest.mark.parametrize("case", EXPLORER, ids=lambda case: case.advice)
def test_advice_of_the_explorer(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(case.advice)):
        case.fails()
    case.works()


# ------------------------------------------------------------------------------------ scanpy


def cells() -> anndata.AnnData:
    obs = pd.DataFrame({"kind": KINDS}, index=[f"c{at}" for at in range(40)])
    return anndata.AnnData(X, obs=obs)


FAST: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "n_neighbors": 5}


def reference() -> anndata.AnnData:
    """Return cells with principal components, a map, and a layer with what both come from."""
    made = cells()
    components = np.linalg.svd(X - X.mean(0))[2][:3].T
    made.varm["PCs"], made.obsm["X_pca"] = components, (X - X.mean(0)) @ components
    made.obsm["X_umap"], made.layers["scaled"] = Z, X.copy()
    return made


def changed(**parts: Any) -> anndata.AnnData:
    made = reference()
    for name, value in parts.items():
        if name == "PCs":
            made.varm[name] = value
        else:
            setattr(made, name, value)
    return made


def read_again(made: anndata.AnnData) -> anndata.AnnData:
    made.write_h5ad("again.h5ad")
    return anndata.read_h5ad("again.h5ad")


def atlas(**arguments: Any) -> Atlas:
    return from_atlas(reference(), **FAST, **arguments)


def repeated() -> anndata.AnnData:
    made = cells()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own
        made.var_names = ["0", "0", "2", "3"]
    return made


def made_unique(made: anndata.AnnData) -> anndata.AnnData:
    made.var_names_make_unique()
    return made


def warned(call: Callable[[], Any]) -> None:
    with pytest.warns(UserWarning, match="query lacks"):
        call()


def damaged() -> Path:
    file = atlas().save("broken") / "genes.npz"
    file.write_bytes(file.read_bytes()[:-40])
    return file.parent


SCANPY = [
    Case(
        lambda: embed_cells(X),
        "For arrays and tables call estimator.fit_transform(X)",
        lambda: ParametricUMAP(**FAST).fit_transform(X),
    ),
    Case(
        lambda: embed_cells(cells(), **FAST),
        "or pass one of these",
        lambda: embed_cells(cells(), use_rep="X", **FAST),
    ),
    Case(
        lambda: embed_cells(cells(), use_rep="X", labels="x", **FAST),
        "Pass one of these",
        lambda: embed_cells(cells(), use_rep="X", labels="kind", **FAST),
    ),
    Case(
        lambda: embed_cells(cells(), use_rep="X", output_dens=True, **FAST),
        "Turn off options that return more or other results, such as output_dens",
        lambda: embed_cells(cells(), use_rep="X", output_dens=False, **FAST),
    ),
    Case(
        lambda: from_atlas("cells.h5ad", **FAST),
        "Read the cells first, for example with anndata.read_h5ad(file)",
        lambda: from_atlas(read_again(reference()), **FAST),
    ),
    Case(
        lambda: from_atlas(reference(), "X_tsne", **FAST),
        "Pass the key of the map",
        lambda: from_atlas(reference(), "X_umap", **FAST),
    ),
    Case(
        lambda: from_atlas(reference(), use_rep="X_scVI", **FAST),
        "Pass what the map was computed from",
        lambda: from_atlas(reference(), use_rep="X_pca", **FAST),
    ),
    Case(
        lambda: from_atlas(reference(), use_rep="X_umap", layer="scaled", **FAST),
        "Leave layer out",
        lambda: from_atlas(reference(), use_rep="X_umap", **FAST),
    ),
    Case(
        lambda: from_atlas(reference(), layer="counts", **FAST),
        "Pass one of these",
        lambda: from_atlas(reference(), layer="scaled", **FAST),
    ),
    Case(
        lambda: from_atlas(changed(X=None), **FAST),
        "Pass layer, one of ['scaled'], or a representation in obsm as use_rep",
        lambda: from_atlas(changed(X=None), layer="scaled", **FAST),
    ),
    Case(
        lambda: from_atlas(changed(X=np.exp(X)), **FAST),
        "Pass the layer with the values that scanpy.pp.pca saw (normalised, and scaled if they "
        "were), or pass layer and use_rep of another representation",
        lambda: from_atlas(changed(X=np.exp(X)), layer="scaled", **FAST),
    ),
    Case(
        lambda: from_atlas(changed(PCs=np.eye(4)[:, :2]), **FAST),
        "Compute both again with scanpy.pp.pca(adata_ref)",
        lambda: from_atlas(reference(), **FAST),
    ),
    Case(
        lambda: atlas().place(cells()[:, :3].copy()),
        "Pass missing='mean' to let the reference's means stand for them",
        lambda: warned(lambda: atlas().place(cells()[:, :3].copy(), missing="mean")),
    ),
    Case(
        lambda: atlas().place(changed(var_names=list("abcd")), missing="mean"),
        "Give both the same kind of var_names, such as gene symbols",
        lambda: atlas().place(reference(), missing="mean"),
    ),
    Case(
        lambda: atlas().place(repeated(), missing="mean"),
        "Call var_names_make_unique() on it first",
        lambda: warned(lambda: atlas().place(made_unique(repeated()), missing="mean")),
    ),
    Case(
        lambda: atlas().place(cells(), missing="zero"),  # type: ignore[arg-type]
        "Change missing",
        lambda: atlas().place(cells(), missing="mean"),
    ),
    Case(
        lambda: atlas(use_rep="X_umap").place(cells()),
        "Compute it with the model that made it for the reference, such as that of scvi-tools",
        lambda: atlas(use_rep="X_umap").place(reference()),
    ),
    Case(
        lambda: atlas(use_rep="X_umap").place(reference(), missing="mean"),
        "Leave missing out",
        lambda: atlas(use_rep="X_umap").place(reference()),
    ),
    Case(
        lambda: load_atlas(damaged()),
        "Save the atlas again",
        lambda: load_atlas(atlas().save(damaged())),
    ),
]


@pytest.mark.parametrize("case", SCANPY, ids=lambda case: case.advice)
def test_advice_of_scanpy(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, KeyError, ValueError)) as caught:
        case.fails()
    assert case.advice in str(caught.value)
    case.works()


# -------------------------------------------------------------------------------- no one missed

# Advice that only says to give the right thing, or that needs a broken machine.
TRIVIAL = (
    "Check the path.",
    "Choose from these.",
    "Choose one of these.",
    "Choose another array.",
    "Choose another table.",
    "Choose another name.",
    "Choose another folder.",
    "Read a part of it.",
    "Write it again",
    "Save it as UTF-8.",
    "Correct them.",
    "Correct or leave out the wrong one.",
    "is not readable",
    "cannot create this folder",
    "not a number",
    "Give the INPUT to embed.",
    # The advice is put in; both forms are tried above.
    "--set must name a parameter",
    "columns the model was fitted on",
)
RAISED = {"CommandError", "ValueError", "TypeError", "KeyError", "BadParameter"}


def messages(file: Path) -> Iterator[str]:
    """The constant parts of every error message of a file, with ``…`` for what is put in."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        text = node.args[0]
        if name in RAISED and isinstance(text, ast.Constant | ast.JoinedStr):
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts
            )


def test_every_advice_is_tried() -> None:
    source = ROOT / "src" / "neumap"
    rooms = [
        *source.glob("cli/*.py"),
        *source.glob("plots/*.py"),
        *source.glob("explorer/*.py"),
        *source.glob("scanpy/*.py"),
        source / "data" / "anndata.py",
    ]
    tried = [case.advice for case in (*COMMAND, *PICTURES, *EXPLORER, *SCANPY)]
    texts = [text for file in rooms for text in messages(file)]
    assert len(texts) > 90

    def is_tried(text: str) -> bool:
        # Names that are put in differ from case to case.
        return any(
            all(piece in advice for piece in last_sentence(text).split("…")) or advice in text
            for advice in tried
        )

    missed = [t for t in texts if not is_tried(t) and not any(e in t for e in TRIVIAL)]
    assert not missed


def last_sentence(text: str) -> str:
    return text.rstrip(".").rpartition(". ")[2]


def test_every_package_is_installed_by_the_extra_that_a_message_names() -> None:
    import importlib.metadata
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    calls = {
        call
        for file in (ROOT / "src").rglob("*.py")
        for call in re.findall(
            r'require\(\s*"(\w+)[\w.]*", extra="([\w-]+)"', file.read_text("utf-8")
        )
    }
    assert len(calls) > 8
    imported_as = {"PIL": "pillow"}
    for name, extra in calls - {("json", "plot")}:
        package = imported_as.get(name, name)
        installed = {re.match(r"[\w-]+", line)[0] for line in extras[extra]}  # type: ignore[index]
        # An extra that is not part of the test environment has no metadata to read.
        for other in [] if package in installed else list(installed):
            required = importlib.metadata.requires(other) or []
            installed |= {re.match(r"[\w-]+", line)[0] for line in required}  # type: ignore[index]
        assert package in installed, (package, extra)
    assert neumap.__version__
