"""Tables, targets and pictures of the yard."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.sets import YardSet

Row = dict[str, Any]

SCORES = (
    "trust",
    "recall",
    "held_out_trust",
    "held_out_recall",
    "held_out_5nn",
    "triplets",
    "centres",
    "extents",
)
TITLES = dict(
    zip(SCORES, ("trust", "rec", "h.trust", "h.rec", "h.5nn", "tripl", "centr", "ext"), strict=True)
)
PEER = "umap"


@dataclass(frozen=True)
class Target:
    """A bound on a score relative to umap-learn's on the same rows."""

    score: str
    words: str
    most_rows: int | None = None
    difference: float | None = None  # at least the peer's plus this
    ratio: float | None = None  # at least the peer's times this
    sets: tuple[str, ...] | None = None
    largest: float | None = None  # at most this, whatever the peer's

    def is_met(self, ours: float, peers: float) -> bool:
        if self.largest is not None:
            return ours <= self.largest
        if self.ratio is not None:
            return ours >= peers * self.ratio
        return ours >= peers + (self.difference or 0.0)


TARGETS = (
    Target("held_out_trust", "held-out trust within .01", difference=-0.01),
    Target("held_out_5nn", "held-out 5-NN within .01", difference=-0.01),
    Target("held_out_recall", "held-out recall at least .95 of it", most_rows=5_000, ratio=0.95),
    Target("recall", "training recall at least .9 of it", most_rows=10_000, ratio=0.9),
    Target("triplets", "triplets above", difference=0.0),
    Target("extents", "cluster sizes within a factor of 2", sets=("density",), largest=2.0),
)


def line(row: Row) -> str:
    """Return one result as a line of text."""
    scores = row["scores"]
    cells = " ".join(f"{TITLES[name]} {scores[name]:.3f}" for name in SCORES if name in scores)
    name = row["method"] + (f"[{row['variant']}]" if row["variant"] else "")
    return f"{row['set']:<13}{name:<18}{row['seed']} {cells}  {row['fit_seconds']:.1f} s"


def report(rows: list[Row], held_out: str, variant: str, method: str | None = None) -> str:
    """Return a Markdown table of medians, and the missed targets of the default preset.

    With a method the table is compact: its scores only, with those of umap-learn in brackets.
    """
    groups = ("validation", "test") if held_out == "both" else (held_out,)
    parts = []
    for group in groups:
        own = [row for row in rows if row["rows"] == group]
        found = medians(own if method is None else common(own, method, variant))
        parts += [f"Medians over seeds; held-out rows: {group}.", ""]
        shown = table(found) if method is None else compact(found, method, variant)
        parts += [shown, "", *misses(found, method or "neumap", variant), ""]
        parts += [f"**Not comparable**: {text}" for text in mixed_rows(own)]
    return "\n".join(parts)


def common(rows: list[Row], method: str, variant: str) -> list[Row]:
    """Return the rows of a method, and those of umap-learn for the same sets and seeds."""
    ours = [row for row in rows if (row["method"], row["variant"]) == (method, variant)]
    fits = {(row["set"], row["seed"]) for row in ours}
    peers = [row for row in rows if row["method"] == PEER and (row["set"], row["seed"]) in fits]
    return ours + [row for row in peers if row not in ours]


