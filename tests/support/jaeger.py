"""Runs a real Jaeger on loopback, which takes spans over OTLP and keeps them in memory.

    async with jaeger.running(folder) as seen:
        tracing.configure("otlp", service="agent", endpoint=seen.endpoint)
        ...
        spans = await seen.trace(trace_id, enough)

`tests.cluster.program_builds` builds Jaeger once and keeps the program. Its process ends with the
context.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml  # type: ignore[import-untyped]

from midstreamer.cli.local_fleet import free_ports
from tests.cluster import program_builds
from tests.support import programs

READY_S = 60.0
POLL_S = 0.1
STORE = "memory"
BUILD = "run `make traces`, which builds it in some minutes, once"


class JaegerFailed(AssertionError):
    """Jaeger did not start, or lacks the expected spans; the message says which and why."""


@dataclass(frozen=True)
class Span:
    """One span of a trace; times are seconds since the epoch."""

    id: str
    parent: str
    """The id of the parent span; empty for the root span."""
    name: str
    service: str
    begin_s: float
    took_s: float
    links: int
    """Number of spans in other traces that this span links to."""

    @property
    def end_s(self) -> float:
        """When the span ended, in seconds since the epoch."""
        return self.begin_s + self.took_s


@dataclass
class Jaeger:
    """A running Jaeger."""

    endpoint: str
    """The address that takes spans, in the form of ``telemetry.traces_endpoint``."""
    query: str
    session: aiohttp.ClientSession

    async def trace(
        self, trace_id: str, enough: Callable[[Collection[Span]], bool], *, within_s: float = 20.0
    ) -> list[Span]:
        """Wait until a trace has enough spans; return its spans in order of time.

        Raise JaegerFailed, naming the spans found so far, after ``within_s`` seconds.
        """
        found: list[Span] = []
        try:
            async with asyncio.timeout(within_s):
                while not enough(found):
                    await asyncio.sleep(POLL_S)
                    found = read(await self._asked(f"traces/{trace_id}"))
        except TimeoutError:
            names = ", ".join(f"{span.service}/{span.name}" for span in found) or "none"
            raise JaegerFailed(
                f"trace {trace_id} has too few spans after {within_s:g} s: {names}"
            ) from None
        return found

    async def _asked(self, path: str) -> Any:
        async with self.session.get(f"http://{self.query}/api/{path}") as answer:
            if answer.status == 404:
                return {"data": []}
            return json.loads(await answer.read())


def read(answer: Any) -> list[Span]:
    """Return the spans of a JSON answer of Jaeger, in order of time."""
    spans = []
    for trace in answer.get("data") or []:
        services = {key: value["serviceName"] for key, value in trace["processes"].items()}
        for span in trace["spans"]:
            above = [each for each in span["references"] if each["refType"] == "CHILD_OF"]
            spans.append(
                Span(
                    id=span["spanID"],
                    parent=above[0]["spanID"] if above else "",
                    name=span["operationName"],
                    service=services[span["processID"]],
                    begin_s=span["startTime"] / 1e6,
                    took_s=span["duration"] / 1e6,
                    links=len(span["references"]) - len(above),
                )
            )
    return sorted(spans, key=lambda span: (span.begin_s, -span.took_s))


def is_built() -> bool:
    """Return whether Jaeger is built; tests that need Jaeger are skipped when it is not."""
    return program_builds.built("jaeger") is not None


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Jaeger]:
    """A running Jaeger; a missing program is built first, which takes some minutes.

    Raise JaegerFailed with the end of the log when Jaeger does not start, and KitError when Jaeger
    cannot be built.
    """
    program = await asyncio.to_thread(program_builds.program, "jaeger")
    takes, query, grpc = (f"127.0.0.1:{port}" for port in free_ports(3))
    settings, log = _written(folder, _settings(takes, query, grpc)), folder / "jaeger.log"
    async with (
        programs.running(program, f"--config={settings}", log=log) as process,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READY_S)) as session,
    ):
        await _ready(process, log, f"http://{query}/api/services", session)
        yield Jaeger(f"http://{takes}", query, session)


def _settings(takes: str, query: str, grpc: str) -> dict[str, Any]:
    return {
        "extensions": {
            "jaeger_storage": {"backends": {STORE: {"memory": {"max_traces": 10_000}}}},
            "jaeger_query": {
                "storage": {"traces": STORE},
                "http": {"endpoint": query},
                "grpc": {"endpoint": grpc},
            },
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": takes}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": STORE}},
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
        },
    }


def _written(folder: Path, settings: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "jaeger.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


async def _ready(
    process: asyncio.subprocess.Process, log: Path, url: str, session: aiohttp.ClientSession
) -> None:
    try:
        async with asyncio.timeout(READY_S):
            while True:
                if process.returncode is not None:
                    raise JaegerFailed(
                        f"ended with {process.returncode}: {programs.last_words(log)}"
                    )
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise JaegerFailed(f"not ready within {READY_S:g} s: {programs.last_words(log)}") from None
