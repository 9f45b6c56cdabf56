"""Jaeger shows an append and a match as one trace each; the pictures of traces are correct."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.observed import traces, waterfall
from tests.observed.traces import Hop
from tests.support import jaeger
from tests.support.jaeger import Span


def a_span(name: str, under: str = "", *, begin_s: float = 0.0, links: int = 0) -> Span:
    """Return a span whose id is its name."""
    return Span(name, under, name, "sync", begin_s, 0.5, links)


@pytest.mark.fleet
@pytest.mark.timeout(300)
@pytest.mark.skipif(not jaeger.is_built(), reason=f"Jaeger is not built: {jaeger.BUILD}")
async def test_an_append_and_a_match_are_one_trace_each_with_every_hop(tmp_path: Path) -> None:
    found = await traces.run(tmp_path)
    assert traces.missing(found["append"], traces.APPEND) == []
    assert traces.missing(found["match"], traces.MATCH) == []


def test_a_hop_is_missing_when_one_of_those_above_it_lacks_it() -> None:
    hops = [Hop("sync", "root", ""), Hop("sync", "below", "root"), Hop("sync", "last", "below")]
    spans = [
        a_span("root"),
        Span("1", "root", "below", "sync", 0.0, 0.5, 0),
        Span("2", "root", "below", "sync", 0.0, 0.5, 0),
        Span("3", "1", "last", "sync", 0.0, 0.5, 0),
    ]
    assert traces.missing(spans, hops) == [hops[2]]
    assert traces.missing([*spans, Span("4", "2", "last", "sync", 0, 0, 0)], hops) == []
    assert traces.missing([], hops) == hops


def test_a_span_of_another_process_is_not_the_hop() -> None:
    assert traces.missing([a_span("root")], [Hop("agent", "root", "")]) == [("agent", "root", "")]


def test_spans_stand_below_the_one_they_belong_to_in_order_of_time() -> None:
    spans = [
        a_span("late", "root", begin_s=3.0),
        a_span("root"),
        a_span("early", "root", begin_s=1.0),
        a_span("inner", "early", begin_s=2.0),
        a_span("stray", "nobody", begin_s=4.0),
    ]
    ordered = [(depth, span.name) for depth, span in waterfall.ordered(spans)]
    assert ordered == [(0, "root"), (1, "early"), (2, "inner"), (1, "late"), (0, "stray")]


def test_a_picture_names_each_span_how_long_it_took_and_its_links() -> None:
    spans = [a_span("root"), a_span("commit", "root", begin_s=0.1, links=2)]
    picture = waterfall.picture("One append", spans)
    words = "".join(ElementTree.fromstring(picture).itertext())
    for word in ("One append", "sync: root", "sync: commit", "500.00 ms, 2 linked"):
        assert word in words


def test_what_jaeger_says_is_read_into_spans_in_order_of_time() -> None:
    late = {
        "spanID": "b",
        "operationName": "commit",
        "processID": "p1",
        "startTime": 2_000_000,
        "duration": 1500,
        "references": [
            {"refType": "CHILD_OF", "spanID": "a"},
            {"refType": "FOLLOWS_FROM", "spanID": "z"},
        ],
    }
    first = {**late, "spanID": "a", "operationName": "Append", "startTime": 1, "references": []}
    answer = {"data": [{"processes": {"p1": {"serviceName": "sync"}}, "spans": [late, first]}]}
    assert jaeger.read(answer) == [
        Span("a", "", "Append", "sync", 1e-6, 0.0015, 0),
        Span("b", "a", "commit", "sync", 2.0, 0.0015, 1),
    ]
    assert jaeger.read({"data": None}) == []
