"""Who is connected, how many may be, and who must go to make room for a newcomer."""

import ipaddress
import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from foggen_runtime.errors import ConfigError
from foggen_runtime.serving.settings import Settings

_LOG = logging.getLogger(__name__)
_MOST = 1024  # connections, unless the settings say otherwise
_MOST_AT_ONCE = 128
_SPARE_FILES = 64  # for the bundle, databases, logs and the loop
_FILES_PER_QUESTION = 2  # for its connection to the cloud
_BODIES = 16  # times the largest size, for all unfinished requests together
# For this long in a phase no connection is dropped, whoever else comes. Otherwise newcomers would
# drop each other while slow clients in higher phases keep all the places.
_RIPE = 1.0  # seconds in a phase
# When a body's time is up, its request gets this long to say so before the connection is closed.
_TO_TELL = 1.0  # seconds
_IPV6_NETWORK = 64  # bits; whoever has one address of such a network has all of them


class Phase(IntEnum):
    """What a connection is doing; to make room, the lowest phase whose time has come goes first."""

    HEADER = 0  # no whole header has come
    IDLE = 1  # between two requests
    BODY = 2  # the header has come, the body not
    STALLED = 3  # the client takes nothing of its answer
    ASKED = 4  # the request has come, its answer has not gone: such a connection stays


class Member(Protocol):
    """What is needed of a connection here.

    Attributes:
        address: The address it counts towards.
    """

    address: str

    def drop(self) -> None:
        """Close at once."""


@dataclass(frozen=True)
class Limits:
    """How many connections there may be, and how much they may take.

    Attributes:
        most: The most connections.
        per_address: The most connections of one address.
        at_once: Newcomers let in at once; those that make room for them close a moment later.
        body_bytes: The most bytes of one request.
        held_bytes: The most bytes of all unfinished requests together.
        seconds: The longest that a phase may last.
    """

    most: int
    per_address: int
    at_once: int
    body_bytes: int
    held_bytes: int
    seconds: Mapping[Phase, float]

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits that the settings and this process's limit of open files allow.

        Raises:
            ConfigError: The process may not open that many files.
        """
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = sys.maxsize if files < 0 else files
        at_once = min(max(files // 8, 1), _MOST_AT_ONCE)
        spare = _SPARE_FILES + at_once + _FILES_PER_QUESTION * (1 + settings.handoffs)
        most = settings.max_connections
        if most is None:
            most = min(_MOST, files - max(spare, files // 4))
        if most < 1 or files < most + spare:
            raise ConfigError(
                f"max_connections: {max(most, 1)} and {spare} more files must be within the "
                f"{files} files that this process may open; raise that with `ulimit -n`"
            )
        per_address = settings.max_connections_per_address
        if per_address is None:
            per_address = max(1, most // 2)
        seconds = {
            Phase.HEADER: settings.header_timeout,
            Phase.BODY: settings.body_timeout + _TO_TELL,
            Phase.STALLED: settings.send_timeout,
        }
        held = _BODIES * settings.max_body
        return cls(most, min(per_address, most), at_once, settings.max_body, held, seconds)


class Connections:
    """The open connections, each in its phase.

    Attributes:
        limits: How much they may take.
        dropped: How many were dropped or turned away, by reason.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.dropped: Counter[str] = Counter()
        # When each began its phase; the one that has been in it longest comes first.
        self._in_phase: dict[Phase, dict[Member, float]] = {phase: {} for phase in Phase}
        self._phases: dict[Member, Phase] = {}
        self._of_address: Counter[str] = Counter()
        self._held: dict[Member, int] = {}
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._phases)

    def put(self, member: Member, phase: Phase) -> None:
        """Note that a connection, known or new, begins a phase."""
        before = self._phases.get(member)
        if before is None:
            self._of_address[member.address] += 1
        else:
            del self._in_phase[before][member]
        self._phases[member] = phase
        self._in_phase[phase][member] = time.monotonic()

    def hold(self, member: Member, size: int) -> None:
        """Note how many bytes a connection's unfinished request holds, and make room for them."""
        if member not in self._phases:
            return
        self._held_bytes += size - self._held.get(member, 0)
        self._held[member] = size
        while self._held_bytes > self.limits.held_bytes:
            holding = (m for m in self._in_phase[Phase.BODY] if self._held.get(m))
            if (oldest := next(holding, None)) is None:
                return
            self._drop(oldest, "made_room")

    def remove(self, member: Member) -> None:
        """Forget a connection; forgetting it twice does no harm."""
        if (phase := self._phases.pop(member, None)) is None:
            return
        del self._in_phase[phase][member]
        self._held_bytes -= self._held.pop(member, 0)
        self._of_address[member.address] -= 1
        if not self._of_address[member.address]:
            del self._of_address[member.address]

    def admit(self, address: str) -> bool:
        """Make room for one more connection; return whether there is any."""
        limits = self.limits
        if self._of_address[address] >= limits.per_address:
            _LOG.warning("connections: one address has %d, the most allowed", limits.per_address)
            room = self.make_room(address)
        elif len(self) >= limits.most:
            _LOG.warning("connections: %d are open, the most allowed", limits.most)
            room = self.make_room()
        else:
            return True
        if not room:
            self.dropped["turned_away"] += 1
        return room

    def make_room(self, address: str | None = None) -> bool:
        """Drop the most dispensable connection; return whether there was one.

        Args:
            address: Whose; None for anybody's.
        """
        oldest: tuple[float, Member] | None = None
        ripe = time.monotonic() - _RIPE
        for phase in sorted(Phase)[: Phase.ASKED]:
            theirs = (m for m in self._in_phase[phase] if address in (None, m.address))
            if (member := next(theirs, None)) is None:
                continue
            since = self._in_phase[phase][member]
            if since <= ripe or oldest is None or since < oldest[0]:
                oldest = (since, member)
            if since <= ripe:
                break
        if oldest is None:
            return False
        self._drop(oldest[1], "made_room")
        return True

    def expire(self, member: Member) -> None:
        """Drop a connection that took too long."""
        self._drop(member, f"{self._phases[member].name.lower()}_timeout")

    def _drop(self, member: Member, reason: str) -> None:
        self.dropped[reason] += 1
        self.remove(member)
        member.drop()


def counted_address(address: str) -> str:
    """Return what an address's connections are counted under."""
    plain, _, _ = address.partition("%")
    known = ipaddress.ip_address(plain)
    if known.version == 4:
        return plain
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, _IPV6_NETWORK), strict=False))
