"""Sends an append and a match through a real fleet, and reads their traces from a real Jaeger.

    python -m tests.observed.traces [--pictures docs/pictures/traces]

Every process sends its spans to Jaeger over OTLP. An application that uses the client
of `midstreamer` begins both traces. Each must be one trace with every hop; otherwise the command
names the missing hops and exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from midstreamer import AsyncClient
from tests.load.client_requests import HISTORY, UNIVERSE, WANTED, Lane, time_at, values_of
from tests.observed import fleet, waterfall
from tests.rolling.plan import Version
from tests.support import jaeger
from tests.support.jaeger import Jaeger, JaegerFailed, Span
from tests.support.own_tracing import provided

APPLICATION = "application"


class Hop(NamedTuple):
    """A span that a complete trace must have as a child of each span named ``under``."""

    service: str
    name: str
    under: str
    """Name of the parent span; empty for the root span."""


COMMITTED = ("Write", "commit.wait", "commit")
APPEND: tuple[Hop, ...] = (
    Hop(APPLICATION, "append of an application", ""),
    Hop(APPLICATION, "client.append", "append of an application"),
    Hop("coordinator", "Append", "client.append"),
    *(Hop("sync", name, "Append") for name in COMMITTED),
)
MATCH: tuple[Hop, ...] = (
    Hop(APPLICATION, "match of an application", ""),
    Hop(APPLICATION, "client.match", "match of an application"),
    Hop("coordinator", "Match", "client.match"),
    Hop("coordinator", "attempt", "Match"),
    Hop("agent", "Search", "attempt"),
    Hop("agent", "kernel", "Search"),
    Hop("coordinator", "decide", "Match"),
    *(Hop("sync", name, "Match") for name in COMMITTED),
)


def settings(endpoint: str, ratio: float = 1.0) -> dict[str, dict[str, str]]:
    """Return the environment with which members of each kind send spans to this endpoint."""
    environment = {
        "TELEMETRY__TRACES": "otlp",
        "TELEMETRY__TRACES_ENDPOINT": endpoint,
        "TELEMETRY__TRACES_RATIO": str(ratio),
    }
    return dict.fromkeys(("coordinator", "agent", "sync"), environment)


def missing(spans: Collection[Span], hops: Iterable[Hop]) -> list[Hop]:
    """Return the missing hops of a trace.

    A hop is missing if the trace has no span with the name of the hop's parent. A hop is also
    missing if at least one span with that name has no child span for the hop.
    """
    lacks = []
    for hop in hops:
        found = {span.parent for span in spans if (span.service, span.name) == hop[:2]}
        above = {span.id for span in spans if span.name == hop.under} if hop.under else {""}
        if not above or not above <= found:
            lacks.append(hop)
    return lacks


async def asked(tracer: trace.Tracer, addresses: Sequence[str], certs: Path) -> dict[str, str]:
    """Append and match inside an application's spans; return the ids of the two traces."""
    lane = Lane(f"{UNIVERSE}/traced", values_of("traced"))
    ids = {}
    connecting = AsyncClient.connect(addresses, directory=certs, identity=f"client/{fleet.CLIENT}")
    async with connecting as client:
        await client.append(lane.ticks(HISTORY))
        lane.count = HISTORY
        with tracer.start_as_current_span("append of an application") as span:
            await client.append(lane.ticks(1))
            ids["append"] = trace.format_trace_id(span.get_span_context().trace_id)
        values = lane.values[HISTORY + 1 - WANTED.window : HISTORY + 1]
        with tracer.start_as_current_span("match of an application") as span:
            await client.match(lane.name, time_at(HISTORY), values, WANTED)
            ids["match"] = trace.format_trace_id(span.get_span_context().trace_id)
    return ids


async def taken(seen: Jaeger, addresses: Sequence[str], certs: Path) -> dict[str, list[Span]]:
    """Return the spans of an append and of a match, read from Jaeger."""
    provider = TracerProvider(resource=Resource.create({"service.name": APPLICATION}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{seen.endpoint}/v1/traces")))
    with provided(provider):
        ids = await asked(provider.get_tracer("application"), addresses, certs)
    await asyncio.to_thread(provider.force_flush)
    found = {}
    for what, hops in (("append", APPEND), ("match", MATCH)):
        try:
            found[what] = await seen.trace(ids[what], lambda spans: not missing(spans, hops))  # noqa: B023
        except JaegerFailed as error:
            spans = await seen.trace(ids[what], bool)
            raise JaegerFailed(f"{what} lacks {missing(spans, hops)}; {error}") from error
    return found


async def run(folder: Path) -> dict[str, list[Span]]:
    """Start a fleet and Jaeger, and return both traces; raise JaegerFailed for a missing hop."""
    async with jaeger.running(folder / "jaeger") as seen:
        environment = settings(seen.endpoint)
        rarely = 0.5
        fleet_of = fleet.observed(
            folder, settings=environment, appends_per_s=rarely, matches_per_s=rarely
        )
        async with fleet_of as observed:
            addresses = observed.fleet.coordinators(Version.NEW)
            return await taken(seen, addresses, observed.fleet.state.certs)


def main() -> int:
    """Make both traces and print their spans; with ``--pictures``, draw them too."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.observed.traces")
    parser.add_argument("--pictures", type=Path, help="folder for append.svg and match.svg")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            traces = asyncio.run(run(Path(folder)))
        except AssertionError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    for what, spans in traces.items():
        processes = len({span.service for span in spans})
        sys.stdout.write(f"{what}: one trace, {len(spans)} spans of {processes} processes\n")
        for depth, span in waterfall.ordered(spans):
            line = f"{'  ' * (depth + 1)}{span.service}: {span.name}"
            sys.stdout.write(f"{line:<50}{1e3 * span.took_s:9.2f} ms\n")
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            title = f"One {what}, from an application to the commit"
            (arguments.pictures / f"{what}.svg").write_text(waterfall.picture(title, spans))
    return 0


if __name__ == "__main__":
    sys.exit(main())
