"""The code of a row without a label, the same for all parts of the package."""

from __future__ import annotations

__all__ = ["UNLABELLED"]

UNLABELLED = -1
"""Marks a row without a label, as in scikit-learn's semi-supervised estimators.

Classes are numbered from 0, so ``codes > UNLABELLED`` selects the labelled rows.
"""
