"""Asking any OpenAI-compatible chat completions endpoint."""
