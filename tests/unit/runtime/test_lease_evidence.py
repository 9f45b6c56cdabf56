"""`Reporter`: the facts of a process that its lease carries, as short texts of bounded size."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import identity
from midstreamer.domain.errors import Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import EVIDENCE_BYTES_MAX, EVIDENCE_KEYS, Member
from midstreamer.runtime import lease_evidence
from midstreamer.runtime.fleet_member import Membership
from midstreamer.runtime.lease_evidence import Busy, Clocks, Facts, Reporter, told, where
from midstreamer.runtime.peer import Peer, Session
from midstreamer.sync import lease_limits
from midstreamer.transport import address
from midstreamer.transport.carrier import TrustReport
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.unit.runtime.test_fleet_member import Sync

ANYBODY = cast("Peer", None)


def a_reporter(**given: Any) -> Reporter:
    me = identity.make("local", Kind.AGENT, "a1")
    return Reporter(MemoryCarrier(MemoryNetwork(), me), **given)


def test_every_fact_has_its_key() -> None:
    trust = TrustReport("7f", 1_800_000_000.0, "b0b0", ("aa", "bb"))
    facts = Facts("draining", ["no lease"], 3, 1.25, 0.5, 12, "numba", trust, "9.9", ("x", "y"))
    assert lease_evidence.told(facts) == {
        "stage": "draining",
        "complete": "no lease",
        "requests": "3",
        "oldest_waiting_s": "1.2",
        "busy": "0.50",
        "shards_left": "12",
        "engine": "numba",
        "serial": "7f",
        "not_after": "1800000000",
        "bundle": "b0b0",
        "judged_by": "aa bb",
        "version": "9.9",
        "capabilities": "x y",
    }


def test_what_a_process_without_certificates_tells_is_known_to_sync() -> None:
    facts = lease_evidence.told(Facts("serving"))
    assert facts["complete"] == "yes"
    assert facts["capabilities"].split() == list(OURS)
    assert facts.keys() < EVIDENCE_KEYS


def test_many_authorities_are_cut_and_counted() -> None:
    authorities = tuple(f"{number:016x}" for number in range(1000))
    facts = lease_evidence.told(Facts("serving", trust=TrustReport("1", 1.0, "b", authorities)))
    listed = facts["judged_by"].split()
    assert lease_evidence.size_of(facts) <= EVIDENCE_BYTES_MAX
    assert listed[:2] == list(authorities[:2])
    assert listed[-1] == f"+{1000 - len(listed) + 1}"


@given(st.lists(st.text(max_size=2000), max_size=5), st.integers(0, 2000))
def test_sync_accepts_any_evidence_that_a_process_reports(
    missing: list[str], authorities: int
) -> None:
    trust = TrustReport("f" * 40, 1.0, "b" * 16, ("a" * 16,) * authorities)
    facts = lease_evidence.told(Facts("draining", missing, 10**9, 1e9, 1.0, 10**9, "numba", trust))
    member = Member("agent/a1", "i", "", evidence=facts)
    lease_limits.check(member, (), members_max=1, capabilities=OURS)


async def test_a_sync_of_the_previous_version_gets_only_the_facts_it_knows() -> None:
    facts = lease_evidence.told(
        Facts("serving", engine="numba", trust=TrustReport("7f", 1.0, "b0", ()))
    )
    sync = Sync()
    sync.capabilities = frozenset()
    me = Member("agent/a1", "i", "", evidence=facts)
    renewing = asyncio.ensure_future(
        Membership(cast("Session", sync), lambda: me, lambda _fleet: None).run()
    )
    await sync.came.wait()
    renewing.cancel()
    lease = sync.renewals[0].member
    assert lease.evidence == {"engine": "numba", "serial": "7f", "bundle": "b0"}
    lease_limits.check(lease, (), members_max=1)


@pytest.mark.parametrize(
    ("threads", "loop_s", "process_s", "share"),
    [
        (0, 2.0, 2.0, 0.2),
        (0, 12.0, 12.0, 1.0),
        (2, 1.0, 11.0, 0.5),  # the two threads together worked for 10 of 20 s
        (2, 6.0, 8.0, 0.6),
        (2, 0.0, 0.0, 0.0),
    ],
)
def test_the_busy_share_is_that_of_the_loop_or_of_the_threads(
    threads: int, loop_s: float, process_s: float, share: float
) -> None:
    busy = Busy(Clocks(100.0, 5.0, 7.0), threads=threads)
    assert busy.share(Clocks(110.0, 5.0 + loop_s, 7.0 + process_s)) == pytest.approx(share)


def test_the_busy_share_forgets_what_is_longer_ago_than_ten_seconds() -> None:
    busy = Busy(Clocks(0.0, 0.0, 0.0), threads=0)
    shares = [busy.share(Clocks(at, min(at, 10.0), min(at, 10.0))) for at in range(1, 41)]
    assert shares[9] == 1.0
    assert 0.0 < shares[14] < 1.0
    assert shares[20:] == [0.0] * 20
    assert len(busy._samples) <= 12


async def test_requests_are_counted_while_they_are_under_way() -> None:
    going = asyncio.Event()

    async def handle(peer: Peer, frame: frames.Frame) -> None:
        await going.wait()
        raise Unavailable("not now")

    reporter = a_reporter()
    counted = reporter.counting(handle)
    asked = [_begun(counted, frames.Survey()) for _ in range(2)]
    asked += [_begun(counted, frames.Tail(after=0)), _begun(counted, frames.Holdings(0, ()))]
    await asyncio.sleep(0.1)
    under_way = reporter.evidence("serving", list)
    going.set()
    await asyncio.wait(asked)
    after = reporter.evidence("serving", list)
    assert (under_way["requests"], after["requests"]) == ("2", "0")
    assert float(under_way["oldest_waiting_s"]) >= 0.1
    assert float(after["oldest_waiting_s"]) == 0.0


def _begun(
    handle: Callable[[Peer, frames.Frame], Awaitable[Any]], frame: frames.Frame
) -> asyncio.Future[Any]:
    return asyncio.ensure_future(handle(ANYBODY, frame))


def test_what_takes_long_to_find_out_is_found_out_rarely() -> None:
    looked = 0

    def missing() -> list[str]:
        nonlocal looked
        looked += 1
        sum(range(200_000))  # takes some milliseconds of CPU time
        return ["a shard"]

    reporter = a_reporter()
    answers = {reporter.evidence("serving", missing)["complete"] for _ in range(10)}
    assert answers == {"a shard"}
    assert looked == 1


@pytest.mark.parametrize(
    ("served", "place", "carriers"),
    [
        ("h:7400", "h:7400", ""),
        ("quic+wss://h:7400", "h:7400", "quic+wss"),
        ("wss://h:7400", "wss://h:7400", ""),
        ("", "", ""),
    ],
)
def test_a_lease_lists_carriers_beside_an_address_that_older_peers_read(
    served: str, place: str, carriers: str
) -> None:
    assert address.told(served) == (place, carriers)
    evidence = told(Facts("serving", carriers=carriers))
    assert evidence.get("carriers", "") == carriers
    assert where(Member("coordinator/c1", "first", place, evidence=evidence)) == served
