"""Pictures of an embedding, its graph, its training and its quality.

Names and habits follow ``umap.plot``. Every function takes plain arrays or a fitted object, draws
on the axes given by ``ax=`` or on a new figure, and returns the matplotlib axes (or figure) without
showing it; ``save`` writes a file. Needs the extra ``plot``; ``interactive`` needs ``interactive``,
and very large maps look better with ``large-plot``.
"""

from neumap.plots.scatter import points
from neumap.plots.themes import THEMES, Theme

__all__ = ["THEMES", "Theme", "points"]
