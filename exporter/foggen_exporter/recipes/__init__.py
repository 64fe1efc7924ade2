"""Recipes, and how weights are rounded."""
