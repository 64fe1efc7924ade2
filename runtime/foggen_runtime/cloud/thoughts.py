"""Separating a model's thoughts from its answer.

Servers with a parser for thoughts send them in separate fields; others leave them in the text,
between `<think>` and `</think>` or the like. If the chat template opens the block, as with Qwen3's
and DeepSeek's reasoning models, the text has only the closing tag.
"""

import re

_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
}
_OPENING = re.compile("|".join(map(re.escape, _TAGS)))
_CLOSING = re.compile("|".join(map(re.escape, _TAGS.values())))
_BLOCK = re.compile(f"(?:{_OPENING.pattern}).*?(?:{_CLOSING.pattern}|$)", re.DOTALL)


class ThoughtFilter:
    """Removes the blocks of thoughts at the beginning of a text that comes in pieces.

    Later in the text a tag counts as part of the answer, which may be about tags.

    Attributes:
        thoughts: The blocks' contents so far, in pieces.
    """

    def __init__(self) -> None:
        self.thoughts: list[str] = []
        self._rest = ""  # what may be the beginning of a tag, or white space before one
        self._closing: str | None = None  # within a block
        self._answering = False

    def feed(self, piece: str) -> str:
        """Return what the next piece adds to the answer."""
        self._rest += piece
        while not self._answering:
            if not (self._leave_block() if self._closing else self._enter_block()):
                return ""
        answer, self._rest = self._rest, ""
        return answer

    def finish(self) -> str:
        """Return what a text that ends here still adds to the answer."""
        rest, self._rest = self._rest, ""
        if self._closing is not None:
            self.thoughts.append(rest)
            return ""
        return rest

    def _enter_block(self) -> bool:
        """Enter a block or the answer; return whether there was enough text to see which."""
        start = self._rest.lstrip()
        for opening, closing in _TAGS.items():
            if start.startswith(opening):
                self._rest, self._closing = start.removeprefix(opening), closing
                return True
        if any(opening.startswith(start) for opening in _TAGS):
            return False
        self._answering = True
        if self.thoughts:
            self._rest = start
        return True

    def _leave_block(self) -> bool:
        """Leave the block, if its end has come."""
        closing = self._closing or ""
        thought, found, rest = self._rest.partition(closing)
        if not found:
            # The last characters may be the beginning of the closing tag.
            cut = max(len(thought) - len(closing) + 1, 0)
            thought, rest = thought[:cut], thought[cut:]
        else:
            self._closing = None
        self.thoughts.append(thought)
        self._rest = rest
        return bool(found)


def split_unopened(text: str) -> tuple[str, str]:
    """Return the thoughts and the answer of a text whose block the chat template opened.

    Such a text has a closing tag without an opening one; any other is all answer.
    """
    closing = _CLOSING.search(text)
    if closing is None or _OPENING.search(text, 0, closing.start()):
        return "", text
    return text[: closing.start()], text[closing.end() :].lstrip()


def without_thoughts(text: str) -> str:
    """Return the text without any block of thoughts, wherever it is and even if it never ends."""
    return _BLOCK.sub("", split_unopened(text)[1])
