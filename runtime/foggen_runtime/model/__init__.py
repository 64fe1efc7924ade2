"""A loaded bundle: engine, caches, prepared files, the device."""
