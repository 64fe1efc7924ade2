"""Between text and token ids, and the letters in answers."""
