"""Measuring the system of model, threshold and cloud, and choosing the threshold."""
