"""Losses: UMAP's cross entropy and the terms that can stand beside it."""

from neumap.losses.umap import Kernel, UmapForces, umap_cross_entropy, umap_forces

__all__ = ["Kernel", "UmapForces", "umap_cross_entropy", "umap_forces"]
