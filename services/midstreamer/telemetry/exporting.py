"""Spans to a collector, by OTLP over HTTP: never slower and never less reliable for a request.

Spans wait in a queue of bounded length and are sent by a thread.  When the queue is full, or when
the collector does not take them, spans are dropped: they are counted, and one line in a minute
says so.  Headers and the authority of a collector come from the environment, by the names that
OpenTelemetry gives them (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``), so
that a secret stands in no file of settings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from midstreamer.telemetry import logs, metrics

QUEUE_MAX = 2048
"""Spans that wait; about 1 kB each."""
BATCH_MAX = 256
DELAY_S = 1.0
SEND_S = 2.0
"""Longest that sending one batch may take, attempts included."""
CLOSE_S = 2.0
"""So long spans that wait are still sent when a process stops."""
SAY_S = 60.0

log = logs.get(__name__)

_EXPORTED = metrics.SPANS.labels("exported")
_DROPPED = metrics.SPANS.labels("dropped")


def processor(endpoint: str) -> Bounded:
    """What sends ended spans to a collector, such as ``http://collector:4318``."""
    # It says of each batch that it failed, and why with a traceback; `Counted` says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    session = requests.Session()
    session.trust_env = False  # no proxy and no password that the environment names for others
    target = f"{endpoint.rstrip('/')}/v1/traces"
    return Bounded(OTLPSpanExporter(target, timeout=SEND_S, session=session), target)


class Counted(SpanExporter):
    """An exporter whose successes and failures are counted, and that ends in time."""

    def __init__(self, exporter: SpanExporter, target: str) -> None:
        self._exporter = exporter
        self._target = target
        self._until_s = float("inf")
        self._said_s = float("-inf")
        self.waiting = 0
        """Spans handed to the queue and not yet exported or dropped."""
        self.lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send, or drop what would come too late."""
        with self.lock:
            self.waiting -= len(spans)
        result = SpanExportResult.FAILURE
        if time.monotonic() < self._until_s:
            result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            _EXPORTED.inc(len(spans))
        else:
            self.drop(len(spans), f"{self._target} did not take them")
        return result

    def drop(self, spans: int, why: str) -> None:
        """Count spans that nobody will see, and say so now and then."""
        _DROPPED.inc(spans)
        now_s = time.monotonic()
        if now_s - self._said_s >= SAY_S:
            self._said_s = now_s
            log.warning("spans.dropped", spans=spans, detail=why)

    def end_soon(self) -> None:
        """Send for `CLOSE_S` more, and then nothing."""
        self._until_s = time.monotonic() + CLOSE_S
        timer = threading.Timer(CLOSE_S, self._exporter.shutdown)
        timer.daemon = True
        timer.start()

    def shutdown(self) -> None:
        """Stop sending."""
        self._exporter.shutdown()


class Bounded(SpanProcessor):
    """A queue of ended spans that drops what has no room."""

    def __init__(self, exporter: SpanExporter, target: str) -> None:
        self._counted = Counted(exporter, target)
        self._batches = BatchSpanProcessor(
            self._counted,
            max_queue_size=QUEUE_MAX,
            max_export_batch_size=BATCH_MAX,
            schedule_delay_millis=1000 * DELAY_S,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Let an ended span wait, when its trace is kept and there is room."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        counted = self._counted
        with counted.lock:
            full = counted.waiting >= QUEUE_MAX
            counted.waiting += not full
        if full:
            counted.drop(1, f"{QUEUE_MAX:,} spans wait to be sent: lower telemetry.traces_ratio")
            return
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what waits, for a bounded time."""
        self._counted.end_soon()
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now."""
        return self._batches.force_flush(timeout_millis)
