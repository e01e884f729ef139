"""What gives positions, as a value: free coordinates (``free``) or a network (``network``)."""

from neumap.estimators.positions.free import FreePositions
from neumap.estimators.positions.network import NetworkPositions

__all__ = ["FreePositions", "NetworkPositions"]
