"""The questions that ship: some calibrate, the others judge."""

import json
import re
from collections import Counter

import pytest

from foggen_exporter.calibration.calibration import MAX_QUESTIONS, CalibrationSet
from foggen_runtime.statistics.intervals import total_needed
from foggen_runtime.text.choice import question_options
from foggen_runtime.text.questions import Question, judging_questions, shipped_questions
from tests.conftest import TINY

DOMAINS = ("finance", "science", "coding", "law", "math", "kazakh-culture", "medical")
IN_KAZAKH = "kazakh-culture-kk"
CALIBRATING = shipped_questions(
    CalibrationSet.__module__.rpartition(".")[0], "calibration_questions.jsonl"
)
JUDGING = judging_questions()
ALL = (*CALIBRATING, *JUDGING)


def group(question: Question) -> str:
    """Return an id without its number: the domain, with the language where it is another."""
    assert question.id
    return question.id.rpartition("-")[0]


def test_each_domain_has_thirty_and_kazakh_culture_also_in_kazakh() -> None:
    assert Counter(map(group, ALL)) == dict.fromkeys((*DOMAINS, IN_KAZAKH), 30)
    assert all(question.domain == group(question).removesuffix("-kk") for question in ALL)
    numbers = sorted(question.id or "" for question in ALL)
    wanted = [f"{name}-{n:02}" for name in (*DOMAINS, IN_KAZAKH) for n in range(1, 31)]
    assert numbers == sorted(wanted)


def test_eight_of_each_calibrate_and_the_others_judge() -> None:
    assert Counter(map(group, CALIBRATING)) == dict.fromkeys((*DOMAINS, IN_KAZAKH), 8)
    texts = [question.question for question in ALL]
    assert len(set(texts)) == len(texts)
    assert CalibrationSet.built_in().questions == tuple(q.question for q in CALIBRATING)
    assert len(CALIBRATING) <= MAX_QUESTIONS


def test_no_question_calibrates_in_one_language_and_judges_in_another() -> None:
    both = [
        {(q.id or "").replace("-kk", "") for q in questions if q.domain == "kazakh-culture"}
        for questions in (CALIBRATING, JUDGING)
    ]
    assert both[0].isdisjoint(both[1])


def test_they_can_show_a_flip_rate_of_two_percent_without_the_translations() -> None:
    assert sum(group(q) != IN_KAZAKH for q in JUDGING) >= total_needed(0, len(JUDGING), 0.02)


@pytest.mark.parametrize("question", ALL, ids=lambda question: question.id)
def test_a_question_has_distinct_options_in_order_and_one_is_right(question: Question) -> None:
    letters = question_options(question.question)
    assert "".join(letters) in ("ABC", "ABCD", "ABCDE")
    assert question.answer in letters
    options = re.findall(r"^[A-E]\) (.+)$", question.question, re.MULTILINE)
    assert len(set(options)) == len(options) == len(letters)


def test_translations_have_the_same_options_and_answers() -> None:
    by_id = {question.id: question for question in ALL}
    for question in ALL:
        if group(question) == IN_KAZAKH:
            original = by_id[(question.id or "").replace("-kk", "")]
            assert question.answer == original.answer
            assert question_options(question.question) == question_options(original.question)
            assert re.search("[әғқңөұүһі]", question.question.lower())


def test_no_letter_is_right_much_more_often_than_others() -> None:
    counts = Counter(q.answer for q in ALL if len(question_options(q.question)) == 4)
    assert set(counts) == set("ABCD")
    assert max(counts.values()) <= 1.3 * min(counts.values())


def test_none_is_a_held_out_question_of_the_tiny_foggen() -> None:
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = {json.loads(line)["question"] for line in lines}
    assert held_out.isdisjoint(question.question for question in ALL)
