"""At most one replica leads, for any delays, clocks and answers of the API server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer_operator.plan.election import Election, Move
from midstreamer_operator.resources import leases
from midstreamer_operator.resources.leases import Record

LEASE_S, WITHIN_S = 6.0, 4.0


def an_election(me: str = "a") -> Election:
    return Election(me, lease_s=LEASE_S, renew_within_s=WITHIN_S)


def test_a_lease_that_is_not_there_is_created_and_then_renewed() -> None:
    election = an_election()
    assert election.read(None, 0.0) is Move.CREATE
    election.written(0.0)
    assert election.leads(WITHIN_S - 0.1)
    assert election.read(Record("a", "1", LEASE_S), 1.0) is Move.RENEW


def test_anothers_lease_is_taken_only_after_a_whole_lease_of_silence() -> None:
    election = an_election()
    assert election.read(Record("b", "1", LEASE_S), 100.0) is Move.WAIT
    assert election.read(Record("b", "2", LEASE_S), 105.0) is Move.WAIT
    assert election.read(Record("b", "2", LEASE_S), 105.0 + LEASE_S - 0.1) is Move.WAIT
    assert election.read(Record("b", "2", LEASE_S), 105.0 + LEASE_S) is Move.TAKE


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    assert an_election().read(Record("", "9", 1.0), 0.0) is Move.TAKE


def test_a_restarted_container_goes_on_with_its_own_lease() -> None:
    assert an_election().read(Record("a", "9", LEASE_S), 0.0) is Move.RENEW


def test_a_leader_that_cannot_renew_stops_before_its_lease_is_over() -> None:
    election = an_election()
    election.read(None, 0.0)
    election.written(0.0)
    assert not election.leads(WITHIN_S)


def test_a_leader_that_sees_another_holder_leads_no_more() -> None:
    election = an_election()
    election.read(None, 0.0)
    election.written(0.0)
    assert election.read(Record("b", "2", LEASE_S), 1.0) is Move.WAIT
    assert not election.leads(1.0)
    assert election.holder == "b"


def test_a_lease_counts_its_holders_and_says_how_long_it_is() -> None:
    lease = leases.made("x", "a", LEASE_S, 1_800_000_000.0)
    assert lease["spec"]["leaseTransitions"] == 0
    renewed = leases.held(lease, "a", LEASE_S, 1_800_000_001.0)
    assert renewed["spec"]["acquireTime"] == lease["spec"]["acquireTime"]
    assert renewed["spec"]["renewTime"] == "2027-01-15T08:00:01.000000Z"
    taken = leases.held(leases.held(lease, "", LEASE_S, 0.0), "b", LEASE_S, 2.0)
    assert taken["spec"]["leaseTransitions"] == 1
    assert leases.read(taken) == Record("b", "", LEASE_S)


def test_a_lease_with_fractions_of_a_second_is_rounded_up() -> None:
    for lease_s in (2.0, 2.4, 2.5, 6.1):
        record = leases.read(leases.made("x", "a", lease_s, 0.0))
        assert lease_s <= record.lease_s < lease_s + 1.0


@dataclass
class Cluster:
    """A fake cluster: one Lease object with resource versions, and the replicas that use it."""

    replicas: list[Election]
    now_s: float = 0.0
    lease: dict[str, Any] | None = None
    version: int = 0
    read: dict[str, tuple[float, dict[str, Any] | None]] = field(default_factory=dict)

    def look(self, election: Election) -> None:
        self.read[election.me] = (self.now_s, self.lease)

    def write(self, election: Election) -> None:
        """Let a replica write the lease that it read; refuse when the lease has changed since."""
        asked_s, given = self.read.pop(election.me, (0.0, None))
        record = leases.read(given) if given else None
        move = election.read(record, self.now_s)
        if move is Move.WAIT:
            return
        seen = record.version if record else ""
        if seen != (leases.read(self.lease).version if self.lease else ""):
            election.lost()
            return
        self.version += 1
        lease = leases.held(self.lease or {}, election.me, LEASE_S, self.now_s)
        self.lease = {**lease, "metadata": {"resourceVersion": str(self.version)}}
        election.written(asked_s)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["look", "write", "both"]),
            st.floats(0.0, 8.0),
        ),
        max_size=60,
    )
)
def test_two_never_lead_at_once_however_slow_and_unfair_things_are(
    turns: list[tuple[int, str, float]],
) -> None:
    cluster = Cluster([an_election(me) for me in "abc"])
    for number, what, pause_s in turns:
        election = cluster.replicas[number]
        if what in ("look", "both") or election.me not in cluster.read:
            cluster.look(election)
        if what in ("write", "both"):
            cluster.write(election)
        cluster.now_s += pause_s
        assert sum(each.leads(cluster.now_s) for each in cluster.replicas) <= 1
