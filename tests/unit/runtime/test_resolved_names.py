"""`Names` holds, for each name, the addresses (host:port) that it resolved to last.

A name is resolved again before each dial.
"""

from __future__ import annotations

import random

from midstreamer.runtime.resolved_names import PLACES_MAX, Names

POD = "pods:7400"


def _names() -> Names:
    return Names(pause=float, dice=random.Random(1).random)


def test_a_name_gives_all_its_places_once() -> None:
    names = _names()
    assert names.due([POD, "10.0.0.1:7400"], 0.0) == [POD, "10.0.0.1:7400"]
    names.found(POD, ["10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.2:7400"])
    names.found("10.0.0.1:7400", ["10.0.0.1:7400"])
    assert names.places == ["10.0.0.1:7400", "10.0.0.2:7400"]


def test_a_name_is_looked_up_again_each_time_and_forgets_what_it_no_longer_has() -> None:
    names = _names()
    for places in (["a", "b"], ["b", "c"]):
        assert names.due([POD], 0.0) == [POD]
        names.found(POD, places)
    assert names.places == ["b", "c"]


def test_a_look_up_that_fails_leaves_what_was_found_and_waits_ever_longer() -> None:
    names = _names()
    names.due([POD], 0.0)
    names.found(POD, ["a"])
    assert names.free_s == float("inf")
    names.failed(POD, 0.0)
    assert names.places == ["a"]
    assert names.free_s == 1.0
    assert names.due([POD], 0.5) == []
    assert names.due([POD], 1.0) == [POD]
    names.failed(POD, 1.0)
    assert names.due([POD], 2.9) == []
    names.found(POD, ["b"])
    assert names.places == ["b"]
    assert names.due([POD], 2.9) == [POD]


def test_of_too_many_places_some_are_taken_by_chance_and_kept() -> None:
    names = _names()
    many = [f"10.0.{number // 200}.{number % 200}:7400" for number in range(1000)]
    names.due([POD], 0.0)
    names.found(POD, many)
    first = names.places
    assert len(first) == PLACES_MAX
    assert set(first) != set(many[:PLACES_MAX])
    names.found(POD, [place for place in many if place != first[0]])
    assert set(first[1:]) < set(names.places)
    assert len(names.places) == PLACES_MAX


def test_an_address_that_is_no_longer_wanted_is_forgotten() -> None:
    names = _names()
    names.due([POD, "other:1"], 0.0)
    names.found(POD, ["a"])
    names.failed("other:1", 0.0)
    names.due(["other:1"], 0.0)
    # The look-up began before its name was dropped, so the answer is ignored.
    names.found(POD, ["a"])
    assert names.places == []
