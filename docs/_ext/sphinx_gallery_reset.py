"""Each example starts with one thread and quiet libraries, as in a fresh process."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["reset"]


def reset(gallery_conf: dict[str, Any], file_name: str) -> None:
    """Set what an example may have changed; sphinx-gallery calls it before each."""
    import matplotlib as mpl
    import torch

    mpl.use("Agg")
    mpl.rcParams.update({"figure.dpi": 100, "savefig.dpi": 100, "font.size": 10})
    torch.set_num_threads(1)
    # From the exporter of torch and from Keras, none of which a reader can act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