def medians(rows: Iterable[Row]) -> dict[tuple[str, str, str], Row]:
    """Return medians over the seeds for each set, method and variant."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["method"], row["variant"]), []).append(row)
    return {key: _median(found) for key, found in groups.items()}


def _median(found: list[Row]) -> Row:
    scores = {
        name: statistics.median(row["scores"][name] for row in found)
        for name in SCORES
        if all(name in row["scores"] for row in found)
    }
    cost = {
        name: statistics.median(row[name] for row in found)
        for name in ("fit_seconds", "fit_cpu_seconds", "peak_bytes")
    }
    return {"scores": scores, "n_train": found[0]["n_train"], "n_seeds": len(found), **cost}


def mixed_rows(rows: Iterable[Row]) -> list[str]:
    """Name sets whose results come from different rows, such as texts of another version."""
    first: dict[tuple[str, int], Row] = {}
    mixed: dict[str, None] = {}
    for row in rows:
        other = first.setdefault((row["set"], row["seed"]), row)
        same_size = row["n_train"] == other["n_train"]
        if not same_size or not np.allclose(row["fingerprint"], other["fingerprint"], rtol=1e-3):
            mixed[f"{row['set']}, seed {row['seed']}"] = None
    return list(mixed)


def table(found: dict[tuple[str, str, str], Row]) -> str:
    """Return one line per set and method; after a slash, the difference from umap-learn."""
    heads = ["data", "rows", "method", "seeds", *TITLES.values(), "fit s", "CPU s", "peak MB"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (name, method, variant), entry in sorted(found.items()):
        peer = found.get((name, PEER, ""))
        cells = [
            _cell(score, entry["scores"], {} if method == PEER or peer is None else peer["scores"])
            for score in SCORES
        ]
        called = method + (f" [{variant}]" if variant else "")
        cost = [
            f"{entry['fit_seconds']:.1f}",
            f"{entry['fit_cpu_seconds']:.1f}",
            f"{entry['peak_bytes'] / 2**20:,.0f}",
        ]
        values = [name, f"{entry['n_train']:,}", called, str(entry["n_seeds"]), *cells, *cost]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def _cell(name: str, ours: dict[str, float], peers: dict[str, float]) -> str:
    if name not in ours:
        return ""
    if name == "extents":
        return f"{ours[name]:.1f}"
    if name not in peers:
        return f"{ours[name]:.3f}"
    if "recall" in name:
        return f"{ours[name]:.3f} / x{ours[name] / max(peers[name], 1e-9):.2f}"
    return f"{ours[name]:.3f} / {ours[name] - peers[name]:+.3f}"


def compact(found: dict[tuple[str, str, str], Row], method: str, variant: str) -> str:
    """Return one line per set: a method's scores, umap-learn's in brackets, missed targets bold."""
    heads = ["data", "rows", *TITLES.values()]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (name, own, other), entry in sorted(found.items(), key=lambda item: _place(item[0][0])):
        if (own, other) != (method, variant) or (name, PEER, "") not in found:
            continue
        peer = found[name, PEER, ""]
        cells = [_beside(score, name, entry, peer) for score in SCORES]
        lines.append("| " + " | ".join([name, f"{entry['n_train']:,}", *cells]) + " |")
    return "\n".join(lines)


def _beside(score: str, name: str, ours: Row, peers: Row) -> str:
    if score not in ours["scores"] or score not in peers["scores"]:
        return ""
    digits = 1 if score == "extents" else 3
    text = _short(ours["scores"][score], digits)
    targets = [t for t in TARGETS if t.score == score and _applies(t, name, ours, peers)]
    if not all(_meets(target, name, ours, peers) for target in targets):
        text = f"**{text}**"
    return f"{text} ({_short(peers['scores'][score], digits)})"


def _short(value: float, digits: int) -> str:
    """Return the number without the zero before its point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _place(name: str) -> tuple[int, int, str]:
    """MNIST comes last, by size."""
    size = name.removeprefix("mnist-")
    return (1, int(size), name) if size != name else (0, 0, name)


def misses(found: dict[tuple[str, str, str], Row], ours: str, variant: str) -> list[str]:
    """Return one line per target: how many sets meet it, and those that do not."""
    pairs = [
        (name, entry, found[name, PEER, ""])
        for (name, method, own), entry in sorted(found.items())
        if method == ours and own == variant and (name, PEER, "") in found
    ]
    if not pairs:
        return [f"No set has results of both {ours} and umap-learn, so no target is checked."]
    lines = [f"Targets, {ours} beside umap-learn's `UMAP`:", ""]
    for target in TARGETS:
        asked = [pair for pair in pairs if _applies(target, *pair)]
        missed = [pair for pair in asked if not _meets(target, *pair)]
        text = f"- {target.words}: {len(asked) - len(missed)} of {len(asked)} sets"
        lines.append(
            text
            + ("; missed by " + ", ".join(_gap(target, *pair) for pair in missed) if missed else "")
        )
    for score in ("held_out_trust", "held_out_5nn"):
        values = [(o["scores"], p["scores"]) for _, o, p in pairs if score in o["scores"]]
        above = sum(o[score] >= p[score] for o, p in values)
        lines.append(f"- {score} at least umap-learn's: {above} of {len(values)} sets")
    return lines


