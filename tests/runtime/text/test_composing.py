"""Form NFC is that of the `tokenizers` library, whatever Python's version of Unicode."""

import random
from unicodedata import normalize

import pytest
import regex
from tokenizers import normalizers

from foggen_runtime.text.composing import composed
from tests.support.tokenizers import varied_questions

librarys = normalizers.NFC().normalize_str
PLANES = "".join(chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000)
MADE_OF_OTHERS = regex.findall(r"\p{dt=can}", PLANES)
MARKS = regex.findall(r"[\P{ccc=0}\u0F73\u0F75\u0F81]", PLANES)


@pytest.mark.parametrize("most", [0x2000, pytest.param(0x30000, marks=pytest.mark.long)])
def test_each_character_among_marks_of_other_classes(most: int) -> None:
    text = "x".join(f"{char}\u0334{char}\u0345\u0301{char}\u0334" for char in PLANES[:most])
    assert composed(text) == librarys(text)


def test_each_character_that_is_made_of_others() -> None:
    made = [normalize("NFD", char) for char in MADE_OF_OTHERS]
    pairs = ("\U00011935\U00011930", "\U000105d2\u0307", "\U00011382\U000113c9")  # Unicode 13, 16
    text = "x".join([*made, *pairs])
    assert composed(text) == librarys(text)


def test_rows_of_marks() -> None:
    chance = random.Random(1)
    for length in (2, 5, 31, 32, 33, 200):
        for _ in range(200):
            text = "e" + "".join(chance.choices(MARKS, k=length))
            assert composed(text) == librarys(text)


def test_a_row_of_marks_that_are_made_of_others() -> None:
    text = "\u0f40" + 20 * "\u0f7a\u0f73"
    assert composed(text) == librarys(text)


def test_questions() -> None:
    for text in varied_questions(200):
        assert composed(text) == librarys(text)
