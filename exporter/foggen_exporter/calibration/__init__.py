"""What quantizing is based on: activations, and what rounding does to decisions."""
