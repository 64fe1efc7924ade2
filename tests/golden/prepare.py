"""Make what the Kotlin tests read: `python -m tests.golden.prepare DIRECTORY`.

Bundles of the tiny FogGen, tokenizers with the ids that Hugging Face's own library gives, and small
things that both sides must spell alike. All of it is computed anew, so that nothing is compared
with a copy of itself.
"""

import argparse
import json
import random
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer

from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.bundle.manifest import Manifest
from tests.conftest import TINY
from tests.golden.subjects import SUBJECTS
from tests.golden.traces import FOLDER
from tests.golden.unicode_classes import CLASSES, ranges_of
from tests.support.tokenizers import (
    QWEN3_ADDED_TOKENS,
    extended_backend,
    questions_with_words,
    qwen3_backend,
    varied_questions,
)

# First and last letter of each script's main block.
SCRIPTS = {
    "Latin": (0xC0, 0x24F),
    "Greek": (0x391, 0x3C9),
    "Cyrillic": (0x400, 0x52F),
    "Armenian": (0x531, 0x586),
    "Hebrew": (0x5B0, 0x5EA),
    "Arabic": (0x620, 0x669),
    "Devanagari": (0x901, 0x96F),
    "Bengali": (0x981, 0x9EF),
    "Tamil": (0xB82, 0xBEF),
    "Thai": (0xE01, 0xE59),
    "Tibetan": (0xF00, 0xFBC),
    "Georgian": (0x10A0, 0x10FF),
    "Ethiopic": (0x1200, 0x137C),
    "Khmer": (0x1780, 0x17E9),
    "Hangul jamo": (0x1100, 0x11FF),
    "Kana": (0x3041, 0x30FF),
    "Han": (0x4E00, 0x9FFF),
    "Hangul": (0xAC00, 0xD7A3),
    "Compatibility": (0xF900, 0xFAFF),
    "Emoji": (0x1F300, 0x1FAFF),
}
_STRINGS_OF_A_SCRIPT = 160
_VARIED = 2500
_SEPARATORS = (
    " ",
    "  ",
    "\n",
    "\r\n\n",
    "\t",
    ". ",
    ", ",
    "?\n",
    " 12",
    "3",
    "'s ",
    "'\u017f",
    "\u0301",
)
_SWEPT = 512


def texts() -> list[str]:
    """Return over 5,000 strings, without and with added tokens typed in them."""
    chance = random.Random(11)
    found = varied_questions(_VARIED)
    for first, last in SCRIPTS.values():
        for _ in range(_STRINGS_OF_A_SCRIPT):
            words = (
                "".join(chr(chance.randint(first, last)) for _ in range(chance.randint(1, 9)))
                for _ in range(chance.randint(1, 8))
            )
            found.append("".join(word + chance.choice(_SEPARATORS) for word in words))
    found.extend(f"{token}{token}a {token}" for token in QWEN3_ADDED_TOKENS)
    # Contractions matter where letters follow.
    glued = (
        "it'sok",
        "IT'SOK",
        "they'Llama",
        "we'REal",
        "I'vent",
        "can'Tell",
        "a'\u017ftop",
        "d'Dog",
    )
    found.extend(
        f"{before}{word}{after}" for word in glued for before in ("", "x ") for after in ("", " y")
    )
    found.append("a" * 3000 + "!" * 500 + " " * 500)
    return found


def sweep(form: str) -> Iterator[str]:
    """Yield strings that hold every code point, each in a form such as `a{}`."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(codes), _SWEPT):
        yield "".join(form.format(chr(code)) for code in codes[start : start + _SWEPT])


def write_tokenizer(backend: Tokenizer, folder: Path) -> None:
    """Write a tokenizer, and the ids of every text without its added tokens."""
    document = json.loads(backend.to_str())
    plain = Tokenizer.from_str(json.dumps({**document, "added_tokens": []}))
    write_ids(backend, plain, folder, (texts(), sweep("a{}")))


def write_ids(
    backend: Tokenizer,
    reference: Tokenizer,
    folder: Path,
    samples: tuple[Iterable[str], Iterable[str]],
) -> None:
    """Write a tokenizer, another one's ids of texts, and checksums of its ids of more texts."""
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"), pretty=False)
    whole, summed = samples
    write_lines(folder / "ids.jsonl", ([text, reference.encode(text).ids] for text in whole))
    write_lines(
        folder / "sweep.jsonl", ([text, checksum(reference.encode(text).ids)] for text in summed)
    )


def checksum(ids: Iterable[int]) -> int:
    """Return the CRC-32 of ids, four bytes each."""
    return zlib.crc32(b"".join(number.to_bytes(4, "little") for number in ids))


def write_lines(path: Path, items: Iterable[object]) -> None:
    """Write a line of JSON for each item."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


def write_bundles(folder: Path) -> None:
    """Make every bundle that is asked, and note what the Python runtime calls each."""
    hashes = {}
    for name, subject in SUBJECTS.items():
        bundle = subject.make(TINY / "checkpoint", folder / name)
        hashes[name] = Manifest.load(bundle).sha256
    (folder / "hashes.json").write_text(json.dumps(hashes))
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(folder / "int4", options=options) as foggen:
        result = foggen.ask("Pick the animal.\nA) camel\nB) flute", route="local_only").to_dict()
    (folder / "result.json").write_text(json.dumps(result))


def numbers() -> list[float]:
    """Return floats whose shortest spelling is not obvious."""
    chance = random.Random(5)
    edges = [0.0, 1.0, 0.1, 0.5, 1e-4, 9.9e-5, 1e-5, 123456789012345.6, 1e15, 1e16, 5e-324, 2e-3]
    drawn = [chance.uniform(-1, 1) * 10.0 ** chance.randint(-20, 20) for _ in range(500)]
    return edges + drawn


def main() -> None:
    """Write everything, in place of what was there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    root: Path = parser.parse_args().directory
    shutil.rmtree(root, ignore_errors=True)
    (root / "golden").mkdir(parents=True)
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, root / "golden")
    write_bundles(root / "bundles")
    tiny = Tokenizer.from_file(str(TINY / "checkpoint" / "tokenizer.json"))
    write_tokenizer(tiny, root / "tokenizers" / "tiny")
    write_tokenizer(qwen3_backend(), root / "tokenizers" / "qwen3")
    extended = extended_backend()
    samples = questions_with_words(6000), sweep("a int{0} {0}mg \u2116{0}{0}\u00b5g/mL C++{0}")
    write_ids(extended, extended, root / "tokenizers" / "extended", samples)
    classes = {
        name: [[one.start, one.stop] for one in ranges_of(expression)]
        for name, expression in CLASSES.items()
    }
    (root / "classes.json").write_text(json.dumps(classes))
    write_lines(root / "numbers.jsonl", ([repr(number), number.hex()] for number in numbers()))


if __name__ == "__main__":
    main()
