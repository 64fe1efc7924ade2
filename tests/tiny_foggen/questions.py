"""Synthetic multiple-choice questions, reproducible from a seed; needs only the standard library.

Six domains that a small model masters to very different degrees:

* ``kinds``: which word is a fruit, a tool, ...; nearly certain.
* ``largest``: which of a few two-digit numbers is the largest; nearly certain.
* ``capitals``: capitals of invented lands, the obscure ones hardly ever mentioned; graded.
* ``raffles``: who won, given how many tickets each held; noisy, the odds are in the question.
* ``myths``: the training data mostly repeats a false belief; confidently wrong.
* ``parcels``: where an arbitrary parcel lies, which nothing in the question tells; chance.

``Question.question`` is the whole text a user would type, options included. A text belongs either
to held-out or to training questions by its hash, so no held-out text can occur in training,
whatever the seed.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

LETTERS = "ABCDE"

Split = Literal["pretrain", "tune", "heldout"]


class Question(NamedTuple):
    """One multiple-choice question.

    Attributes:
        id: Unique among the questions of one call.
        domain: One of ``DOMAINS``.
        question: The text a user would type, options included as ``A) ...`` lines.
        options: Option letter to option text.
        answer: The letter that is right.
        hearsay: The letter the training data claims to be right.
    """

    id: str
    domain: str
    question: str
    options: dict[str, str]
    answer: str
    hearsay: str


class Draft(NamedTuple):
    """A question before its options are shuffled and lettered."""

    stem: str
    options: list[str]
    answer: str
    hearsay: str


def _words(text: str) -> list[str]:
    return text.split()


KINDS: dict[str, list[str]] = {
    "fruit": _words("apple banana cherry grape lemon mango melon peach pear plum"),
    "animal": _words("bear camel goat horse lion monkey rabbit sheep tiger wolf"),
    "tool": _words("axe chisel drill hammer knife rake saw shovel spade wrench"),
    "colour": _words("black blue brown green grey pink purple red white yellow"),
    "instrument": _words("banjo cello drum flute guitar harp oboe piano trumpet violin"),
}
PEOPLE = _words("Ana Ben Cleo Dan Eva Finn Gus Hana Ivo June Kit Lena")
PLACES = _words("attic barn cellar garage hall kitchen loft office porch shed")

_ONSETS = _words("B D F G K L M N P R S T V Z Br Dr Gr Kr Tr Sh")
_NUCLEI = _words("a e i o u")
_LAND_ENDS = _words("land via nia ria stan mark")
_TOWN_ENDS = _words("ton burg ville mouth ford haven")
_RIVER_ENDS = _words("na ro ssa lde mur")
_LAKE_ENDS = _words("lok gan vek tir")


def _names(rng: random.Random, ends: list[str], count: int) -> list[str]:
    """Invent ``count`` distinct names ending in one of ``ends``."""
    names: dict[str, None] = {}
    while len(names) < count:
        start = rng.choice(_ONSETS) + rng.choice(_NUCLEI)
        names[start + rng.choice("lmnrst") * rng.randrange(2) + rng.choice(ends)] = None
    return list(names)


_WORLD = random.Random(20)
LANDS = _names(_WORLD, _LAND_ENDS, 40)
CAPITALS = _names(_WORLD, _TOWN_ENDS, 40)
LAKES = _names(_WORLD, _LAKE_ENDS, 12)
RIVERS = _names(_WORLD, _RIVER_ENDS, 24)  # lake i: believed RIVERS[i], in truth RIVERS[12 + i]
FAME_EXPONENT = 2.0
MYTH_STRENGTH = 0.95


def _kinds(rng: random.Random, split: Split) -> Draft:
    kind = rng.choice(list(KINDS))
    others = [word for name, words in KINDS.items() if name != kind for word in words]
    answer = rng.choice(KINDS[kind])
    stem = rng.choice(["Which of these is a kind of {}?", "Pick the {}.", "Which one is a {}?"])
    wrong = rng.sample(others, rng.randint(1, 4))
    return Draft(stem.format(kind), [answer, *wrong], answer, answer)


def _largest(rng: random.Random, split: Split) -> Draft:
    numbers = [str(n) for n in rng.sample(range(10, 100), rng.randint(2, 5))]
    stem = rng.choice(["Which number is the largest?", "Pick the largest number."])
    answer = max(numbers)
    return Draft(stem, numbers, answer, answer)


def _capitals(rng: random.Random, split: Split) -> Draft:
    """Training data mentions lands by Zipf's law, everybody else asks about all alike."""
    if split == "pretrain":
        fame = [(rank + 1) ** -FAME_EXPONENT for rank in range(len(LANDS))]
        land = rng.choices(range(len(LANDS)), fame)[0]
    else:
        land = rng.randrange(len(LANDS))
    answer = CAPITALS[land]
    wrong = rng.sample([name for name in CAPITALS if name != answer], rng.randint(2, 4))
    stem = rng.choice(["What is the capital of {}?", "Name the capital of {}."])
    return Draft(stem.format(LANDS[land]), [answer, *wrong], answer, answer)


