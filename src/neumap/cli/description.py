"""Describe a fitted model, for ``neumap info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = ["describe", "lines_of"]


def describe(model: ParametricUMAP, path: Path) -> dict[str, Any]:
    """Return the file, data, networks, non-default settings and report of a fitted model."""
    embedding = getattr(model, "embedding_", None)
    return {
        "file": str(path),
        "bytes": _size(path),
        "class": type(model).__name__,
        "columns": int(model.n_features_in_),
        "components": int(model.n_components),
        "holds": HOLDS[model._model().holds],
        "cannot": _cannot(model),
        "rows": None if embedding is None else len(embedding),
        "encoder": _network(getattr(model, "encoder_", None)),
        "decoder": _network(getattr(model, "decoder_", None)),
        "settings": _settings(model),
        "report": dict(getattr(model, "report_", {})),
        "card": getattr(model, "card_", {}),
    }


HOLDS = {
    "network": "network",
    "map": "network, positions and graph",
    "data": "network, positions, graph and training rows",
}


def _cannot(model: ParametricUMAP) -> dict[str, str]:
    """Return what the model cannot do, and how to save it so that it can."""
    fitted = model._model()
    missing: dict[str, str] = {}
    if fitted.holds == "network":
        missing["embedding_, graph_, plots of the map"] = "save with keep='map'"
    if fitted.training is None:
        missing["update, confidence, graphs of new rows"] = "save with keep='data'"
    if fitted.decoder is None and fitted.training is None:
        missing["inverse_transform"] = (
            "fit with parametric_reconstruction=True, or save with keep='data'"
        )
    if fitted.encoder is None and fitted.training is None:
        missing["transform"] = "save with keep='data'"
    return missing


def lines_of(facts: dict[str, Any]) -> str:
    """Return the facts as indented lines, without empty ones."""
    return "\n".join(_lines(facts, ""))


def _lines(facts: dict[str, Any], indent: str) -> list[str]:
    facts = {str(name): value for name, value in facts.items()}
    present = {name: value for name, value in facts.items() if value not in (None, {}, [])}
    width = max(map(len, present), default=0)
    lines: list[str] = []
    for name, value in present.items():
        if isinstance(value, dict):
            lines += [f"{indent}{_printable(name)}", *_lines(value, indent + "  ")]
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else _printable(str(value))
            lines.append(f"{indent}{_printable(name):<{width}}  {shown}")
    return lines


def _printable(text: str) -> str:
    """Return text of a file without characters that control a terminal."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def _settings(model: ParametricUMAP) -> dict[str, Any]:
    """Return the parameters that differ from their defaults."""
    defaults = type(model)().get_params(deep=False)
    given = model.get_params(deep=False)
    return {name: value for name, value in given.items() if repr(value) != repr(defaults[name])}


def _network(module: Any) -> str | None:
    if module is None or not hasattr(module, "parameters"):
        return None
    n_weights = sum(weights.numel() for weights in module.parameters())
    return f"{type(module).__name__}, {n_weights:,} weights"


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
