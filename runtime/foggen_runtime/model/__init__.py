"""A bundle loaded: engine, caches, prepared files, the device."""
