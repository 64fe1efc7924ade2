"""Finding the option letter in an answer.

An answer is split once into words and what stands between them; every rule then looks at a few
words around a letter. So the time is linear in any text, and the Kotlin core can work the same way
word for word: tests/golden/choices.json checks both.
"""

import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from string import ascii_uppercase

# Of a longer answer, only this many characters at either end are read: a cloud may send megabytes.
_READ = 4096
# In a script without spaces, a run of characters counts as one word: `答案是B` says B.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"([{_UNSPACED}]+|[^\W{_UNSPACED}]+(?:['\u2019][^\W{_UNSPACED}]+)*)")
# At the start of a line, or after a space, so that options may share one line.
_OPTION = re.compile(r"(?:^|\s)\(?([A-Z])[).:](?=\s)")
_FULL_WIDTH = {code + 0xFEE0: code for code in range(0x21, 0x7F)} | {0x3000: 0x20}
# Cyrillic capitals that look like Latin ones: people with two keyboard layouts mix them up.
_LOOKALIKES = dict(zip("АВСЕНІКМОРТХ", "ABCEHIKMOPTX", strict=True))

_ANSWER = {"answer", "ответ", "жауап", "жауабы"}
_CHINESE_ANSWERS = ("答案", "答案是", "答案为", "答案為", "应为", "选", "选择", "选项")
_OPTION_WORDS = {"option", "choice", "вариант", "нұсқа"}
_IS = {"is", "was", "be", "это", "является"}
_LINKS = _IS | {"would", "should", "must", "therefore", "thus", "letter"}
_FILLERS = _IS | {"the", "a", "an", "best", "final", "most", "likely", "probably", "clearly"}
_RIGHT = _ANSWER | {"correct", "right", "true", "верно", "верный", "правильно", "правильный"}
_RIGHT |= {"дұрыс"}
_WRONG = {"not", "wrong", "incorrect", "false", "неверно", "неправильно", "нет", "емес", "қате"}
_IS_NOT = {"isn't", "isn\u2019t", "cannot", "can't", "can\u2019t"}
_NOT = {"not", "neither", "nor", "isn't", "isn\u2019t", "не", "ни"}
_OR = {"or", "and", "nor", "или", "и", "либо", "ни", "немесе", "және", "或", "或者", "和", "还是"}
_LATEX = {"text", "textbf", "mathrm", "mathbf"}
# What may follow A or I as a letter; before any other lower-case word, they are words.
_AFTER_LETTER = _IS | _IS_NOT | _OR | {"because", "since", "as", "but", "while", "would"}
_FEW = 4  # words that may stand between a letter and what is said about it


def parse_choice(answer: str, options: Collection[str] = ()) -> str | None:
    """Return the option letter an answer starts with or states; None when it has none.

    `B`, `B) Paris`, `The answer is B.` and `B is correct` all give B; where the options are known,
    so does any text in which no other option's letter stands by itself, such as `It is B`. What the
    answer denies (`not B`) or leaves open (`A or B`) does not count. Full-width letters do, and so
    do Cyrillic ones that look like a known option and are the answer (`Ответ: В`).

    Args:
        answer: The text; beyond 8,192 characters its middle is not read.
        options: The question's letters, if known: no other one is returned.
    """
    text = _Answer(ends_of(answer), frozenset(options))
    # From the surest rule to the vaguest; if a rule fits several places, the last one counts.
    for rule in (text.begins_with, text.boxes, text.answers, text.chooses):
        stated = [letter for at, letter in text.claimed if rule(at)]
        if stated:
            return stated[-1]
    named = text.named
    return named.pop() if len(named) == 1 else None


def ends_of(answer: str) -> str:
    """Return what is searched for the letter in a cloud's answer: its beginning and end."""
    if len(answer) <= 2 * _READ:
        return answer
    # Joined by a letter, so that half a word at the cut cannot pass for an option's letter.
    return f"{answer[:_READ]}x{answer[-_READ:]}"


def question_options(question: str) -> tuple[str, ...]:
    """Return the option letters of a question, e.g. A, B, C of lines such as `A) Paris`.

    They follow each other in the alphabet, mostly from A, and there are at least two: an initial as
    in E. coli or a unit as in 1.1 V does not count.
    """
    found = "".join(_OPTION.findall(question.translate(_FULL_WIDTH)))
    from_a = _run(found, "A")
    runs = [from_a] if len(from_a) > 1 else [_run(found, first) for first in dict.fromkeys(found)]
    longest = max(runs, key=len, default=())
    return longest if len(longest) > 1 else ()


def _run(letters: str, first: str) -> tuple[str, ...]:
    """Return the letters that follow each other in the alphabet, from the first given."""
    run: list[str] = []
    at = -1
    for letter in ascii_uppercase[ascii_uppercase.index(first) :]:
        at = letters.find(letter, at + 1)
        if at < 0:
            break
        run.append(letter)
    return tuple(run)


