"""Results of questions that were never asked."""

import uuid

from foggen_runtime.result import BundleRef, Result


def queued(reason: str = "cloud_unreachable") -> Result:
    """Return the result of a question that is to be queued."""
    return Result(
        answer=None,
        source="queued",
        reason=reason,
        tau=0.5,
        tau_source="default",
        bundle=BundleRef("tiny", "0" * 64),
        id=uuid.uuid4().hex,
        deferral="below_tau",
        confidence=0.25,
        level_probabilities=(0.5, 0.25, 0.25),
    )
