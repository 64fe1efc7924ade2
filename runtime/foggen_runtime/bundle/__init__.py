"""An exported bundle: its manifest, its files, where it comes from."""
