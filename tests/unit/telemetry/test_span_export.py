"""Spans are exported to a collector; a slow, absent or refusing collector delays no request."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from midstreamer.telemetry import metrics, span_export, tracing
from tests.support.metric_values import shown


@dataclass
class Collector:
    """A collector that takes spans by OTLP over HTTP."""

    address: str
    spans: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=set)


@contextmanager
def a_collector(status: int = 200) -> Iterator[Collector]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                collector.services.add(names["service.name"])
                for scope in resource.scope_spans:
                    collector.spans += [span.name for span in scope.spans]
            self.send_response(status if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write no log line."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def counted() -> tuple[float, float]:
    exported, dropped = (shown(metrics.SPANS, result=each) for each in ("exported", "dropped"))
    return exported, dropped


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    tracing.close()


@contextmanager
def a_drip() -> Iterator[str]:
    """Yield the address of a collector whose response never ends: a byte every 0.1 s."""
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        asked, _ = server.accept()
        with asked, suppress(OSError):
            asked.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not over.wait(0.1):
                asked.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def closed_within_s() -> float:
    began_s = time.monotonic()
    tracing.close()
    return time.monotonic() - began_s


def sending_to(endpoint: str) -> None:
    tracing.configure("otlp", service="agent", endpoint=endpoint)


def spans(count: int) -> None:
    for _ in range(count):
        with tracing.span("answers"):
            pass


def test_ended_spans_reach_the_collector_and_are_counted() -> None:
    before = counted()
    with a_collector() as collector:
        sending_to(collector.address)
        spans(3)
        tracing.close()
    assert collector.spans == ["answers"] * 3
    assert collector.services == {"agent"}
    assert counted() == (before[0] + 3, before[1])


def test_a_collector_that_is_away_costs_a_request_nothing_and_is_named_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # the port is bound, but nobody listens
        before = counted()
        with capture_logs() as lines:
            sending_to(f"http://127.0.0.1:{taken.getsockname()[1]}")
            began_s = time.monotonic()
            spans(2 * span_export.BATCH_MAX)
            took_s = time.monotonic() - began_s
            tracing.close()
    assert took_s < 1.0
    assert counted() == (before[0], before[1] + 2 * span_export.BATCH_MAX)
    (line,) = [line for line in lines if line["log_level"] != "info"]
    assert line["event"] == "spans.dropped"
    assert line["detail"].startswith("http://127.0.0.1:")
    assert line["detail"].endswith("/v1/traces: ConnectionError")


def test_a_collector_that_never_answers_does_not_keep_a_process_from_stopping() -> None:
    before = counted()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        sending_to(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        spans(span_export.QUEUE_MAX)
        assert closed_within_s() < span_export.CLOSE_S + 1.0
    assert counted() == (before[0], before[1] + span_export.QUEUE_MAX)


def test_a_collector_that_answers_byte_by_byte_does_not_keep_a_process_from_stopping() -> None:
    with a_drip() as endpoint:
        sending_to(endpoint)
        spans(span_export.BATCH_MAX)
        assert closed_within_s() < span_export.CLOSE_S + 1.0


def test_a_full_queue_drops_the_newest_and_keeps_its_bound() -> None:
    before = counted()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        sending_to(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        spans(3 * span_export.QUEUE_MAX)
        dropped = counted()[1] - before[1]
        tracing.close()
    assert dropped >= 2 * span_export.QUEUE_MAX - span_export.BATCH_MAX
    assert counted() == (before[0], before[1] + 3 * span_export.QUEUE_MAX)


@pytest.mark.parametrize("status", [302, 400, 403, 503])
def test_spans_that_the_collector_does_not_take_are_dropped_and_the_answer_is_named(
    status: int,
) -> None:
    before = counted()
    with a_collector(status) as collector, capture_logs() as lines:
        sending_to(collector.address)
        spans(2)
        tracing.close()
    assert counted() == (before[0], before[1] + 2)
    (line,) = lines
    assert f"{collector.address}/v1/traces: HTTP {status} " in line["detail"]


def test_a_header_that_cannot_be_sent_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%0Ax")
    before = counted()
    with a_collector() as collector, capture_logs() as lines:
        sending_to(collector.address)
        spans(1)
        tracing.close()
    assert counted() == (before[0], before[1] + 1)
    (line,) = lines
    assert line["detail"] == f"{collector.address}/v1/traces: InvalidHeader"


def test_an_exporter_that_fails_in_its_own_way_is_counted() -> None:
    class Broken(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise LookupError("broken")

    before = counted()
    broken = span_export.Counted(Broken(), lambda: "broken")
    with pytest.raises(LookupError):
        broken.export([ReadableSpan("answers")])
    assert counted() == (before[0], before[1] + 1)


@pytest.mark.slow
@pytest.mark.parametrize("traces", ["off", "log"])
def test_a_process_that_sends_nothing_loads_no_exporter(traces: str) -> None:
    text = (
        "import sys\nfrom midstreamer.telemetry import tracing\n"
        f"tracing.configure({traces!r}, service='agent')\n"
        "print([name for name in sys.modules if name.startswith(('requests', 'google'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
