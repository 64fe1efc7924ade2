"""From a question to the prompt's token ids, and from generated ids back to text.

User text is encoded by a tokenizer that has no control tokens (`added_tokens.py` says which those
are): a `<|im_end|>` or a `<think>` typed by a user stays text. Control tokens reach the model only
through the manifest's prompt ids.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from foggen_runtime.bundle.manifest import TOKEN_TABLES_FILE, PromptInfo
from foggen_runtime.errors import BundleError, FoggenError, QuestionError
from foggen_runtime.text.added_tokens import AddedToken
from foggen_runtime.text.byte_pairs import TableTokenizer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class PlainTokenizer(Protocol):
    """A tokenizer without control tokens.

    Attributes:
        added_tokens: All added tokens, control tokens included.
    """

    added_tokens: list[AddedToken]

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text."""

    def decode(self, ids: Sequence[int], added: Mapping[int, str | None]) -> str:
        """Return the text of ids that stand for a token.

        Args:
            ids: Ids of the vocabulary or of added tokens.
            added: How each added token is spelled; None leaves it out.
        """


class QuestionTokenizer:
    """The bundle's tokenizer; user text cannot become its control tokens.

    Args:
        tokenizer: Encodes user text.

    Raises:
        BundleError: Plain text could spell a control token.
    """

    def __init__(self, tokenizer: PlainTokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {
            token.id: None if token.special else token.content for token in tokenizer.added_tokens
        }
        for token in tokenizer.added_tokens:
            if token.is_control and token.id in self.encode(token.content):
                raise BundleError(
                    f"tokenizer: text must not turn into a control token, {token.content!r} does"
                )

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the tables of a byte-level BPE, or the `tokenizer.json` of any tokenizer.

        Raises:
            BundleError: The file is missing, or is not a tokenizer that can be read here.
            ConfigError: It is a `tokenizer.json`, and the extra that reads one is not installed.
        """
        try:
            return cls(_read(path))
        except FoggenError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"{path}: cannot be read as a tokenizer: {error}") from error

    def prompt_ids(self, prompt: PromptInfo, question: str) -> list[int]:
        """Return the ids of the whole prompt with a question in it.

        Raises:
            QuestionError: The question is empty or not valid Unicode text.
        """
        _check_question(question)
        if prompt.strip_question:
            question = question.strip()
        middle = self.encode(prompt.question_prefix + question + prompt.question_suffix)
        return [*prompt.prefix_ids, *middle, *prompt.suffix_ids]

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text; control tokens spelled in it stay text."""
        return self._tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens.

        Bytes that are not UTF-8 become U+FFFD; unused ids are left out.
        """
        return self._tokenizer.decode(ids, self._added)

    def stream(self) -> "TextStream":
        """Start decoding ids one at a time."""
        return TextStream(self)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the ids' text as soon as it is complete; no piece is empty."""
        stream = self.stream()
        for token_id in ids:
            if piece := stream.feed(token_id):
                yield piece
        if piece := stream.finish():
            yield piece


class TextStream:
    """Decodes ids one at a time; the pieces together equal decoding them all at once."""

    def __init__(self, tokenizer: QuestionTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # one whose text was returned, then those not yet complete
        # How many characters of the text of `_ids` were returned. None means all: counting them
        # takes a decoding, which the last token of an answer never needs.
        self._given: int | None = 0

    def feed(self, token_id: int) -> str:
        """Add one id and return the text it completes, which may be empty."""
        given = len(self._tokenizer.decode(self._ids)) if self._given is None else self._given
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        complete = len(text.rstrip(_INCOMPLETE))
        piece = text[given:complete]
        self._given = max(given, complete)
        if piece and complete == len(text):
            self._ids, self._given = [token_id], None
        return piece

    def finish(self) -> str:
        """Return what was held back, an incomplete character as U+FFFD."""
        if self._given is None:
            return ""
        text = self._tokenizer.decode(self._ids)
        piece = text[self._given :]
        self._given = len(text)
        return piece


def _read(path: Path) -> PlainTokenizer:
    if path.name == TOKEN_TABLES_FILE:
        return TableTokenizer.from_file(path)
    from foggen_runtime.text.library import LibraryTokenizer

    return LibraryTokenizer.from_file(path)


def _check_question(question: str) -> None:
    if not isinstance(question, str):
        raise QuestionError(f"question: must be text, is {type(question).__name__}")
    if not question.strip():
        raise QuestionError(f"question: must not be empty, is {question!r}")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise QuestionError(
            "question: must be valid Unicode, has the lone surrogate "
            f"U+{ord(question[error.start]):04X} at character {error.start}"
        ) from error
