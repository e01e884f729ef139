"""The examples of the gallery: each runs, draws, and reaches the scores that its text speaks of."""

from __future__ import annotations

import ast
import os
import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
os.environ.setdefault("KERAS_BACKEND", "torch")

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SCRIPTS = sorted(EXAMPLES.rglob("plot_*.py"))
NEEDS = {
    "own_network": ["keras"],
    "callbacks": ["keras"],
    "save": ["onnx", "onnxscript", "onnxruntime"],
    "cells": ["anndata"],
    "atlas": ["anndata"],
    "table": ["pandas"],
}

SLOW = {"images", "existing_map", "update", "supervised", "signals"}

# What a script prints, and where the number must lie.
OUTCOMES: dict[str, dict[str, tuple[float, float]]] = {
    "first_map": {"held-out 5-NN accuracy": (0.75, 1.0)},
    "own_network": {
        "Keras, held-out 5-NN accuracy": (0.65, 1.0),
        "PyTorch, held-out 5-NN accuracy": (0.65, 1.0),
    },
    "decode": {
        "test squared error per pixel": (0.0, 0.055),
        "test variance explained": (0.3, 1.0),
    },
    "autoencoder": {
        "encoder trained on UMAP's loss, held-out 5-NN accuracy": (0.75, 1.0),
        "encoder trained on both losses, held-out 5-NN accuracy": (0.75, 1.0),
        "encoder trained on both losses, test squared error per pixel": (0.0, 0.045),
    },
    "callbacks": {
        "stopped by neumap's callback after": (4, 79),
        "stopped by Keras's callback after": (4, 79),
    },
    "free_positions": {
        "a network, held-out 5-NN accuracy": (0.75, 1.0),
        "free positions, held-out 5-NN accuracy": (0.8, 1.0),
        "free positions, trustworthiness": (0.95, 1.0),
    },
    "global_structure": {
        "weight 0, held-out 5-NN accuracy": (0.75, 1.0),
        "weight 1, held-out distance correlation": (0.54, 1.0),
    },
    "landmarks": {
        "landmarks moved, as fraction of the extent": (0.0, 0.1),
        "all old rows moved, as fraction of the extent": (0.0, 0.3),
        "unseen class found by 5-NN, after": (0.6, 1.0),
    },
    "save": {
        "largest difference after loading": (0.0, 0.0),
        "largest difference in onnxruntime": (0.0, 1e-3),
    },
    "few_labels": {"test accuracy, with the map of all rows": (0.7, 1.0)},
    "networks": {
        f"{name}, held-out 5-NN accuracy": (0.7, 1.0)
        for name in (
            "neumap's own",
            "plain layers",
            "batch normalisation",
            "convolutions",
            "convolutions in 1-D",
            "recurrent",
            "attention",
        )
    }
    # The grey levels start with unrelated vectors, so that it has more to learn from few rows.
    | {"a table of codes, held-out 5-NN accuracy": (0.4, 1.0)},
    "supervised": {
        "and a classifier, held-out 5-NN accuracy": (0.85, 1.0),
        "held-out accuracy of predict": (0.85, 1.0),
    },
    "doubt": {
        "area under the ROC curve": (0.9, 1.0),
        "flagged among known digits": (0.0, 0.15),
        "flagged among the unknown digit": (0.5, 1.0),
    },
    "update": {
        "held rows moved, as fraction of the extent": (0.0, 0.15),
        "all old rows moved, as fraction of the extent": (0.0, 0.3),
    },
    "existing_map": {
        "held-out 5-NN accuracy on the t-SNE map": (0.85, 1.0),
        "median distance from the given position, of the width": (0.0, 0.03),
    },
    "mammoth": {"trustworthiness": (0.97, 1.0)},
    "swiss_roll": {"trustworthiness of 5 neighbours": (0.98, 1.0)},
    "tree": {"triplets in their order": (0.7, 1.0)},
    "hierarchy": {"ParametricUMAP, correlation of distances between centres": (0.5, 1.0)},
    "atlas": {"accuracy of 15-NN, placed by the atlas": (0.9, 1.0)},
    "explorer": {"megabytes of the page": (0.5, 3.0)},
    "cells": {"new cells with a score below .05": (0.0, 0.2)},
    "text": {"accuracy of 5-NN on the map": (0.4, 1.0)},
    "signals": {"held-out 5-NN accuracy": (0.75, 1.0)},
    "images": {},
    "table": {},
}

# One number should beat another; the first name is the better one.
BETTER = {
    "autoencoder": (
        "encoder trained on UMAP's loss, test squared error per pixel",
        "encoder trained on both losses, test squared error per pixel",
    ),
    "global_structure": (
        "weight 1, held-out distance correlation",
        "weight 0, held-out distance correlation",
    ),
    "landmarks": (
        "unseen class found by 5-NN, after",
        "unseen class found by 5-NN, before",
    ),
    "hierarchy": (
        "ParametricUMAP, correlation of distances between centres",
        "UMAP, correlation of distances between centres",
    ),
    "few_labels": (
        "test accuracy, with the map of all rows",
        "test accuracy, labelled rows alone",
    ),
    "doubt": ("flagged among the unknown digit", "flagged among known digits"),
}


def topic(script: Path) -> str:
    return script.stem.removeprefix("plot_")


RUNS = [
    pytest.param(script, marks=pytest.mark.slow if topic(script) in SLOW else ())
    for script in SCRIPTS
]


def printed_numbers(text: str) -> dict[str, float]:
    """Return the number of each line, by the words before it."""
    found = re.findall(r"^(\D.*?):? (-?\d*\.?\d+)(?: of .*)?$", text, flags=re.MULTILINE)
    return {words: float(number) for words, number in found}


# What Keras and the exporter of torch warn of at import.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("script", RUNS, ids=topic)
def test_example(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from matplotlib import pyplot as plt

    for package in NEEDS.get(topic(script), []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    plt.close("all")
    runpy.run_path(str(script), run_name="__main__")

    assert plt.get_fignums(), "an example without a picture"
    plt.close("all")
    assert not list(tmp_path.iterdir()), "an example leaves files behind"
    numbers = printed_numbers(capsys.readouterr().out)
    for name, (low, high) in OUTCOMES[topic(script)].items():
        assert low <= numbers[name] <= high, f"{name}: {numbers[name]}"
    if topic(script) in BETTER:
        first, second = (numbers[name] for name in BETTER[topic(script)])
        assert first > second


def test_every_example_has_outcomes() -> None:
    assert sorted(OUTCOMES) == sorted(topic(script) for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=topic)
def test_an_example_has_a_title_and_text(script: Path) -> None:
    text = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    title, line, *rest = text.splitlines()
    assert len(line) == len(title)
    assert set(line) == {"="}
    assert len(" ".join(rest).split()) >= 15


def test_every_section_is_in_the_order_of_the_gallery() -> None:
    settings = (EXAMPLES.parent / "_ext" / "gallery.py").read_text("utf-8")
    sections = ast.literal_eval(re.search(r"^SECTIONS = (\(.*\))$", settings, re.MULTILINE)[1])  # type: ignore[index]
    assert sorted(sections) == sorted({script.parent.name for script in SCRIPTS})
    assert all((EXAMPLES / section / "GALLERY_HEADER.rst").is_file() for section in sections)
