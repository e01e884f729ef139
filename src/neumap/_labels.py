"""The mark of a row without a label, one for all rooms."""

from __future__ import annotations

__all__ = ["UNLABELLED"]

# umap-learn's and scikit-learn's mark for semi-supervised targets.
UNLABELLED = -1
