"""Fuzzy graph: neighbours in, weighted undirected edges out.

``fuzzy_simplicial_set`` is the main path: ``smooth_knn`` finds each row's scale, distances
become directed memberships, and both directions of an edge are joined (``memberships``).
``algebra`` combines the graphs of two models.
"""

from neumap.fuzzy.graph import FuzzyGraph
from neumap.fuzzy.memberships import fuzzy_simplicial_set, smooth_knn

__all__ = ["FuzzyGraph", "fuzzy_simplicial_set", "smooth_knn"]
