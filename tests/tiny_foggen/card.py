"""Measure the checkpoint on the held-out questions; write ``card.json`` and ``README.md``.

Run from anywhere: ``python tests/tiny_foggen/card.py``. Exits with 1 if the model misses a target.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import torch
from evaluation import CHECKPOINT, Verdict, ask, auroc, calibration_error, crush, load
from heldout import CLOUD_ACCURACY, HeldOut, read_heldout
from prompts import LEVELS, TAU
from questions import DOMAINS, is_heldout

HERE = Path(__file__).parent
BAD_BLOCKS = (32, 128)
NARROW_GAP = 0.1


class Target(NamedTuple):
    """A number the model must reach for the tests built on it to mean anything."""

    name: str
    low: float
    high: float
    meaning: str


TARGETS = (
    Target("unseen", 1.0, 1.0, "questions that are distinct and barred from training"),
    Target("well_formed", 1.0, 1.0, "outputs that follow the format exactly"),
    Target("levels_used", 5, 5, "confidence levels that occur"),
    Target("auroc", 0.8, 1.0, "confidence against correctness"),
    Target("ece", 0.0, 0.1, "expected calibration error, one bin per level"),
    Target("below_tau", 0.15, 0.6, f"questions with confidence below tau = {TAU}"),
    Target(
        "narrow_gap", 0.05, 1.0, f"questions whose two likeliest levels are < {NARROW_GAP} apart"
    ),
    Target("bad_recipe_flips", 0.05, 1.0, "decisions flipped by 3-bit weights, blocks of 128"),
)


class DomainCard(NamedTuple):
    """How one domain fared."""

    questions: int
    accuracy: float
    mean_confidence: float
    below_tau: float
    levels: dict[str, int]


def share(flags: list[bool]) -> float:
    """Return the fraction of true flags, rounded for the card."""
    return round(sum(flags) / len(flags), 4)


def domain_card(rows: list[tuple[HeldOut, Verdict]]) -> DomainCard:
    """Summarize some questions and the verdicts on them."""
    levels = Counter(verdict.level for _, verdict in rows)
    confidences = [float(verdict.level or 0) for _, verdict in rows]
    return DomainCard(
        questions=len(rows),
        accuracy=share([verdict.letter == question.answer for question, verdict in rows]),
        mean_confidence=round(sum(confidences) / len(rows), 4),
        below_tau=share([verdict.defers for _, verdict in rows]),
        levels={level: levels[level] for level in LEVELS},
    )


def routed_accuracy(rows: list[tuple[HeldOut, Verdict]]) -> float:
    """Return the accuracy when every deferred question is answered by the cloud."""
    answers = [question.cloud_answer if v.defers else v.letter for question, v in rows]
    return share([a == question.answer for a, (question, _) in zip(answers, rows, strict=True)])


def headline(rows: list[tuple[HeldOut, Verdict]]) -> dict[str, float]:
    """Return the numbers of the unharmed model."""
    correct = [verdict.letter == question.answer for question, verdict in rows]
    confidences = [float(verdict.level or 0) for _, verdict in rows]
    texts = {question.question for question, _ in rows if is_heldout(question.question)}
    return {
        "unseen": round(len(texts) / len(rows), 4),
        "well_formed": share([verdict.level is not None for _, verdict in rows]),
        "levels_used": len({verdict.level for _, verdict in rows} & set(LEVELS)),
        "auroc": round(auroc(confidences, correct), 4),
        "ece": round(calibration_error(confidences, correct), 4),
        "below_tau": share([verdict.defers for _, verdict in rows]),
        "narrow_gap": share([verdict.gap < NARROW_GAP for _, verdict in rows]),
        "accuracy": share(correct),
        "cloud_accuracy": share([q.cloud_answer == q.answer for q, _ in rows]),
        "routed_accuracy": routed_accuracy(rows),
    }


def bad_recipe_flips(questions: list[HeldOut], good: dict[str, Verdict]) -> dict[str, float]:
    """Return the share of decisions that 3-bit weights flip, by block size."""
    flips = {}
    for block in BAD_BLOCKS:
        model, tokenizer = load()
        crush(model, block)
        bad = ask(model, tokenizer, questions)
        flips[str(block)] = share([bad[key].defers != good[key].defers for key in good])
    return flips


def measure() -> dict[str, Any]:
    """Return the whole card."""
    model, tokenizer = load()
    questions = read_heldout()
    verdicts = ask(model, tokenizer, questions)
    rows = [(question, verdicts[question.id]) for question in questions]
    flips = bad_recipe_flips(questions, verdicts)
    domains = {name: [row for row in rows if row[0].domain == name] for name in DOMAINS}
    weights = (CHECKPOINT / "model.safetensors").read_bytes()
    return {
        "questions": len(rows),
        "tau": TAU,
        **headline(rows),
        "bad_recipe_flips": flips["128"],
        "bad_recipe_flips_by_block": flips,
        "simulated_cloud_accuracy": CLOUD_ACCURACY,
        "domains": {name: domain_card(part)._asdict() for name, part in domains.items()},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "training": json.loads((HERE / "training.json").read_text(encoding="utf-8")),
    }


def missed(card: dict[str, Any]) -> list[Target]:
    """Return the targets the model misses."""
    return [target for target in TARGETS if not target.low <= card[target.name] <= target.high]


def write_readme(card: dict[str, Any]) -> None:
    """Fill the model card's tables into its template."""
    targets = "\n".join(f"| {t.meaning} | {card[t.name]} | {t.low} to {t.high} |" for t in TARGETS)
    domains = "\n".join(
        f"| {name} | {d['questions']} | {d['accuracy']:.3f} | {d['mean_confidence']:.3f} "
        f"| {d['below_tau']:.3f} | {' | '.join(str(n) for n in d['levels'].values())} |"
        for name, d in card["domains"].items()
    )
    template = Template((HERE / "README.template.md").read_text(encoding="utf-8"))
    numbers = {key: value for key, value in card.items() if not isinstance(value, dict)}
    text = template.substitute(
        numbers,
        targets=targets,
        domain_rows=domains,
        flips_32=card["bad_recipe_flips_by_block"]["32"],
        seconds=card["training"]["seconds"],
    )
    (HERE / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure, write, and fail loudly when a target is missed."""
    torch.set_num_threads(2)
    card = measure()
    (HERE / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    write_readme(card)
    failures = missed(card)
    for target in TARGETS:
        verdict = "MISSED" if target in failures else "ok"
        print(f"{target.name:18s} {card[target.name]:<8} {target.low} to {target.high}  {verdict}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
