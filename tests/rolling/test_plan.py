"""Tests: in every plan, linked members meet in all four combinations of the two versions."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.rolling import plan
from tests.rolling.plan import MEMBERS, Version

KINDS_THAT_TALK = [("coordinator", "sync"), ("agent", "sync"), ("agent", "coordinator"),
                   ("client", "coordinator")]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_of_kinds_meets_in_every_pair_of_versions(seed: int) -> None:
    wanted = {
        (dialler, old_or_new, listener, other)
        for dialler, listener in KINDS_THAT_TALK
        for old_or_new, other in itertools.product(Version, repeat=2)
    }
    assert plan.pairs(plan.make(seed)) == wanted


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_every_member_is_restarted_once_a_round_and_changes_its_version(rounds: int) -> None:
    chosen = plan.make(7, rounds=rounds)
    now = dict(chosen.versions)
    for event in chosen.events:
        if event.member:
            assert event.before is now[event.member]
            now[event.member] = event.after
            assert event.after is event.before.other
    assert Counter(e.member for e in chosen.events if e.member) == dict.fromkeys(MEMBERS, rounds)


def test_half_of_all_lives_are_of_the_version_before() -> None:
    chosen = plan.make(1)
    lives = Counter([*chosen.versions.values(), *(e.after for e in chosen.events if e.member)])
    assert abs(lives[Version.OLD] - lives[Version.NEW]) <= 1


def test_the_certificates_are_renewed_once_half_way() -> None:
    chosen = plan.make(1)
    assert chosen.events[len(chosen.events) // 2] == plan.RENEW
    assert chosen.events.count(plan.RENEW) == 1


def test_a_seed_names_one_order_and_another_seed_another() -> None:
    assert plan.make(3) == plan.make(3)
    assert plan.make(3).events != plan.make(4).events


def test_a_fleet_alone_is_of_this_version_throughout() -> None:
    chosen = plan.make(1, alone=True)
    versions = {*chosen.versions.values(), *chosen.clients.values()}
    versions |= {event.after for event in chosen.events if event.member}
    assert versions == {Version.NEW}
