"""Fuzzy graph: neighbours in, weighted undirected edges out.

``fuzzy_simplicial_set`` is the main path: ``smooth_knn`` finds each row's scale, distances
become directed memberships, and both directions of an edge are joined (``memberships``).
``algebra`` combines the graphs of two models, ``density`` measures local radii for densMAP.
"""

from neumap.fuzzy.algebra import difference, intersection, reset_local_connectivity, union
from neumap.fuzzy.density import edge_distances, local_radii
from neumap.fuzzy.graph import FuzzyGraph
from neumap.fuzzy.memberships import fuzzy_simplicial_set, membership_to_train, smooth_knn

__all__ = [
    "FuzzyGraph",
    "difference",
    "edge_distances",
    "fuzzy_simplicial_set",
    "intersection",
    "local_radii",
    "membership_to_train",
    "reset_local_connectivity",
    "smooth_knn",
    "union",
]