class _Answer:
    """An answer's words and gaps, and the letters among them.

    Attributes:
        claimed: Place and letter of each mention that is neither denied nor left open.
    """

    def __init__(self, text: str, options: frozenset[str]) -> None:
        # The capturing group keeps the words: gap, word, gap, ..., word, gap.
        parts = _WORD.split(text.translate(_FULL_WIDTH))
        self._gaps = parts[::2]
        self._words = [word.strip("_'\u2019") for word in parts[1::2]]
        self._lower = [word.lower() for word in self._words]
        self._options = options
        self._denied: set[int] = set()
        self._open: set[int] = set()
        self._mentions = dict(self._find_mentions())
        for group in self._groups():
            self._judge(group)
        spoken = self._denied | self._open
        self.claimed = [
            (at, letter)
            for at, letter in self._mentions.items()
            if at not in spoken and (not options or letter in options)
        ]

    @property
    def named(self) -> set[str]:
        """The options that are mentioned and nowhere denied; look-alikes are mostly words."""
        latin = {at: letter for at, letter in self._mentions.items() if letter == self._words[at]}
        denied = {letter for at, letter in latin.items() if at in self._denied}
        return (set(latin.values()) - denied) & self._options

    def begins_with(self, at: int) -> bool:
        """Whether the answer starts with the letter, as in `B` or `B) Paris`."""
        return at == 0 and self._stands_apart(at, ").:,*。、")

    def boxes(self, at: int) -> bool:
        r"""Whether the letter is boxed, as in `\boxed{\text{B}}`."""
        last = at - 1 - (self._word(at - 1) in _LATEX)
        return self._word(last) == "boxed" and self._gaps[last].endswith("\\")

    def answers(self, at: int) -> bool:
        """Whether the letter is called the answer, as in `the answer is B` or `B is correct`."""
        before = self._before(at, _LINKS | _OPTION_WORDS)
        if before in _ANSWER or _is_chinese_answer(before):
            return True
        linked = self._word(at + 1) in _IS or self._gaps[at + 1].strip() in ("-", "–", "—")
        return linked and self._after(at, _FILLERS) in _RIGHT

    def chooses(self, at: int) -> bool:
        """Whether the letter is named as an option, as in `option B`."""
        return self._before(at, _LINKS) in _OPTION_WORDS

    def _find_mentions(self) -> Iterator[tuple[int, str]]:
        for at, word in enumerate(self._words):
            letter = _LOOKALIKES.get(word, word)
            if len(word) != 1 or letter not in ascii_uppercase:
                continue
            # In `В Париже` it is a preposition; a letter is followed by a mark, or by nothing.
            if letter != word and (letter not in self._options or self._gaps[at + 1] == " "):
                continue
            if not self._is_a_word(at):
                yield at, letter

    def _is_a_word(self, at: int) -> bool:
        """Whether this is the article `a` or the pronoun `I`, not a letter."""
        word, following = self._words[at], self._words[at + 1 : at + 2]
        if word not in "AI" or not following or not self._gaps[at + 1].isspace():
            return False
        if word == "A" and self._before(at, _LINKS) in _ANSWER:
            return False
        return following[0][:1].islower() and following[0] not in _AFTER_LETTER

    def _groups(self) -> Iterator[list[int]]:
        """Yield letters that are mentioned together: `A or B`, `A, B and C`, `A/B`, `A, B`."""
        group: list[int] = []
        for at in self._mentions:
            if group and not self._joins(group[-1], at):
                yield group
                group = []
            group.append(at)
        if group:
            yield group

    def _joins(self, one: int, other: int) -> bool:
        if other == one + 1:
            return self._gaps[other].strip() in (",", "/", "&")
        return other == one + 2 and self._lower[one + 1] in _OR

    def _judge(self, group: list[int]) -> None:
        """Note whether a group is denied as a whole, or leaves open which of it is meant."""
        first, last = group[0], group[-1]
        not_before = self._gaps[first].strip(" *\"'(\n") == "" and self._word(first - 1) in _NOT
        following = self._word(last + 1)
        not_after = following in _IS_NOT | _WRONG or (
            following in _IS and self._word(last + 2) in _WRONG
        )
        if not_before or "不" in self._word(first - 1)[-3:] or (not_after and len(group) == 1):
            self._denied.update(group)
        commas_only = all(
            other == one + 1 and self._gaps[other].strip() == "," for one, other in pairwise(group)
        )
        if not commas_only:
            self._open.update(group)

    def _stands_apart(self, at: int, marks: str) -> bool:
        """Whether a letter ends its line or the text, or is followed by one of the marks."""
        gap = self._gaps[at + 1]
        rest = gap.lstrip()
        if "\n" in gap[: len(gap) - len(rest)]:
            return True
        return rest[0] in marks if rest else at + 1 == len(self._words)

    def _word(self, at: int) -> str:
        """Return a word in lower case; nothing outside the text."""
        return self._lower[at] if 0 <= at < len(self._lower) else ""

    def _before(self, at: int, links: Collection[str]) -> str:
        """Return the word before a letter, skipping a few linking words; empty after a question."""
        for place in range(at, max(at - _FEW, 0), -1):
            if "?" in self._gaps[place]:
                return ""
            if self._word(place - 1) not in links:
                return self._word(place - 1)
        return ""

    def _after(self, at: int, fillers: Collection[str]) -> str:
        """Return the word after a letter, skipping a few filler words."""
        following = (self._word(at + i) for i in range(1, 2 + _FEW))
        return next((word for word in following if word not in fillers), "")


def _is_chinese_answer(word: str) -> bool:
    """Whether Chinese text ends with words that a letter follows: `答案是`, `我选择`, `选项`."""
    return word.endswith(_CHINESE_ANSWERS)
