"""One question on its way."""
