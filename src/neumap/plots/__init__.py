"""Pictures of an embedding, its graph, its training and its quality.

Names and defaults follow ``umap.plot``. Every function takes plain arrays or a fitted object, draws
on the axes given by ``ax=`` or on a new figure, and returns the matplotlib axes (or figure) without
showing it; ``save`` writes a file. Needs the extra ``plot``; ``interactive`` needs ``interactive``,
and very large maps look better with ``large-plot``.
"""

from neumap.plots.curves import loss
from neumap.plots.edges import connectivity, nearest_neighbour_distribution
from neumap.plots.explanation import explanation
from neumap.plots.files import output, output_file, output_notebook, save, show
from neumap.plots.html import interactive
from neumap.plots.images import inverse_grid, reconstruction
from neumap.plots.quality import diagnostic
from neumap.plots.scatter import points
from neumap.plots.themes import THEMES, Theme

__all__ = [
    "THEMES",
    "Theme",
    "connectivity",
    "diagnostic",
    "explanation",
    "interactive",
    "inverse_grid",
    "loss",
    "nearest_neighbour_distribution",
    "output",
    "output_file",
    "output_notebook",
    "points",
    "reconstruction",
    "save",
    "show",
]
