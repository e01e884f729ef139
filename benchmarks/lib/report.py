"""Medians, ratios and a table of runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

Run = dict[str, Any]

COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("import s", "seconds.import", "{:.1f}".format),
    ("k-NN s", "seconds.neighbors", "{:.2f}".format),
    ("graph s", "seconds.graph", "{:.2f}".format),
    ("train s", "seconds.training", "{:.1f}".format),
    ("fit s", "seconds.fit", "{:.1f}".format),
    ("warm fit s", "seconds.warm_fit", "{:.1f}".format),
    ("new rows/s", "transform.rows_per_second", "{:,.0f}".format),
    ("peak MB", "bytes.peak", lambda value: f"{value / 2**20:,.0f}"),
    ("trust", "scores.trustworthiness", "{:.3f}".format),
    ("contin", "scores.continuity", "{:.3f}".format),
    ("recall@15", "scores.recall@15", "{:.3f}".format),
    ("5-NN", "scores.knn_accuracy", "{:.3f}".format),
    ("silh", "scores.silhouette", "{:.3f}".format),
    ("dist cor", "scores.distance_correlation", "{:.3f}".format),
    ("test trust", "scores.test_trustworthiness", "{:.3f}".format),
    ("test recall", "scores.test_recall@15", "{:.3f}".format),
    ("test 5-NN", "scores.test_knn_accuracy", "{:.3f}".format),
    ("cross ent", "scores.cross_entropy", "{:.3f}".format),
)


def flat(run: Run) -> dict[str, float]:
    """Return the figures of a run with dotted names."""
    return {
        f"{group}.{name}": value
        for group in ("seconds", "bytes", "transform", "scores")
        for name, value in run.get(group, {}).items()
    }


def summarise(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Return the median of each figure over the seeds, one entry per data set and method."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        if run["error"] is None:
            groups.setdefault((run["dataset"], run["method"]), []).append(flat(run))
    return [
        {"dataset": dataset, "method": method, "n_seeds": len(figures), "median": medians(figures)}
        for (dataset, method), figures in groups.items()
    ]


def medians(figures: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for figure in figures for name in figure)
    return {
        name: statistics.median(figure[name] for figure in figures if name in figure)
        for name in names
    }


def ratios(runs: list[Run], ours: str) -> list[dict[str, Any]]:
    """Return the time of each method divided by that of `ours`, the median over seeds.

    The times are those of import and fit in a fresh process. Both runs of a ratio have the same
    seed and therefore the same rows.
    """
    cold = {
        (run["dataset"], run["seed"], run["method"]): run["seconds"]["import"]
        + run["seconds"]["fit"]
        for run in runs
        if run["error"] is None
    }
    times: dict[tuple[str, str], list[float]] = {}
    for (dataset, seed, method), seconds in cold.items():
        reference = cold.get((dataset, seed, ours))
        if reference is not None and method != ours:
            times.setdefault((dataset, method), []).append(seconds / reference)
    return [
        {
            "dataset": dataset,
            "method": method,
            "times_as_long_as": ours,
            "median": statistics.median(values),
            "smallest": min(values),
            "largest": max(values),
        }
        for (dataset, method), values in times.items()
    ]


def table(summary: list[dict[str, Any]]) -> str:
    """Return the medians as a Markdown table without empty columns."""
    filled = [
        column for column in COLUMNS if any(column[1] in entry["median"] for entry in summary)
    ]
    rows = [["data", "method", *(title for title, _, _ in filled)]]
    for entry in summary:
        figures = entry["median"]
        cells = [show(figures[key]) if key in figures else "" for _, key, show in filled]
        rows.append([entry["dataset"], entry["method"], *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def ratio_lines(entries: list[dict[str, Any]]) -> list[str]:
    """Return one sentence per ratio."""
    return [
        f"{entry['dataset']}: {entry['method']} takes {entry['median']:.2f} times as long as "
        f"{entry['times_as_long_as']} ({entry['smallest']:.2f} to {entry['largest']:.2f})"
        for entry in entries
    ]
