"""Nouns that agree with their numbers."""


def counted(count: int, noun: str) -> str:
    """Return e.g. `1 question` or `2 questions`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
