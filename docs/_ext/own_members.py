"""Methods on the page of a class: those that neumap defines or documents itself."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup"]


def leave_out(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what scikit-learn and PyTorch add, and learned attributes (listed in a section)."""
    if what != "class" or skip:
        return None
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    function = getattr(function, "fn", function)  # scikit-learn's `available_if`
    if not callable(function):
        return True
    module = getattr(function, "__module__", "") or ""
    is_own = module.startswith("neumap") and not name.startswith("set_")
    return None if is_own else True


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask for every member."""
    app.connect("autodoc-skip-member", leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
