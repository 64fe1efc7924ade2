"""Recorded decisions made up for tests."""

from collections.abc import Sequence

import numpy as np

from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.records import Header

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
HEADER = Header("tiny", "0" * 64, "fp32", LEVELS, "1" * 64)


def recorded(
    confidence: Sequence[float],
    local: Sequence[bool],
    cloud: Sequence[bool | None],
    domains: Sequence[str | None] | None = None,
) -> Decisions:
    """Return decisions of these confidences, both verbalized and expected; 100 and 10 tokens."""
    count = len(confidence)
    return Decisions(
        HEADER,
        ids=tuple(map(str, range(count))),
        domains=tuple(domains or [None] * count),
        verbalized=np.array(confidence, np.float64),
        expected=np.array(confidence, np.float64),
        local_correct=np.array(local, np.bool_),
        cloud_correct=np.array([np.nan if one is None else one for one in cloud], np.float64),
        prompt_tokens=np.full(count, 100, np.int64),
        decoded_tokens=np.full(count, 10, np.int64),
    )


def random_decisions(count: int, seed: int) -> Decisions:
    """Return decisions whose confidence tells something, and a cloud that is mostly right."""
    random = np.random.default_rng(seed)
    confidence = random.choice(LEVELS, count)
    local = random.random(count) < 0.2 + 0.7 * confidence
    cloud = random.random(count) < 0.9
    domains = random.choice(["law", "math"], count)
    return recorded(confidence.tolist(), local.tolist(), cloud.tolist(), domains.tolist())
