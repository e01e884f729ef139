"""Optional dependencies: name the extra that installs a missing package."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(name: str, extra: str) -> ModuleType:
    """Import an optional package, or raise with the command that installs it.

    Parameters
    ----------
    name : str
        Importable name, for example ``"matplotlib.pyplot"``.
    extra : str
        The extra of neumap that installs it, such as ``"plot"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If the package is missing. The message has the command to run.

    Examples
    --------
    >>> require("json", extra="plot").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = name.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != missing:
            raise  # the package is installed; one of its own dependencies is not
        raise ImportError(
            f"This needs the optional package {missing!r}, which is not installed. "
            f'Install it with: pip install "neumap[{extra}]"'
        ) from error
