"""Rows that come after the fit: their neighbours, their positions, and how novel they are."""
