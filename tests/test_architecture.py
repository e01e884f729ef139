"""The shape of the package: imports point down, and nothing heavy is loaded before it is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "neumap"

CONTRIBUTING = PACKAGE.parents[1] / "CONTRIBUTING.md"


def levels_of_the_page() -> dict[int, list[str]]:
    """Return the rooms of each level, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", CONTRIBUTING.read_text("utf-8"), re.MULTILINE)
    return {int(level): re.findall(r"`(\w+)`", rooms) for level, rooms in rows}


LEVELS = levels_of_the_page()
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


def test_the_table_lists_every_room_once_and_no_other() -> None:
    listed = [room for rooms in LEVELS.values() for room in rooms]
    assert list(LEVELS) == list(range(len(LEVELS)))
    assert sorted(listed) == sorted({room_of(path) for path in module_files()})


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
