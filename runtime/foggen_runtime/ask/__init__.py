"""Asking one question."""
