"""What a policy needs besides the model: the cloud, the outbox, the budget and the log."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from foggen_runtime.errors import ConfigError
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.handoff.sending import Handoff

if TYPE_CHECKING:
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.handoff.budget import DailyBudget
    from foggen_runtime.handoff.decision_log import DecisionLog
    from foggen_runtime.handoff.outbox import Outbox

_LEASE_MARGIN = 30.0  # seconds by which a lease in the outbox outlasts the cloud's total timeout


@dataclass(frozen=True)
class Services:
    """A policy, and what it uses.

    Attributes:
        policy: The rules.
        handoff: Asks the cloud, if there is one.
        outbox: Where questions wait, if the policy queues them.
        log: Where decisions are logged, if they are.
        lease_seconds: How long a delivery from the outbox may take.
    """

    policy: Policy
    handoff: Handoff | None = None
    outbox: "Outbox | None" = None
    log: "DecisionLog | None" = None
    lease_seconds: float = 300.0

    @classmethod
    def open(cls, cloud: "Cloud | None", policy: Policy) -> Self:
        """Open what the policy uses; import no more than that, for importing is slow on a board.

        Raises:
            ConfigError: A file is not set, or two system prompts are.
            StateError: A file cannot be used.
        """
        handoff = outbox = log = None
        try:
            if policy.on_unreachable == "queue":
                outbox = open_outbox(policy)
            if policy.decision_log.file is not None:
                from foggen_runtime.handoff.decision_log import DecisionLog

                log = DecisionLog(policy.decision_log)
            if cloud is not None:
                handoff = open_handoff(cloud, policy)
        except BaseException:
            if outbox is not None:
                outbox.close()
            raise
        if cloud is None:
            return cls(policy, handoff, outbox, log)
        return cls(policy, handoff, outbox, log, outbox_lease(cloud))

    def close(self) -> None:
        """Close the connection to the cloud, and the files."""
        if self.handoff:
            self.handoff.close()
        if self.outbox:
            self.outbox.close()


def outbox_lease(cloud: "Cloud") -> float:
    """Return the seconds for which an outbox entry is leased while this cloud is asked."""
    return cloud.total_timeout + _LEASE_MARGIN


def open_outbox(policy: Policy) -> "Outbox":
    """Open the policy's outbox.

    Raises:
        ConfigError: Its file is not set.
        StateError: Its file cannot be used.
    """
    from foggen_runtime.handoff.outbox import Outbox

    return Outbox(policy.outbox)


def open_handoff(cloud: "Cloud", policy: Policy) -> Handoff:
    """Prepare to hand questions to the cloud; nothing is sent yet.

    Raises:
        ConfigError: The budget's file is not set, or two system prompts are.
        StateError: The budget's file cannot be used.
    """
    from foggen_runtime.cloud.client import CloudClient

    if policy.cloud_system_prompt is not None:
        if cloud.system_prompt is not None:
            raise ConfigError(
                "cloud_system_prompt: must be set in the policy or in the cloud, is set in both"
            )
        cloud = replace(cloud, system_prompt=policy.cloud_system_prompt)
    return Handoff(CloudClient(cloud), policy, _open_budget(policy))


def _open_budget(policy: Policy) -> "DailyBudget | None":
    if not policy.budget.limited:
        return None
    from foggen_runtime.handoff.budget import DailyBudget

    return DailyBudget(policy.budget)
