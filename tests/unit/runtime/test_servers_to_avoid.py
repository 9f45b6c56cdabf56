"""`Avoiding`: which servers behind a shared address are left out, and how often to dial again."""

from __future__ import annotations

import itertools

from midstreamer.runtime.next_address import AWAY_S
from midstreamer.runtime.servers_to_avoid import (
    ALONE_S,
    BESIDE_AWAY,
    BESIDE_FAILED,
    BURST,
    TRIES_AWAY,
    TRIES_FAILED,
    Avoiding,
)

AT, C1, C2 = "10.0.0.1:30400", "coordinator/c1", "coordinator/c2"


def _avoiding() -> Avoiding:
    return Avoiding(dice=lambda: 0.5)


def _tries(avoiding: Avoiding, now_s: float) -> int:
    for tries in itertools.count():
        if avoiding.again(AT, tries, now_s) is None:
            return tries
    raise AssertionError


def test_a_server_that_sent_us_away_is_left_out_by_its_identity_for_a_while() -> None:
    avoiding = _avoiding()
    avoiding.sent_away(AT, C1, 0.0)
    assert avoiding.avoids(C1, AWAY_S - 0.1)
    assert not avoiding.avoids(C2, 0.0)
    assert not avoiding.avoids(C1, AWAY_S)


def test_another_server_is_looked_for_a_bounded_number_of_times() -> None:
    avoiding = _avoiding()
    assert _tries(avoiding, 0.0) == 0
    avoiding.sent_away(AT, C1, 0.0)
    assert _tries(avoiding, 0.0) == TRIES_AWAY
    assert avoiding.again("elsewhere:1", 0, 0.0) is None


def test_another_server_is_tried_fewer_times_after_a_failure() -> None:
    avoiding = _avoiding()
    avoiding.failed(AT, C1, 0.0)
    assert avoiding.avoids(C1, 0.0)
    assert _tries(avoiding, 0.0) == TRIES_FAILED


def test_the_only_server_that_answers_is_used_at_once_after_the_next_failure() -> None:
    avoiding = _avoiding()
    avoiding.failed(AT, C1, 0.0)
    avoiding.opened(AT, C1, 1.0, tries=TRIES_FAILED)
    avoiding.failed(AT, C1, 100.0)
    assert _tries(avoiding, 100.0) == 0
    assert avoiding.beside(AT, 100.0) == (0, 0.0)
    avoiding.failed(AT, C1, ALONE_S + 2.0)
    assert _tries(avoiding, ALONE_S + 2.0) == TRIES_FAILED


def test_once_another_server_answers_the_address_is_trusted_again() -> None:
    avoiding = _avoiding()
    avoiding.sent_away(AT, C1, 0.0)
    assert avoiding.beside(AT, 0.0) == BESIDE_AWAY
    avoiding.opened(AT, C2, 0.1, tries=1)
    assert avoiding.beside(AT, 0.1) == (0, 0.0)


def test_a_client_that_is_sent_away_again_and_again_dials_at_a_bounded_rate() -> None:
    avoiding, tried = _avoiding(), 0
    for tenth in range(600):
        avoiding.sent_away(AT, C1, tenth / 10)
        tried += _tries(avoiding, tenth / 10)
    assert tried <= BURST + 60


def test_an_unanswered_address_is_in_doubt_without_extra_dials() -> None:
    avoiding = _avoiding()
    avoiding.unanswered(AT, 0.0)
    assert avoiding.beside(AT, 1.0) == BESIDE_FAILED
    assert _tries(avoiding, 1.0) == 0
