"""The scripts of the tour: each runs, draws its pictures and reaches its scores."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "tour"
SCRIPTS = sorted(TOUR.glob("[0-9]*.py"))
HELPERS = ("images", "drawing")
NEEDS = {"02": ["keras"], "05": ["keras"], "09": ["onnx", "onnxscript", "onnxruntime"]}
LARGEST_FIGURE = 120_000  # bytes

# What a script prints, and where the number must lie when it runs with --quick.
OUTCOMES: dict[str, dict[str, tuple[float, float]]] = {
    "01_basic": {"held-out 5-NN accuracy": (0.75, 1.0)},
    "02_conv_net": {
        "Keras, held-out 5-NN accuracy": (0.65, 1.0),
        "PyTorch, held-out 5-NN accuracy": (0.65, 1.0),
    },
    "03_reconstruction": {
        "test squared error per pixel": (0.0, 0.055),
        "test variance explained": (0.3, 1.0),
    },
    "04_autoencoder": {
        "encoder trained on UMAP's loss, held-out 5-NN accuracy": (0.75, 1.0),
        "encoder trained on both losses, held-out 5-NN accuracy": (0.75, 1.0),
        "encoder trained on both losses, test squared error per pixel": (0.0, 0.045),
    },
    "05_callbacks": {
        "stopped by neumap's callback after": (4, 79),
        "stopped by Keras's callback after": (4, 79),
    },
    "06_non_parametric": {
        "a network, held-out 5-NN accuracy": (0.75, 1.0),
        "free positions, held-out 5-NN accuracy": (0.8, 1.0),
        "free positions, trustworthiness": (0.95, 1.0),
    },
    "07_global_loss": {
        "weight 0, held-out 5-NN accuracy": (0.75, 1.0),
        "weight 1, held-out distance correlation": (0.54, 1.0),
    },
    "08_landmarks": {
        "landmarks moved, as fraction of the extent": (0.0, 0.1),
        "all old rows moved, as fraction of the extent": (0.0, 0.3),
        "unseen class found by 5-NN, after": (0.6, 1.0),
    },
    "09_saving": {"largest difference after loading": (0.0, 0.0)},
    "10_semi_supervised": {"test accuracy, with the map of all rows": (0.7, 1.0)},
    "11_own_networks": {
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
}

# One number should beat another; the first name is the better one.
BETTER = {
    "04_autoencoder": (
        "encoder trained on UMAP's loss, test squared error per pixel",
        "encoder trained on both losses, test squared error per pixel",
    ),
    "07_global_loss": (
        "weight 1, held-out distance correlation",
        "weight 0, held-out distance correlation",
    ),
    "08_landmarks": (
        "unseen class found by 5-NN, after",
        "unseen class found by 5-NN, before",
    ),
}


@pytest.fixture
def fresh_helpers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let scripts import the modules next to them, and remove those afterwards."""
    monkeypatch.syspath_prepend(str(TOUR))
    yield
    for name in HELPERS:
        sys.modules.pop(name, None)


def printed_numbers(text: str) -> dict[str, float]:
    """Return the number of each line, by the words before it."""
    found = re.findall(r"^(\D.*?):? (\d+(?:\.\d+)?)(?: of .*)?$", text, flags=re.MULTILINE)
    return {words: float(number) for words, number in found}


@pytest.mark.usefixtures("fresh_helpers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in NEEDS.get(script.stem[:2], []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", "--figures", "pictures"])
    runpy.run_path(str(script), run_name="__main__")

    numbers = printed_numbers(capsys.readouterr().out)
    for name, (low, high) in OUTCOMES[script.stem].items():
        assert low <= numbers[name] <= high, f"{name}: {numbers[name]}"
    if script.stem in BETTER:
        first, second = (numbers[name] for name in BETTER[script.stem])
        assert first > second
    drawn = {path.name for path in Path("pictures").iterdir()}
    assert drawn == {path.name for path in figures_of(script)}
    assert all(path.stat().st_size > 2_000 for path in Path("pictures").iterdir())


def figures_of(script: Path) -> list[Path]:
    """Return the pictures that the documentation keeps of a script."""
    return sorted((ROOT / "docs" / "figures").glob(f"{script.stem[:2]}_*.png"))


def test_every_script_has_outcomes_and_small_figures() -> None:
    assert [script.stem for script in SCRIPTS] == list(OUTCOMES)
    for script in SCRIPTS:
        figures = figures_of(script)
        assert figures, script
        assert max(path.stat().st_size for path in figures) < LARGEST_FIGURE


def test_index_shows_every_script_and_figure() -> None:
    index = (TOUR / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#:]+)\)", index))
    for script in SCRIPTS:
        assert script.name in linked
        assert {f"../figures/{path.name}" for path in figures_of(script)} <= linked
    assert all((TOUR / target).exists() for target in linked)


def test_a_script_runs_alone(tmp_path: Path) -> None:
    """In a process of its own, from another folder, on a file in the form of MNIST."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (80, 28, 28))
    labels = np.arange(80) % 2
    images[labels == 1, :14] += 150  # two kinds of images
    np.savez(
        tmp_path / "mnist.npz",
        x_train=images[:60].astype(np.uint8),
        y_train=labels[:60],
        x_test=images[60:].astype(np.uint8),
        y_test=labels[60:],
    )
    command = [sys.executable, TOUR / "01_basic.py", "--quick", "--mnist", "mnist.npz"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert printed_numbers(run.stdout)["held-out 5-NN accuracy"] == 1.0
    assert (tmp_path / "figures" / "01_basic.png").exists()
