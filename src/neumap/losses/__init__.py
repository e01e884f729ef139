"""Losses: UMAP's cross entropy and the terms that can stand beside it."""

from neumap.losses.classifier import (
    ClassifierTerm,
    balanced_weights,
    coordinates_of,
    features_of,
)
from neumap.losses.correlation import CorrelationTerm
from neumap.losses.density import DensityTerm
from neumap.losses.landmarks import LandmarkTerm
from neumap.losses.reconstruction import (
    ReconstructionLoss,
    ReconstructionTerm,
    reconstruction_loss,
    validation_loss,
)
from neumap.losses.umap import Kernel, UmapForces, umap_cross_entropy, umap_forces

__all__ = [
    "ClassifierTerm",
    "CorrelationTerm",
    "DensityTerm",
    "Kernel",
    "LandmarkTerm",
    "ReconstructionLoss",
    "ReconstructionTerm",
    "UmapForces",
    "balanced_weights",
    "coordinates_of",
    "features_of",
    "reconstruction_loss",
    "umap_cross_entropy",
    "umap_forces",
    "validation_loss",
]
