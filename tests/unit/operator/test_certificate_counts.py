"""`Holders` counts the certificates of an identity that have not expired."""

from __future__ import annotations

from midstreamer_operator.plan.certificate_counts import Holders

AGENT, SYNC = "spiffe://test.local/agent/fleet/a/1", "spiffe://test.local/sync/fleet/s/1"


def test_what_is_in_the_ledger_and_what_was_signed_since_count_together_until_they_end() -> None:
    holders = Holders()
    holders.learn(AGENT, {"one": 100.0, "two": 200.0})
    holders.sign(AGENT, "three", 300.0)
    holders.sign(SYNC, "four", 300.0)

    assert [holders.live(AGENT, now_s) for now_s in (99.0, 100.0, 200.0, 300.0)] == [3, 2, 1, 0]


def test_a_request_counts_once_however_often_it_is_looked_at_and_not_against_itself() -> None:
    holders = Holders()
    for _ in range(3):
        holders.sign(AGENT, "one", 100.0)

    assert holders.live(AGENT, 1.0) == 1
    assert holders.live(AGENT, 1.0, but="one") == 0


def test_the_ledger_is_read_once_and_again_when_nothing_is_left() -> None:
    holders = Holders()
    known = [holders.knows(AGENT)]
    holders.learn(AGENT, {})
    known.append(holders.knows(AGENT))
    holders.sign(AGENT, "one", 100.0)
    holders.forget(99.0)
    known.append(holders.knows(AGENT))
    holders.forget(100.0)
    known.append(holders.knows(AGENT))

    assert known == [False, True, True, False]
