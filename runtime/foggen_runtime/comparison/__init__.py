"""Two bundles over the same questions."""
