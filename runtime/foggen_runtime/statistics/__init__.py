"""Bounds and scores."""
