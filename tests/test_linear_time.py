"""Every parser of text from outside takes linear time, whatever the text.

A table of what each is given: texts of doubling length, made of pieces that backtracking,
re-reading or copying would make slow. Not the speed is judged but its growth, and a generous bound
at the length where the parser's caller stops.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from foggen_exporter.packaging.libraries import constrained_names
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.text.token_tables import token_tables
from foggen_exporter.weights.lora import LoraConfig
from foggen_runtime.bundle.download import Download, DownloadOptions
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.cloud.completions import StreamReader, read_completion
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.cloud.quoting import server_message
from foggen_runtime.cloud.retrying import read_retry_after
from foggen_runtime.errors import FoggenError, RequestError
from foggen_runtime.evaluation.grading import normalized
from foggen_runtime.handoff.policy import Policy, Redaction
from foggen_runtime.serving.requests import read_chat_request
from foggen_runtime.text.byte_pairs import TableTokenizer
from foggen_runtime.text.choice import parse_choice, question_options
from foggen_runtime.text.questions import parse_questions, read_questions
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import TINY

pytestmark = pytest.mark.serial

QUESTION = 1 << 15  # the most characters of a question, as `foggen serve` takes it
BODY = 1 << 20  # the most bytes of a request
FILE = 1 << 16
HEADER = 1 << 16
BOUND = 0.25  # seconds of the processor; 0.05 on an idle machine

DOCUMENTED = re.findall(r"```toml\n(.*?)```", Path("docs/policy.md").read_text(), re.DOTALL)[0]
SPACES = (" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "a ", "A\n")
LETTERS = ("a", "A", "B ", "A, ", "й", "１", "e\u0301\u0316", "\u0301\u0316", "\u200b", "ﷺ", "答")
MARKS = ("*", "_", "'", "a'", "(", "\\", "\\boxed{", "!?", "A) ", "A)", "Z) Y) ", "@", "a@", "a@a.")
WORDS = ("answer ", "answer is ", "A or ", "A is the ", "option ", "1 ", "12-", "a.", "пароль ")
TEXTS = (*SPACES, *LETTERS, *MARKS, *WORDS)
HEADS = ("", "The answer is", "B", "a@b", "x\u0301")


@dataclass(frozen=True)
class Parser:
    """One parser, and what to feed it.

    Attributes:
        read: Reads a text, and may refuse it.
        pieces: What the texts are made of.
        limit: The longest text that it is given.
        heads: What a text may begin with.
    """

    read: Callable[[str], object]
    pieces: tuple[str, ...]
    limit: int
    heads: tuple[str, ...] = ("",)


def chunks(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def read_stream(body: str, size: int) -> None:
    reader = StreamReader(SECRETS)
    for chunk in chunks(body.encode(), size):
        list(reader.feed(chunk))
    list(reader.finish())
    reader.answer()


def event(text: str) -> str:
    choices = [{"delta": {"content": text}}]
    return f"data: {json.dumps({'id': 'x', 'model': 'big', 'choices': choices})}\n\n"


def in_json(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def file_of(name: str, read: Callable[[Path], object]) -> Callable[[str], object]:
    """Return what writes a text to a file and reads that."""

    def write_and_read(text: str) -> object:
        path = FOLDER / name
        path.write_text(text, encoding="utf-8")
        return read(path)

    return write_and_read


def retry_after(value: str) -> float | None:
    return read_retry_after({"Retry-After": value, "Date": value}, datetime.now(UTC))


def policy_of(**rules: object) -> Callable[[str], object]:
    """Return what makes a policy's message of a question."""
    return Policy(**rules).message  # type: ignore[arg-type]


def documented_policy(text: str) -> str:
    path = FOLDER / "documented.toml"
    path.write_text(DOCUMENTED, encoding="utf-8")
    return Policy.load(path).message(text)


def chat_request(question: str) -> object:
    messages = [{"role": "user", "content": question}]
    return read_chat_request(json.dumps({"model": "x", "messages": messages}).encode(), QUESTION)


@cache
def table_tokenizer() -> TableTokenizer:
    tables = token_tables(json.loads(TOKENIZER_FILE.read_text(encoding="utf-8")))
    assert tables is not None
    return TableTokenizer(tables)


def adapter_rank(module: str) -> int:
    return LoraConfig("LORA", 1, 1.0, rank_pattern={SLOW: 2}).rank(module)