def _raffles(rng: random.Random, split: Split) -> Draft:
    people = rng.sample(PEOPLE, rng.randint(2, 4))
    tickets = [rng.randint(1, 9) for _ in people]
    options = [f"{name} with {n} tickets" for name, n in zip(people, tickets, strict=True)]
    answer = rng.choices(options, tickets)[0]
    return Draft(f"Who won raffle {rng.randrange(1000)}?", options, answer, answer)


def _myths(rng: random.Random, split: Split) -> Draft:
    lake = rng.randrange(len(LAKES))
    believed, answer = RIVERS[lake], RIVERS[len(LAKES) + lake]
    wrong = rng.sample([r for r in RIVERS if r not in (believed, answer)], rng.randint(1, 3))
    stem = rng.choice(["Which river feeds lake {}?", "Name the river that feeds lake {}."])
    hearsay = believed if rng.random() < MYTH_STRENGTH else answer
    return Draft(stem.format(LAKES[lake]), [answer, believed, *wrong], answer, hearsay)


def _parcels(rng: random.Random, split: Split) -> Draft:
    options = rng.sample(PLACES, rng.randint(3, 5))
    stem = rng.choice(["Where is parcel {}?", "Which room holds parcel {}?"])
    return Draft(stem.format(rng.randrange(10000)), options, options[0], options[0])


_MAKERS: dict[str, tuple[float, Callable[[random.Random, Split], Draft]]] = {
    "kinds": (0.22, _kinds),
    "largest": (0.18, _largest),
    "capitals": (0.22, _capitals),
    "raffles": (0.14, _raffles),
    "myths": (0.08, _myths),
    "parcels": (0.16, _parcels),
}
DOMAINS = tuple(_MAKERS)


def is_heldout(text: str) -> bool:
    """Whether a question text may only be used for evaluation."""
    return hashlib.sha256(text.encode()).digest()[0] < 64


def _letter(draft: Draft, rng: random.Random, domain: str) -> Question:
    """Shuffle the options, letter them and write the text."""
    texts = rng.sample(draft.options, len(draft.options))
    options = dict(zip(LETTERS, texts, strict=False))
    lines = [draft.stem, *(f"{letter}) {text}" for letter, text in options.items())]
    answer = LETTERS[texts.index(draft.answer)]
    hearsay = LETTERS[texts.index(draft.hearsay)]
    return Question("", domain, "\n".join(lines), options, answer, hearsay)


def stream(seed: int, split: Split = "heldout") -> Iterator[Question]:
    """Yield questions without end; a held-out stream never repeats a text."""
    rng = random.Random(f"{split}-{seed}")
    weights = [weight for weight, _ in _MAKERS.values()]
    seen: set[str] = set()
    number = 0
    while True:
        domain = rng.choices(DOMAINS, weights)[0]
        question = _letter(_MAKERS[domain][1](rng, split), rng, domain)
        text = question.question
        if is_heldout(text) != (split == "heldout") or text in seen:
            continue
        if split == "heldout":
            seen.add(text)
        yield question._replace(id=f"{domain}-{seed}-{number:05d}")
        number += 1


def generate(seed: int, count: int, split: Split = "heldout") -> list[Question]:
    """Return the first ``count`` questions of ``stream``."""
    questions = stream(seed, split)
    return [next(questions) for _ in range(count)]
