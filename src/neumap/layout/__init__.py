"""Layout: where a table of free positions starts before it is trained.

``initial_positions`` (``initial``) is the main path. ``spectral`` finds the smoothest functions on
a connected graph, ``components`` places the pieces of a graph that falls apart, ``principal``
projects rows on their principal axes.
"""

from neumap.layout.components import spectral_positions
from neumap.layout.initial import initial_positions
from neumap.layout.principal import principal_positions
from neumap.layout.spectral import laplacian_eigenvectors

__all__ = [
    "initial_positions",
    "laplacian_eigenvectors",
    "principal_positions",
    "spectral_positions",
]