FOLDER = Path()
TOKENIZER_FILE = TINY / "checkpoint" / "tokenizer.json"
TOKENIZER = QuestionTokenizer.from_file(TOKENIZER_FILE)
SLOW = r"(a+)+$|(\w+\s?)*!|(?:a?){30}a{30}|([\w.-]+)*@"
SECRETS = ("the question, " * (QUESTION // 14), "key")
JSON_PIECES = ("[", "{", '{"a":', "1", "1.", "\\", '\\"', '"a",', " ", "9e", "\\ud800", '{"a":1},')
TOML_PIECES = ("[", "a.", "a=[", "1", "'", '"', "#", " ", "[[a]]\n", "a={", "_1", "\n", "a.b=1\n")
LINES = (*JSON_PIECES, "\n", "{}\n", '{"question":"q","answer":"A"}\n')
URLS = ("a", ".", "/", ":", "@", " ", "%", "[", "a.")
DATES = ("1", " ", ",", "(", "-", ":", "Mon, ", "+", "a", "1 Jan ", '"', "\\")
EVENTS = (event("a"), event(100 * "a"))
LABELLED = file_of(
    "labelled.jsonl", lambda path: read_questions(path, labelled=True, skip_bad=True)
)
TEMPLATE = file_of("template.toml", lambda path: load_template(str(path)))
MANIFEST = file_of("foggen.json", lambda path: Manifest.load(path.parent))
CONSTRAINTS = file_of("constraints.txt", constrained_names)
CHOICE = Policy(choice_pattern=SLOW)
PARSERS = {
    "choice": Parser(lambda text: parse_choice(text, ("A", "B")), TEXTS, QUESTION, HEADS),
    "options": Parser(question_options, TEXTS, QUESTION, HEADS),
    "documented policy": Parser(documented_policy, TEXTS, QUESTION),
    "slow rules": Parser(policy_of(never_send=(SLOW,), redact=(Redaction(SLOW),)), TEXTS, QUESTION),
    "often matching rule": Parser(policy_of(redact=(Redaction("(?s)a(.*z)?"),)), TEXTS, QUESTION),
    "choice pattern": Parser(lambda text: CHOICE.choice(text, "A) x B) y"), TEXTS, BODY),
    "question's tokens": Parser(TOKENIZER.encode, TEXTS, QUESTION),
    "question's tokens from tables": Parser(
        lambda text: table_tokenizer().encode(text), TEXTS, QUESTION
    ),
    "answer to compare": Parser(normalized, TEXTS, QUESTION),
    "chat request": Parser(
        lambda text: read_chat_request(text.encode(), QUESTION),
        JSON_PIECES,
        BODY,
        ("", '{"model":"x","messages":['),
    ),
    "question of a chat request": Parser(chat_request, TEXTS, QUESTION),
    "completion": Parser(lambda text: read_completion(in_json(text), SECRETS), TEXTS, BODY),
    "broken completion": Parser(
        lambda text: read_completion(text.encode(), SECRETS), JSON_PIECES, BODY
    ),
    "server's message": Parser(
        lambda text: server_message(json.dumps({"error": text}).encode(), (text, "key")),
        TEXTS,
        QUESTION,
    ),
    "one long line of a stream": Parser(
        lambda text: read_stream(f"data: {text}", 64), ("a", " ", ":", "data:"), BODY >> 2
    ),
    "lines of a stream": Parser(
        lambda text: read_stream(text, 64), ("\n", "\r", "data:\n", ":\n", "a\r\n"), BODY >> 4
    ),
    "events of a stream": Parser(lambda text: read_stream(text, 1024), EVENTS, BODY >> 3),
    "Retry-After": Parser(retry_after, DATES, HEADER),
    "question file": Parser(lambda text: parse_questions(text.encode(), "file"), LINES, FILE),
    "labelled file": Parser(LABELLED, LINES, FILE >> 2),
    "policy file": Parser(file_of("policy.toml", Policy.load), TOML_PIECES, FILE),
    "template file": Parser(TEMPLATE, TOML_PIECES, FILE),
    "manifest": Parser(MANIFEST, JSON_PIECES, FILE),
    "adapter's file": Parser(file_of("adapter.json", LoraConfig.read), JSON_PIECES, FILE),
    "adapter's pattern": Parser(adapter_rank, ("a", "a.", "_", "@"), FILE),
    "constraints": Parser(CONSTRAINTS, (*SPACES, "a==", "#", "[", ";", "(", ","), FILE),
    "cloud's URL": Parser(lambda text: Cloud(text, "m"), URLS, FILE, ("", "http://", "http://a/")),
    "download's URL": Parser(
        lambda text: Download(text, Path("x"), None, DownloadOptions()),
        URLS,
        FILE,
        ("", "http://a/"),
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path, raising=False)


def seconds(parser: Parser, text: str, attempts: int) -> float:
    taken = []
    for _ in range(attempts):
        started = time.thread_time()
        with suppress(FoggenError, RequestError):
            parser.read(text)
        taken.append(time.thread_time() - started)
    return min(taken)


@pytest.mark.parametrize("name", PARSERS)
def test_time_grows_with_the_length_and_no_faster(name: str) -> None:
    parser = PARSERS[name]
    slow = []
    for head in parser.heads:
        for piece in parser.pieces:
            taken = []
            for length in (parser.limit // 4, parser.limit // 2, parser.limit):
                text = head + piece * (length // len(piece))
                taken.append(seconds(parser, text, 1))
                if taken[-1] > BOUND / 4:  # it may have been disturbed
                    taken[-1] = seconds(parser, text, 3)
                if taken[-1] > BOUND:
                    break
            if taken[-1] > min(BOUND, 8 * taken[0] + 0.02):
                slow.append((head, piece, [round(each, 3) for each in taken]))
    assert not slow
