"""Whether new rows look like those of the fit, by a sample of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from torch import Tensor

from neumap._card import MOST_CHECKED, UnusualRowsWarning
from neumap._warnings import warn_user
from neumap.data import Validated
from neumap.estimators.fitted import Fitted

__all__ = ["warn_of_unusual_rows"]

FEWEST, MOST_NUMBERS = 8, 2**20


def warn_of_unusual_rows(new: Validated, fitted: Fitted) -> None:
    """Warn once in the life of a fitted model if most new rows lie clearly outside of its rows.

    Rows in memory are sampled. Rows on disk and Datasets are not read for it.
    """
    card = fitted.card
    if card is None or card.rows is None:
        return
    sample = _sample(new.X, new.n_features)
    complaint = None if sample is None else card.complaint(sample)
    if complaint is not None:
        warn_user(complaint, UnusualRowsWarning)


def _sample(X: Any, n_features: int) -> NDArray[Any] | None:
    """Return rows spread evenly over X, (n, n_features)."""
    is_dense = isinstance(X, np.ndarray | Tensor)
    if not is_dense and not scipy.sparse.issparse(X):
        return None
    most = min(MOST_CHECKED, max(FEWEST, MOST_NUMBERS // n_features))
    rows: Any = X[:: math.ceil(X.shape[0] / most)]
    if isinstance(rows, Tensor):
        rows = rows.detach().float().cpu().numpy()
    elif not is_dense:
        rows = rows.toarray()
    return np.asarray(rows).reshape(len(rows), -1)
