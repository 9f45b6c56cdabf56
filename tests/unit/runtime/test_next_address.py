"""`Targets`: which of several addresses is dialled next."""

from __future__ import annotations

import itertools

from midstreamer.runtime.next_address import AWAY_S, Targets


def _targets(*ranks: float) -> Targets:
    dice = itertools.cycle(ranks or (0.5,))
    return Targets(pause=float, dice=lambda: next(dice))


def _names(targets: Targets, addresses: list[str], now_s: float) -> list[str]:
    return [address for _, address in targets.order(addresses, now_s)]


def test_the_first_is_chosen_by_chance() -> None:
    assert _names(_targets(0.9, 0.1), ["a", "b"], 0.0) == ["b", "a"]
    assert _names(_targets(0.1, 0.9), ["a", "b"], 0.0) == ["a", "b"]


def test_a_dead_address_costs_the_others_nothing() -> None:
    targets = _targets(0.1, 0.9)
    targets.order(["a", "b"], 0.0)
    targets.failed("a", 0.0)
    assert targets.order(["a", "b"], 0.0)[0] == (float("-inf"), "b")


def test_failures_in_a_row_are_waited_for_longer() -> None:
    targets = _targets()
    for now_s in (0.0, 1.0):
        targets.order(["a"], now_s)
        targets.failed("a", now_s)
    assert targets.order(["a"], 1.0) == [(3.0, "a")]
    targets.steady("a")
    targets.failed("a", 10.0)
    assert targets.order(["a"], 10.0) == [(11.0, "a")]


def test_one_that_sent_us_away_comes_after_the_others_for_a_while() -> None:
    targets = _targets(0.1, 0.9)
    targets.order(["a", "b"], 0.0)
    targets.sent_away("a", 0.0)
    assert _names(targets, ["a", "b"], 2.0) == ["b", "a"]
    assert _names(targets, ["a", "b"], AWAY_S + 1.0) == ["a", "b"]


def test_the_only_address_is_dialled_again_though_it_sent_us_away() -> None:
    targets = _targets()
    targets.order(["a"], 0.0)
    targets.sent_away("a", 0.0)
    assert targets.order(["a"], 0.5) == [(1.0, "a")]


def test_what_is_known_of_an_address_goes_with_it() -> None:
    targets = _targets(0.1, 0.9, 0.2)
    targets.order(["a", "b"], 0.0)
    targets.failed("a", 0.0)
    targets.order(["b"], 0.0)
    assert targets.order(["a", "b"], 0.0)[0] == (float("-inf"), "a")
