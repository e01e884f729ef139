"""neumap."""
