"""Losses: UMAP's cross entropy and the terms that can be added to it."""

from neumap.losses.classifier import ClassifierTerm
from neumap.losses.correlation import CorrelationTerm
from neumap.losses.density import DensityTerm, MapDensity
from neumap.losses.landmarks import LandmarkTerm
from neumap.losses.metric_umap import MetricUmapTerm, metric_umap_loss
from neumap.losses.output_metrics import OUTPUT_METRICS, OutputMetric, resolve_output_metric
from neumap.losses.reconstruction import (
    ReconstructionLoss,
    ReconstructionTerm,
    reconstruction_loss,
    validation_loss,
)
from neumap.losses.regularization import RegularizationTerm, regularization_term
from neumap.losses.umap import Kernel, UmapForces, umap_forces, umap_loss

__all__ = [
    "OUTPUT_METRICS",
    "ClassifierTerm",
    "CorrelationTerm",
    "DensityTerm",
    "Kernel",
    "LandmarkTerm",
    "MapDensity",
    "MetricUmapTerm",
    "OutputMetric",
    "ReconstructionLoss",
    "ReconstructionTerm",
    "RegularizationTerm",
    "UmapForces",
    "metric_umap_loss",
    "reconstruction_loss",
    "regularization_term",
    "resolve_output_metric",
    "umap_forces",
    "umap_loss",
    "validation_loss",
]
