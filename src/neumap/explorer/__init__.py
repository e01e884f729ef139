"""An explorer of a map: a page on which new rows land and any point decodes.

`show` makes it. The page holds the positions, what is known about the rows, and the networks of the
model: one file that works without Python and offline.
"""

from neumap.explorer.page import Page
from neumap.explorer.show import show

__all__ = ["Page", "show"]
