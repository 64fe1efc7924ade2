"""What tokenizer and chat template say of how the model is talked to."""
