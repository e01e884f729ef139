"""How the examples run: order, thread count, and what is left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["FirstNamed", "configuration"]

# The order of the gallery: sections, and what comes first in them.
SECTIONS = ("start", "data", "rows", "labels", "networks")
ORDER = ("first_map", "decode", "save", "own_network", "mammoth", "doubt", "supervised")


class FirstNamed:
    """Sort the scripts of a section: those of `ORDER` first, then by name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, file: str) -> tuple[int, str]:
        """Return the place of a script."""
        name = file.removeprefix("plot_").removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def configuration(docs: Path) -> dict[str, Any]:
    """Return the settings of sphinx-gallery."""
    return {
        "examples_dirs": ["examples"],
        "gallery_dirs": ["auto_examples"],
        "filename_pattern": r"/plot_",
        "subsection_order": [f"examples/{section}" for section in SECTIONS],
        "within_subsection_order": "gallery.FirstNamed",
        "backreferences_dir": "api/generated/backreferences",
        "doc_module": ("neumap",),
        "reference_url": {"neumap": None},
        "inspect_global_variables": True,
        "download_all_examples": False,
        "remove_config_comments": True,
        "show_memory": False,
        "show_signature": False,
        "min_reported_time": 1e6,  # seconds of a busy machine say nothing to a reader
        "matplotlib_animations": False,
        "image_scrapers": ("matplotlib",),
        "capture_repr": (),
        "reset_modules": ("matplotlib", "sphinx_gallery_reset.reset"),
        "abort_on_example_error": False,
        "only_warn_on_example_error": False,
        "plot_gallery": "True",
        "default_thumb_file": str(docs / "figures" / "map.png"),
        "thumbnail_size": (400, 300),
        "write_computation_times": False,
    }
