"""Reading checkpoints, with an adapter merged or channels folded."""
