"""The decision, over token ids only."""
