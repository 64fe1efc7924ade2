"""How to talk to the model, from its tokenizer and chat template."""
