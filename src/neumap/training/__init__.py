"""Training: the visible loop, the things it trains, and a faster step for the default network.

``train`` is the main path. It draws edges, asks a *step* for losses and gradients, applies the
optimiser, and reports; a :class:`Plan` says how long and how fast. What gives positions is an
embedder (``embedders``): an encoder applied to rows, or a free table. Steps (``steps``,
``mlp_step``) share one contract, so the loop does not know which one runs. On a graphics card
``replay`` records them and takes them at once.
"""

from neumap.training.embedders import Embedder, EncoderEmbedder, TableEmbedder
from neumap.training.loop import TrainingDivergedError, train
from neumap.training.muon import Muon
from neumap.training.noise import InputNoise
from neumap.training.optimizers import optimizer_factory
from neumap.training.plan import Plan
from neumap.training.spare import SpareDimensions
from neumap.training.steps import AutogradStep, Step, choose_step

__all__ = [
    "AutogradStep",
    "Embedder",
    "EncoderEmbedder",
    "InputNoise",
    "Muon",
    "Plan",
    "SpareDimensions",
    "Step",
    "TableEmbedder",
    "TrainingDivergedError",
    "choose_step",
    "optimizer_factory",
    "train",
]