def _applies(target: Target, name: str, ours: Row, peers: Row) -> bool:
    few = target.most_rows is None or ours["n_train"] <= target.most_rows
    named = target.sets is None or name in target.sets
    return few and named and target.score in ours["scores"]


def _meets(target: Target, name: str, ours: Row, peers: Row) -> bool:
    return target.is_met(ours["scores"][target.score], peers["scores"][target.score])


def _gap(target: Target, name: str, ours: Row, peers: Row) -> str:
    return f"{name} ({ours['scores'][target.score]:.3f}, {peers['scores'][target.score]:.3f})"


# Pictures

NAMES = {"neumap": "neumap ParametricUMAP", "umap": "umap-learn UMAP", "neumap-free": "neumap UMAP"}


# Coordinates from which the data of three columns are seen, as (right, up).
VIEWS = {"mammoth": (0, 2), "swiss-roll": (0, 2), "s-curve": (0, 2), "rings": (0, 2)}


def draw(
    data: YardSet,
    maps: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    output: Path,
    n_ringed: int = 150,
) -> None:
    """Write one picture with a panel per map; some held-out rows are ringed in black.

    Data of three columns get a panel of their own in front. Of groups of clusters, one group of the
    first map is shown enlarged behind.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    colour = colours(data)
    panels: list[tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    if data.name in VIEWS:
        seen = np.asarray(data.X_train)[:, VIEWS[data.name]]
        panels.append(("the data from one side", seen, seen[:0], colour))
    for name, (embedding, placed) in maps.items():
        panels.append((NAMES.get(name, name), embedding, placed[:n_ringed], colour))
    if data.n_siblings > 1:
        first = data.y_train // data.n_siblings == 0
        name, (embedding, placed) = next(iter(maps.items()))
        shades = mpl.colormaps["tab10"](data.y_train[first])
        panels.append(
            (
                f"one group of {data.n_siblings} in the first map",
                embedding[first],
                placed[:0],
                shades,
            )
        )

    figure = Figure(figsize=(3.4 * len(panels), 3.5), layout="constrained")
    size = float(np.clip(12_000 / len(colour), 0.8, 5))
    for panel, (title, rows, new, c) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        panel.scatter(*rows.T, c=c, s=size, linewidths=0)
        panel.scatter(*new.T, s=5, facecolors="none", edgecolors="k", linewidths=0.3)
        panel.set_title(f"{data.name}: {title}", fontsize=9)
        panel.set_aspect("equal", adjustable="datalim")
        panel.set_xticks([])
        panel.set_yticks([])
    figure.savefig(output, dpi=80)


def colours(data: YardSet) -> NDArray[np.float64]:
    """Return a colour per training row: hue by outer group, lightness by the group within it."""
    import matplotlib as mpl

    codes = np.unique(data.y_train, return_inverse=True)[1]
    if data.n_siblings == 1:
        return np.asarray(mpl.colormaps["nipy_spectral"](0.05 + 0.9 * codes / max(codes.max(), 1)))
    group = data.y_train // data.n_siblings
    hue = mpl.colormaps["Dark2"](group // data.n_siblings)[:, :3]
    lightness = 0.5 - 0.2 * (group % data.n_siblings)[:, None]  # from lighter to darker
    lighter = hue + (1 - hue) * np.clip(lightness, 0, 1)
    return np.asarray(lighter * (1 + np.clip(lightness, -1, 0)))
