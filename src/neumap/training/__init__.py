"""Training: the loop, what it trains, and a faster step for the default network.

``train`` draws edges, calls a *step* for losses and gradients, applies the optimiser and reports. A
:class:`Plan` says how long and how fast. An embedder (``embedders``) computes the positions: an
encoder applied to rows, or free parameters. All steps (``steps``, ``mlp_step``) have the same
interface, so the loop does not depend on which one runs. On a GPU, ``replay`` records steps as CUDA
graphs.
"""

from neumap.training.auxiliary import AuxiliaryDimensions
from neumap.training.embedders import Embedder, EncoderEmbedder, FreeEmbedder
from neumap.training.loop import TrainingDivergedError, train
from neumap.training.muon import Muon
from neumap.training.noise import InputNoise
from neumap.training.optimizers import optimizer_factory
from neumap.training.plan import Plan
from neumap.training.steps import AutogradStep, Step, choose_step, training_precision

__all__ = [
    "AutogradStep",
    "AuxiliaryDimensions",
    "Embedder",
    "EncoderEmbedder",
    "FreeEmbedder",
    "InputNoise",
    "Muon",
    "Plan",
    "Step",
    "TrainingDivergedError",
    "choose_step",
    "optimizer_factory",
    "train",
    "training_precision",
]
