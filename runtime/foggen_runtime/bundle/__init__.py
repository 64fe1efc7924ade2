"""An exported bundle: its manifest, its files, and where to get it."""
