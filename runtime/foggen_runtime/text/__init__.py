"""From text to token ids and back, and finding the letter in an answer."""
