"""`Places`: an identity holds at most half of them; the next goes to who holds the fewest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.runtime.places import Entry, Places, Shares, share_of

IDENTITIES = ("client/a", "client/b", "client/c", "client/d")
Step = tuple[str, int]
"""A step of a test. (identity, number): a request of this identity enters; the number is ignored.
("leave", number): one request leaves; the number, modulo the requests present, says which."""
STEPS = st.lists(st.tuples(st.sampled_from((*IDENTITIES, "leave")), st.integers(0, 99)))
LIMITS = st.integers(1, 9)


class Watched:
    """Checks `Places` against a simple model of who is inside and who waits, oldest first."""

    def __init__(self, limit: int, line: int) -> None:
        self.places = Places(limit, line=line)
        self.inside: dict[int, str] = {}
        self.line: dict[int, str] = {}
        self._keys = iter(range(10_000))

    def ask(self, identity: str) -> None:
        key = next(self._keys)
        entry, displaced = self.places.enter(key, identity)
        if displaced is not None:
            del self.line[displaced]
        if entry is Entry.ADMITTED:
            self.inside[key] = identity
        elif entry is Entry.WAITING:
            self.line[key] = identity

    def leave(self, key: int) -> None:
        held = None if key in self.line else self.inside
        (self.line if held is None else held).pop(key)
        for admitted in self.places.leave(key):
            self._check_next(self.line[admitted], admitted)
            self.inside[admitted] = self.line.pop(admitted)

    def _check_next(self, identity: str, key: int) -> None:
        """Check that the right entry got the free place.

        The entry must be the first of its identity, and no other waiting identity that may enter
        holds fewer places.
        """
        assert key == next(other for other, who in self.line.items() if who == identity)
        held = self.held(identity)
        eligible = {who for who in self.line.values() if self.held(who) < self.places.share}
        assert held == min(self.held(who) for who in eligible)

    def held(self, identity: str) -> int:
        return list(self.inside.values()).count(identity)

    def check(self) -> None:
        places = self.places
        assert places.taken == len(self.inside) <= places.limit
        assert places.waiting == len(self.line) <= places.line
        free = len(self.inside) < places.limit
        for identity in IDENTITIES:
            assert places.held(identity) == self.held(identity) <= share_of(places.limit)
            waiting = list(self.line.values()).count(identity)
            assert places.waiting_of(identity) == waiting <= share_of(places.line)
            assert not (waiting and free and self.held(identity) < places.share)


def walk(watched: Watched, steps: list[Step]) -> None:
    for who, number in steps:
        present = [*watched.inside, *watched.line]
        if who != "leave":
            watched.ask(who)
        elif present:
            watched.leave(present[number % len(present)])
        watched.check()


@given(LIMITS, st.integers(0, 9), STEPS)
def test_limits_shares_and_order_hold_whatever_happens(
    limit: int, line: int, steps: list[Step]
) -> None:
    walk(Watched(limit, line), steps)


@given(LIMITS, LIMITS, STEPS)
def test_when_all_have_left_nothing_is_remembered(limit: int, line: int, steps: list[Step]) -> None:
    watched = Watched(limit, line)
    walk(watched, steps)
    while watched.inside:
        watched.leave(next(iter(watched.inside)))
    assert not watched.line
    places = watched.places
    counts = (places._held, places._held_by, places._lines, places._in_line, places._waiting)
    assert not any(counts)


@given(LIMITS, LIMITS, STEPS, st.lists(st.sampled_from(IDENTITIES[:3]), min_size=60, max_size=60))
def test_nobody_starves_while_others_keep_coming(
    limit: int, line: int, steps: list[Step], others: list[str]
) -> None:
    watched = Watched(limit, line)
    walk(watched, steps)
    watched.ask("client/d")
    mine = [key for key, who in watched.line.items() if who == "client/d"][:1]
    # Each time, a request of another identity enters. Then one of the requests that hold a place
    # leaves: the one that was admitted first.
    for other in others:
        watched.ask(other)
        if watched.inside:
            watched.leave(next(iter(watched.inside)))
    assert not set(mine) & watched.line.keys()


def test_a_greedy_identity_leaves_half_of_the_places() -> None:
    places = Places(4)
    entries = [places.enter(key, "client/greedy")[0] for key in range(6)]
    assert entries == [Entry.ADMITTED] * 2 + [Entry.WAITING] * 2 + [Entry.REFUSED] * 2
    assert places.enter(9, "client/good") == (Entry.ADMITTED, None)


def test_the_next_place_goes_to_the_identity_with_the_fewest() -> None:
    places = Places(4)
    for key, identity in enumerate(("a", "a", "b", "b", "a", "c")):
        places.enter(key, identity)
    # Request 5, of identity c, is admitted before requests 3 and 4, because c holds no place.
    assert places.leave(0) == [5]


def test_in_a_full_line_an_identity_with_few_displaces_the_newest_of_the_one_with_most() -> None:
    places = Places(2, line=4)
    for key, identity in enumerate(("a", "b", "a", "a", "b", "b")):
        places.enter(key, identity)
    assert places.enter(6, "c") == (Entry.WAITING, 3)
    # Identity c has one waiting request, and b has two. With request 7, c would have as many as b.
    # So no request of b is removed from the line to make room for request 7.
    assert places.enter(7, "c") == (Entry.REFUSED, None)
    assert places.enter(8, "d") == (Entry.WAITING, 5)


def test_clients_of_one_coordinator_take_turns_within_its_share() -> None:
    places = Places(4, line=4)
    for key, client in enumerate(("greedy", "greedy", "greedy", "other")):
        places.enter(key, "coordinator/c1", f"client/{client}")
    entry, displaced = places.enter(4, "coordinator/c1", "client/good")
    assert (entry, displaced) == (Entry.WAITING, 2)
    assert places.leave(3) == [4]


def test_one_client_of_a_coordinator_leaves_half_of_its_share() -> None:
    places = Places(8)
    entries = [places.enter(key, "coordinator/c1", "client/greedy")[0] for key in range(3)]
    assert entries == [Entry.ADMITTED] * 2 + [Entry.WAITING]
    assert places.enter(9, "coordinator/c1", "client/good") == (Entry.ADMITTED, None)


def test_many_origins_do_not_make_an_identity_larger() -> None:
    places = Places(2, line=4)
    for key, number in enumerate((1, 1, 1, 2, 2, 2)):
        places.enter(key, f"coordinator/c{number}", f"client/{key}")
    assert places.enter(6, "coordinator/c3", "client/u1") == (Entry.WAITING, 1)


def test_a_single_place_is_open_to_every_identity() -> None:
    places = Places(1, line=0)
    assert places.enter(1, "a")[0] is Entry.ADMITTED
    assert places.enter(2, "a")[0] is Entry.REFUSED
    assert places.leave(1) == []
    assert places.enter(3, "b")[0] is Entry.ADMITTED


AMOUNTS = st.lists(st.tuples(st.sampled_from(IDENTITIES), st.integers(1, 5)))


@given(st.integers(10, 40), AMOUNTS)
def test_no_identity_holds_more_than_half_of_an_amount(
    limit: int, asked: list[tuple[str, int]]
) -> None:
    shares = Shares(limit)
    for identity, amount in asked:
        if shares.fits(identity, amount):
            shares.take(identity, amount)
    assert shares.taken == sum(shares.held(identity) for identity in IDENTITIES) <= limit
    assert all(shares.held(identity) <= limit // 2 for identity in IDENTITIES)


@pytest.mark.parametrize("amount", [6, 11])
def test_an_amount_larger_than_a_share_is_taken_alone(amount: int) -> None:
    shares = Shares(10)
    assert shares.fits("a", amount)
    shares.take("a", amount)
    assert not shares.fits("a")
    shares.give_back("a", amount)
    assert (shares.taken, shares.held("a")) == (0, 0)


def test_amounts_of_zero_may_be_taken_and_given_back_any_number_of_times() -> None:
    shares = Shares(10)
    for amount in (0, 0, 3):
        shares.take("client/a", amount)
    for amount in (3, 0, 0):
        shares.give_back("client/a", amount)
    assert (shares.taken, shares.held("client/a")) == (0, 0)
