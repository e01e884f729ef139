"""Layout: where free positions start before they are trained.

``initial_positions`` (``initial``) is the main path. ``spectral`` finds the smoothest functions on
a connected graph, ``components`` places the components of a graph, ``principal`` projects rows on
their principal axes.
"""

from neumap.layout.components import spectral_positions
from neumap.layout.initial import check_initial, initial_positions
from neumap.layout.principal import principal_positions
from neumap.layout.spectral import laplacian_eigenvectors

__all__ = [
    "check_initial",
    "initial_positions",
    "laplacian_eigenvectors",
    "principal_positions",
    "spectral_positions",
]
