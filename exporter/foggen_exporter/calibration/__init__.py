"""What quantizing goes by: activations, and what rounding does to decisions."""
