"""One request is one trace through all processes; real services on a memory network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from midstreamer.telemetry import tracing
from tests.support.fleet import (
    a_column,
    a_specification,
    a_universe,
    a_window,
    append,
    eventually,
    match,
    running,
)

pytestmark = pytest.mark.integration

SERIES = a_column(300)


class Hop(NamedTuple):
    """A span together with its parent span."""

    name: str
    under: str


@pytest.fixture(name="kept")
def _kept() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="all", exporter=kept)
    yield kept
    tracing.close()


def hops(kept: InMemorySpanExporter, root: str) -> set[Hop]:
    """Return the spans, with their parents, of the trace whose first span has this name."""
    spans = [span for span in kept.get_finished_spans() if span.context]
    names = {id_of(span): span.name for span in spans}
    (first,) = [span for span in spans if span.name == root]
    return {
        Hop(span.name, names.get(span.parent.span_id, "?") if span.parent else "")
        for span in spans
        if trace_of(span) == trace_of(first)
    }


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


async def test_an_append_is_one_trace_to_its_commit(kept: InMemorySpanExporter) -> None:
    async with running() as fleet:
        client = await fleet.client()
        with tracing.span("app"):
            await append(client, SERIES)
        await eventually(lambda: any(span.name == "commit" for span in kept.get_finished_spans()))
    assert hops(kept, "app") >= {
        Hop("app", ""),
        Hop("Append", "app"),
        Hop("Write", "Append"),
        Hop("commit.wait", "Append"),
        Hop("commit", "Append"),
    }


async def test_a_match_is_one_trace_to_the_kernels_and_to_its_commit(
    kept: InMemorySpanExporter,
) -> None:
    async with running() as fleet:
        client = await fleet.client()
        await append(client, SERIES)
        with tracing.span("app"):
            await match(client, a_specification(), a_window(SERIES, 299, 16))
        await eventually(lambda: Hop("commit", "Match") in hops(kept, "app"))
    assert hops(kept, "app") >= {
        Hop("app", ""),
        Hop("Match", "app"),
        Hop("attempt", "Match"),
        Hop("Search", "attempt"),
        Hop("kernel", "Search"),
        Hop("decide", "Match"),
        Hop("Write", "Match"),
        Hop("commit.wait", "Match"),
        Hop("commit", "Match"),
    }


async def test_attempts_stand_beside_each_other(kept: InMemorySpanExporter) -> None:
    universe = a_universe(4, 600)
    async with running() as fleet:
        client = await fleet.client()
        await append(client, *universe)
        with tracing.span("app"):
            await match(client, a_specification(), a_window(universe[0], 599, 16))
    attempts = [span for span in kept.get_finished_spans() if span.name == "attempt"]
    assert len(attempts) > 1
    assert {hop.under for hop in hops(kept, "app") if hop.name == "attempt"} == {"Match"}


async def test_one_commit_for_several_callers_is_linked_to_all_of_them(
    kept: InMemorySpanExporter,
) -> None:
    universe = a_universe(8, 20)
    async with running() as fleet:
        client = await fleet.client()

        async def asked(at: int) -> None:
            with tracing.span(f"app-{at}"):
                await append(client, universe[at])

        await asyncio.gather(*map(asked, range(len(universe))))
    spans = kept.get_finished_spans()
    commits = [span for span in spans if span.name == "commit"]
    assert len(commits) < len(universe)
    reached = {trace_of(commit) for commit in commits}
    reached |= {link.context.trace_id for commit in commits for link in commit.links}
    assert reached == {trace_of(span) for span in spans if span.name.startswith("app-")}
    for at in range(len(universe)):
        assert Hop("commit.wait", "Append") in hops(kept, f"app-{at}")


async def test_nothing_of_a_trace_that_nobody_keeps_goes_into_a_write() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="all", exporter=kept, ratio=0.0)
    try:
        async with running() as fleet:
            client = await fleet.client()
            with tracing.span("app"):
                await append(client, SERIES)
    finally:
        tracing.close()
    assert kept.get_finished_spans() == ()
