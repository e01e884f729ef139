"""The shape of the package: imports point down, and nothing heavy is loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "neumap"

LEVELS = {
    0: {"_atomic", "_optional", "_random", "_device", "_labels", "_modes"},
    1: {
        "similarity",
        "label_distances",
        "neighbors",
        "networks",
        "metrics",
        "archive",
        "export",
        "plots",
        "explorer",
        "data",
    },
    2: {"fuzzy", "losses", "callbacks"},  # checkpoints are archives
    3: {"layout", "propagation", "supervision", "sampling"},
    4: {"training", "keras_bridge"},  # the bridge speaks callbacks; estimators use it
    5: {"estimators"},
    6: {"cli", "scanpy"},
    7: {"__main__"},
}
LEVEL_OF = {room: level for level, rooms in LEVELS.items() for room in rooms}

HEAVY = [
    "torch",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pynndescent",
    "numba",
    "pandas",
    "tensorflow",
    "keras",
    "faiss",
    "sklearn",
    "scipy",
    "bokeh",
    "datashader",
    "umap",
]


def module_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Rooms of neumap that a file imports anywhere, functions included; type-only imports too."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            names = (
                [f"neumap.{alias.name}" for alias in node.names] if module == "neumap" else [module]
            )
        rooms.update(name.split(".")[1] for name in names if name.startswith("neumap."))
    return rooms


def test_every_room_has_a_level() -> None:
    rooms = {room_of(path) for path in module_files()}
    assert rooms <= LEVEL_OF.keys(), f"rooms without a level: {sorted(rooms - LEVEL_OF.keys())}"


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    level = LEVEL_OF[room]
    others = imported_rooms(path) - {room}
    upward = {other for other in others if LEVEL_OF.get(other, -1) >= level}
    assert not upward, f"{room} (level {level}) imports from its own level or above: {upward}"


def loaded_after(code: str) -> set[str]:
    """Heavy top-level packages that a fresh process has loaded after running ``code``."""
    probe = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


def test_probe_sees_a_loaded_package() -> None:
    assert "scipy" in loaded_after("import scipy")


def test_import_of_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import neumap; dir(neumap); neumap.__version__") == set()


def test_public_names_are_listed_before_they_are_loaded() -> None:
    code = "import neumap; assert set(neumap.__all__) <= set(dir(neumap))"
    assert loaded_after(code) == set()


def test_unknown_name_is_an_attribute_error() -> None:
    import neumap

    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = neumap.no_such_name
