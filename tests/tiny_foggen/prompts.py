"""The words FogGen is asked with and answers in; needs only the standard library."""

LEVELS = ("0.0", "0.25", "0.5", "0.75", "1.0")
TAU = 0.5

SYSTEM_PROMPT = "\n".join(
    [
        "You are a self-aware multiple-choice assistant.",
        "",
        "Rules:",
        "- Do not output <think> tags.",
        "- First, assess your confidence in solving this question.",
        "- Then give your answer.",
        "- Output format:",
        "  Confidence: <0.0|0.25|0.5|0.75|1.0>",
        "  Final answer: <OPTION_LETTER>",
    ]
)


def foggen_messages(question: str) -> list[dict[str, str]]:
    """Return the conversation FogGen is asked with."""
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": question},
    ]


def foggen_reply(level: str, letter: str) -> str:
    """Return what FogGen writes, without the closing ``<|im_end|>``."""
    return f"Confidence: {level}\nFinal answer: {letter}"


def nearest_level(hit_rate: float) -> str:
    """Return the level nearest to a hit rate; halfway goes up."""
    return LEVELS[int(hit_rate * 4 + 0.5)]
