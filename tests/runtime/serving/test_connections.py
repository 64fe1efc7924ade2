"""Which connections may stay, and which must go when one more comes."""

import resource

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.serving.connections import Connections, Limits, Phase, counted_address
from foggen_runtime.serving.settings import Settings


class Client:
    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("foggen_runtime.serving.connections.time", clock)
    return clock


def limits(most: int = 8, per_address: int = 8, held: int = 1000) -> Limits:
    return Limits(most, per_address, 1, 100, held, {})


def arrived(connections: Connections, phase: Phase, address: str = "127.0.0.1") -> Client:
    client = Client(address)
    connections.put(client, phase)
    return client


def test_who_is_missed_least_goes_first(clock: Clock) -> None:
    connections = Connections(limits(most=5))
    asked = arrived(connections, Phase.ASKED)
    stalled = arrived(connections, Phase.STALLED)
    body = arrived(connections, Phase.BODY)
    idle = arrived(connections, Phase.IDLE)
    clock.now = 5.0
    header = arrived(connections, Phase.HEADER)
    clock.now = 10.0
    for expected in (header, idle, body, stalled):
        assert connections.admit("127.0.0.1")
        assert expected.dropped
        arrived(connections, Phase.ASKED)
    assert not connections.admit("127.0.0.1")
    assert not asked.dropped
    assert connections.dropped == {"made_room": 4, "turned_away": 1}
    assert len(connections) == 5


def test_a_newcomer_has_a_moment_to_ask(clock: Clock) -> None:
    connections = Connections(limits(most=3))
    slow = [arrived(connections, Phase.BODY) for _ in range(2)]
    clock.now = 30.0
    newcomer = arrived(connections, Phase.HEADER)
    clock.now = 30.1
    assert connections.admit("127.0.0.1")
    assert [client.dropped for client in (*slow, newcomer)] == [True, False, False]


def test_where_all_are_new_the_oldest_goes(clock: Clock) -> None:
    connections = Connections(limits(most=3))
    clients = []
    for phase in (Phase.BODY, Phase.HEADER, Phase.HEADER):
        clients.append(arrived(connections, phase))
        clock.now += 0.1
    assert connections.admit("127.0.0.1")
    assert [client.dropped for client in clients] == [True, False, False]


def test_whoever_goes_on_is_no_longer_the_idlest(clock: Clock) -> None:
    connections = Connections(limits(most=2))
    first, second = arrived(connections, Phase.IDLE), arrived(connections, Phase.IDLE)
    connections.put(first, Phase.ASKED)
    connections.put(first, Phase.IDLE)
    clock.now = 5.0
    assert connections.admit("127.0.0.1")
    assert (first.dropped, second.dropped) == (False, True)


def test_an_address_with_too_many_loses_its_own(clock: Clock) -> None:
    connections = Connections(limits(most=8, per_address=2))
    other = arrived(connections, Phase.HEADER, "10.0.0.1")
    mine = [arrived(connections, Phase.IDLE, "10.0.0.2") for _ in range(2)]
    clock.now = 5.0
    assert connections.admit("10.0.0.2")
    assert [client.dropped for client in (other, *mine)] == [False, True, False]
    connections.put(mine[1], Phase.ASKED)
    arrived(connections, Phase.ASKED, "10.0.0.2")
    assert not connections.admit("10.0.0.2")
    assert connections.admit("10.0.0.1")


def test_unfinished_bodies_are_bounded_together() -> None:
    connections = Connections(limits(held=250))
    bodies = [arrived(connections, Phase.BODY) for _ in range(3)]
    for client in bodies:
        connections.hold(client, 90)
    assert [client.dropped for client in bodies] == [True, False, False]
    connections.hold(bodies[1], 0)
    connections.hold(bodies[2], 100)
    last = arrived(connections, Phase.BODY)
    connections.hold(last, 100)
    connections.hold(bodies[0], 100)  # gone, and holds nothing
    assert not any(client.dropped for client in (*bodies[1:], last))


def test_whoever_leaves_is_forgotten() -> None:
    connections = Connections(limits(most=1, per_address=1))
    for _ in range(3):
        assert connections.admit("::1")
        client = arrived(connections, Phase.BODY, "::1")
        connections.hold(client, 100)
        connections.remove(client)
        connections.remove(client)
    assert len(connections) == 0
    assert connections.dropped == {}


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_network_counts_as_one_address(address: str, counted: str) -> None:
    assert counted_address(address) == counted


@pytest.mark.parametrize(
    ("files", "most"), [(256, 142), (1024, 768), (4096, 1024), (resource.RLIM_INFINITY, 1024)]
)
def test_the_limit_follows_from_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    found = Limits.of(Settings())
    assert (found.most, found.per_address) == (most, most // 2)
    assert Limits.of(Settings(max_connections=10)).most == 10
    assert Limits.of(Settings(max_connections_per_address=7)).per_address == 7


@pytest.mark.parametrize(("files", "wanted"), [(64, None), (1024, 1000)])
def test_too_few_files_are_refused(
    monkeypatch: pytest.MonkeyPatch, files: int, wanted: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    with pytest.raises(ConfigError, match=rf"max_connections: .* the {files} files .*ulimit -n"):
        Limits.of(Settings(max_connections=wanted))
