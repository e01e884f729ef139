"""Where results go, and how they are written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARKS / "results"


def command(script: str, arguments: list[str] | None) -> str:
    """Return the command line of a result; None means the arguments of this process."""
    return " ".join([f"benchmarks/{script}", *(arguments or sys.argv[1:])])


def write(result: dict[str, Any], path: Path) -> None:
    """Write the result as JSON; the file is either complete or unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
