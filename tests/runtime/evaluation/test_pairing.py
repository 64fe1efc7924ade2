import dataclasses

import numpy as np
import pytest

from foggen_runtime import ConfigError
from foggen_runtime.evaluation.pairing import pair
from foggen_runtime.evaluation.summary import Threshold
from tests.support.recorded import HEADER, recorded

FIRST = recorded([0.0, 0.25, 0.75, 1.0], [False, True, True, True], [True] * 4)
SECOND = recorded([0.0, 0.75, 0.5, 0.25], [False, False, True, True], [True] * 4)


def test_flips_and_changes_are_counted_by_hand() -> None:
    """At 0.5 the second and fourth decisions flip; three levels change."""
    pairing = pair(FIRST, SECOND, Threshold(0.5))
    assert (pairing.flips.count, pairing.flips.share, pairing.level_changes) == (2, 0.5, 3)
    routed, local, system = (
        pairing.changes[name] for name in ("routed_share", "local_accuracy", "system_accuracy")
    )
    assert (routed.reference, routed.other, routed.difference) == (0.5, 0.5, 0.0)
    assert local.difference == -0.25
    assert (system.reference, system.other) == (1.0, 0.75)


def test_questions_are_matched_by_id() -> None:
    shuffled = SECOND.only(np.array([3, 1, 0, 2]))
    assert pair(FIRST, shuffled, Threshold(0.5)) == pair(FIRST, SECOND, Threshold(0.5))


def test_other_questions_are_refused() -> None:
    other = dataclasses.replace(SECOND, header=dataclasses.replace(HEADER, data_sha256="2" * 64))
    with pytest.raises(ConfigError, match="must be of the same data"):
        pair(FIRST, other, Threshold(0.5))
    with pytest.raises(ConfigError, match="must hold the same questions"):
        pair(FIRST, SECOND.only(np.array([0, 1, 2])), Threshold(0.5))
