"""The subcommands. Each reads its files, calls the library and writes the result.

The library is imported inside the commands: ``neumap --help`` must not import torch.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neumap.cli.errors import CommandError
from neumap.cli.options import (
    FILE,
    image_shape,
    input_options,
    keep_option,
    names_option,
    progress_option,
    say,
)
from neumap.cli.table import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ALL"]

PICTURES = (".png", ".pdf", ".svg", ".html")
PAGES = (".html", ".htm")


@click.command()
@click.option(
    "--output",
    type=FILE,
    default=Path("demo-output"),
    show_default=True,
    help="Folder for picture, model and coordinates; created if missing.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),  # scikit-learn's range for the split
    default=0,
    help="Random seed of the split and of the fit.",
)
@click.option("--quick", is_flag=True, help="Compute a rough map in a few seconds.")
@progress_option
def demo(output: Path, seed: int, quick: bool, verbose: bool) -> None:
    """Map scikit-learn's digits, then embed unseen ones."""
    from neumap.cli.demo import run_demo

    run_demo(output, seed=seed, quick=quick, verbose=verbose)


@click.command()
@click.argument("input", type=FILE)
@click.option("-o", "--output", "model_path", type=FILE, required=True, help="Model file to write.")
@click.option("--coordinates", type=FILE, help="Table of the rows' coordinates to write.")
@click.option(
    "--n-neighbors", type=int, help="Neighbours per row; larger values show the global structure."
)
@click.option("--min-dist", type=float, help="Minimum distance between points on the map.")
@click.option("--metric", help="Distance between rows, such as euclidean or cosine.")
@click.option("--n-components", type=int, help="Number of dimensions of the map.")
@click.option(
    "--n-epochs", type=int, help="Training epochs; more are slower and show finer structure."
)
@click.option("--seed", type=int, help="Random seed; the same seed gives the same map.")
@click.option("--preset", help="Trade-off of quality and time: fast, default or best.")
@click.option("--device", help="Device: auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--max-time", type=float, metavar="SECONDS", help="Stop training after this many seconds."
)
@click.option("--checkpoint", type=FILE, help="File to keep the state of the fit in; see --resume.")
@click.option(
    "--resume", is_flag=True, help="Go on from the checkpoint if there is one, else begin anew."
)
@click.option("--supervised", is_flag=True, help="Use the labels as targets of a supervised fit.")
@click.option(
    "--keep",
    type=click.Choice(["network", "map", "data"]),
    help="What the model file holds: the network, positions and graph as well (map, the default), "
    "or all data, which is the default without a network.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other parameter of ParametricUMAP; can be repeated.",
)
@names_option
@keep_option
@input_options
@progress_option
def fit(
    input: Path,
    model_path: Path,
    coordinates: Path | None,
    seed: int | None,
    checkpoint: Path | None,
    resume: bool,
    supervised: bool,
    keep: str | None,
    assignments: tuple[str, ...],
    keep_columns: bool,
    names: list[str] | None,
    selection: Selection,
    verbose: bool,
    **settings: Any,
) -> None:
    """Learn a map of INPUT and write the model."""
    from neumap.cli import models, reading, writing

    models.check_model_output(model_path, input)
    if coordinates is not None:
        writing.check_output(coordinates, tuple(writing.TABLES), input, model_path)
    if checkpoint is not None:
        writing.check_output(checkpoint, (), input, model_path)
    _check_kept(keep_columns, names, coordinates)
    from neumap._ranks import launched_ranks

    with launched_ranks(os.environ) as ranks:
        verbose = verbose and ranks.is_first
        own = {"random_state": seed, "verbose": verbose}
        model = models.make_model(settings | own, assignments)
        models.names_of(model, names)
        resume_from = models.set_checkpoint(model, checkpoint, resume=resume)
        table = reading.read_table(input, replace(selection, keeps=keep_columns))
        if coordinates is not None:
            models.check_written(model, table, names, coordinates)
        targets = models.targets_for(model, table, supervised=supervised)
        say(f"{input}: {_shape(table.rows)}", verbose)
        if resume_from is not None:
            say(f"{resume_from}: the fit goes on from here", verbose)
        started = time.perf_counter()
        with models.values_at_fault(assignments):
            positions = models.fit(model, table, targets, resume_from)
        seconds = time.perf_counter() - started
    if not ranks.is_first:
        return
    models.write_model(model, model_path, keep)
    click.echo(
        f"{model_path}: {_shape(table.rows)} to {positions.shape[1]} in {seconds:.1f} seconds"
    )
    if coordinates is not None:
        writing.write_coordinates(
            coordinates, models.coordinates_of(model, positions, table, names)
        )
        click.echo(f"{coordinates}: {_shape(positions)}")


