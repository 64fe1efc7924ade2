"""Measuring a bundle on the device it runs on, and tuning the engine to that device."""