@click.command()
@click.argument("model", type=FILE)
@click.argument("input", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Table to write.")
@names_option
@keep_option
@input_options
@progress_option
def transform(
    model: Path,
    input: Path,
    output: Path,
    keep_columns: bool,
    names: list[str] | None,
    selection: Selection,
    verbose: bool,
) -> None:
    """Embed the rows of INPUT with a model.

    From .parquet to .parquet the rows are read, placed and written in batches.
    """
    from neumap.cli import batches, models, writing

    writing.check_output(output, tuple(writing.TABLES), input, model)
    _check_kept(keep_columns, names, output)
    fitted = models.load_model(model)
    models.names_of(fitted, names)
    selection = replace(selection, keeps=keep_columns)
    if batches.can_be_batched(fitted, input, output):
        n_rows, n_components = batches.transform_file(
            fitted, input, output, selection, names=names, verbose=verbose
        )
        click.echo(f"{output}: {n_rows:,} rows of {n_components:,} columns")
        return
    table = models.read_rows_for(fitted, input, selection)
    models.check_written(fitted, table, names, output)
    started = time.perf_counter()
    positions = models.place(fitted, table)
    say(f"{_shape(table.rows)} in {time.perf_counter() - started:.2f} seconds", verbose)
    writing.write_coordinates(output, models.coordinates_of(fitted, positions, table, names))
    click.echo(f"{output}: {_shape(positions)}")


def _check_kept(keep_columns: bool, names: list[str] | None, output: Path | None) -> None:
    """Raise for options about columns where no table with columns is written."""
    if not keep_columns and names is None:
        return
    ending = "" if output is None else output.suffix.lower()
    # An .npz keeps columns as arrays, but has one array of positions.
    asked = "--keep-columns" if keep_columns and ending != ".npz" else "--names"
    if output is None:
        raise CommandError(f"{asked} needs a table to write, got none. Name it with --coordinates.")
    if ending == ".npy" or (ending == ".npz" and names is not None):
        raise CommandError(
            f"{asked} needs an output with named columns, got {output.suffix}. Write a .csv or a "
            ".parquet file."
        )


@click.command()
@click.argument("model", type=FILE)
@click.argument("input", type=FILE)
@click.option(
    "--held-out", type=FILE, help="Rows that were not in the training data, scored against INPUT."
)
@click.option(
    "--held-out-label-column",
    metavar="NAME",
    help="Label column of the held-out rows, if it has another name.",
)
@click.option("--samples", type=int, default=2000, help="Number of rows to score; 0 scores all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@input_options
def evaluate(
    model: Path,
    input: Path,
    held_out: Path | None,
    held_out_label_column: str | None,
    samples: int,
    as_json: bool,
    selection: Selection,
) -> None:
    """Score how well a map preserves neighbourhoods."""
    from neumap import metrics
    from neumap.cli import models, reading

    fitted = models.load_model(model)
    table = models.read_rows_for(fitted, input, selection)
    arguments: dict[str, Any] = {"labels": table.labels, "n_samples": samples or None}
    if held_out is not None:
        other = reading.for_another_file(selection, held_out)
        other = replace(other, label=held_out_label_column or selection.label)
        new = models.read_rows_for(fitted, held_out, other)
        arguments |= {
            "X_test": new.rows,
            "embedding_test": models.place(fitted, new),
            "labels_test": new.labels,
        }
    scores = metrics.scores(table.rows, models.place(fitted, table), **arguments)
    click.echo(json.dumps(scores, indent=2) if as_json else score_lines(scores))


@click.command()
@click.argument("source", type=FILE, metavar="MODEL_OR_COORDINATES")
@click.argument("input", type=FILE, required=False)
@click.option(
    "-o", "--output", type=FILE, required=True, help=f"Picture to write: {', '.join(PICTURES)}."
)
@click.option("--theme", help="Theme of the picture, such as light, dark or fire.")
@names_option
@input_options
def plot(
    source: Path,
    input: Path | None,
    output: Path,
    theme: str | None,
    names: list[str] | None,
    selection: Selection,
) -> None:
    """Draw a map as a picture or a web page.

    Takes a table of coordinates, or a model with the INPUT to embed.
    """
    from neumap.cli import models, pictures, writing

    writing.check_output(output, PICTURES, source, *([input] if input else []))
    if models.is_table(source):
        drawn = pictures.from_coordinates(source, input, selection, names)
    elif names is not None:
        raise CommandError("--names needs a table of coordinates, got a model. Leave it out.")
    else:
        drawn = pictures.from_model(source, input, selection)
    pictures.draw(output, drawn, theme)
    click.echo(f"{output}: {len(drawn.positions):,} points")


@click.command()
@click.argument("model", type=FILE)
@click.argument("input", type=FILE)
@click.option(
    "-o", "--output", type=FILE, help="Page to write; without it a page opens in the browser."
)
@click.option("--text-column", metavar="NAME", help="Column (or array) with the text of each row.")
@click.option(
    "--image-shape",
    metavar="HEIGHTxWIDTH",
    callback=image_shape,
    help="Shape of rows that are images, such as 28x28 or 32x32x3.",
)
@click.option("--title", help="Heading of the page; the name of INPUT by default.")
@input_options
def explore(
    model: Path,
    input: Path,
    output: Path | None,
    text_column: str | None,
    image_shape: tuple[int, ...] | None,
    title: str | None,
    selection: Selection,
) -> None:
    """Make a page on which new rows land and any point decodes.

    Shows the rows of INPUT on the map of a model. The page works offline.
    """
    from neumap import explorer
    from neumap.cli import models, pictures, writing

    if output is not None:
        writing.check_output(output, PAGES, model, input)
    fitted = models.load_model(model)
    table, texts = pictures.rows_and_texts(fitted, input, selection, text_column)
    page = explorer.show(
        fitted,
        models.rows_like(fitted, table),
        labels=table.labels,
        texts=None if texts is None else texts.tolist(),
        image_shape=image_shape,
        title=title or input.stem,
    )
    written = page.open() if output is None else page.save(output)
    click.echo(f"{written}: {len(table.rows):,} rows")


@click.command()
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: Path, as_json: bool) -> None:
    """Describe a model and how it was fitted."""
    from neumap.cli import models
    from neumap.cli.description import describe, lines_of

    facts = describe(models.load_model(model), model)
    click.echo(json.dumps(facts, indent=2, default=str) if as_json else lines_of(facts))


def score_lines(scores: dict[str, float]) -> str:
    """Return one line per score, with the name first."""
    width = max(map(len, scores), default=0)
    return "\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items())


def _shape(rows: NDArray[Any]) -> str:
    return f"{rows.shape[0]:,} rows of {rows.shape[1]:,} columns"


ALL = (demo, fit, transform, evaluate, plot, explore, info)
