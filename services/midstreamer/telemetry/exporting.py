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
from collections.abc import Callable, Sequence
from typing import Any

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
ANSWER_BYTES_MAX = 65_536
"""A collector says in its answer how many spans it refused, and little else."""
SAY_S = 60.0

log = logs.get(__name__)

_EXPORTED = metrics.SPANS.labels("exported")
_DROPPED = metrics.SPANS.labels("dropped")


def processor(endpoint: str) -> Bounded:
    """What sends ended spans to a collector, such as ``http://collector:4318``."""
    # OpenTelemetry logs each batch that failed, with a traceback; `Counted` logs it once a minute.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    session = _Session()
    target = f"{endpoint.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(target, timeout=SEND_S, session=session)
    return Bounded(exporter, lambda: f"{target}: {session.told}")


class _Session(requests.Session):
    """Remembers how its last request ended, and reads so much of an answer and no more.

    Of an error only the kind is remembered: its words may hold a header.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no password that the environment names for others
        self.told = "not asked"

    def request(self, *args: Any, **options: Any) -> requests.Response:
        """Ask; an answer that sends elsewhere is an error, since nobody goes there."""
        self.told = "no answer yet"
        try:
            answer = super().request(*args, **{**options, "stream": True})
            with answer:
                answer.raw.read(ANSWER_BYTES_MAX)  # once it is read, the connection is used again
        except Exception as error:
            self.told = type(error).__name__
            raise
        self.told = f"HTTP {answer.status_code} {answer.reason}"
        if 300 <= answer.status_code < 400:
            raise requests.exceptions.RequestException(self.told)
        return answer


class Counted(SpanExporter):
    """An exporter whose successes and failures are counted, each span once."""

    def __init__(self, exporter: SpanExporter, told: Callable[[], str]) -> None:
        self._exporter = exporter
        self._told = told
        self._said_s = float("-inf")
        self._lock = threading.Lock()
        self._waiting = 0
        self._is_over = False

    def expect(self) -> bool:
        """Whether there is room for one more span; it is then expected by `export`."""
        with self._lock:
            full = self._waiting >= QUEUE_MAX
            self._waiting += not full
        if full:
            self._drop(1, f"{QUEUE_MAX:,} spans wait to be sent: lower telemetry.traces_ratio")
        return not full

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send, or drop what cannot be sent."""
        result = SpanExportResult.FAILURE
        try:
            if not self._is_over:
                result = self._exporter.export(spans)
        finally:
            self._ended(len(spans), is_sent=result is SpanExportResult.SUCCESS)
        return result

    def end(self) -> None:
        """Send nothing more; what still waits is dropped."""
        with self._lock:
            self._is_over = True
            left, self._waiting = self._waiting, 0
        if left:
            self._drop(left, f"the process stops; {self._told()}")
        self._exporter.shutdown()

    def shutdown(self) -> None:
        """Stop sending."""
        self.end()

    def _ended(self, spans: int, *, is_sent: bool) -> None:
        with self._lock:
            if self._is_over:
                return  # counted by `end`
            self._waiting -= spans
        if is_sent:
            _EXPORTED.inc(spans)
        else:
            self._drop(spans, self._told())

    def _drop(self, spans: int, why: str) -> None:
        _DROPPED.inc(spans)
        now_s = time.monotonic()
        if now_s - self._said_s >= SAY_S:
            self._said_s = now_s
            log.warning("spans.dropped", spans=spans, detail=why)


class Bounded(SpanProcessor):
    """A queue of ended spans that drops what has no room."""

    def __init__(self, exporter: SpanExporter, told: Callable[[], str]) -> None:
        self._counted = Counted(exporter, told)
        self._batches = BatchSpanProcessor(
            self._counted,
            max_queue_size=QUEUE_MAX,
            max_export_batch_size=BATCH_MAX,
            schedule_delay_millis=1000 * DELAY_S,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Let an ended span wait, when its trace is kept and there is room."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled and self._counted.expect():
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what waits for `CLOSE_S` at most, however slowly a collector answers."""
        # The queue itself waits for half a minute. Its thread and this one end with the process.
        closing = threading.Thread(target=self._batches.shutdown, name="spans.close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        self._counted.end()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now."""
        return self._batches.force_flush(timeout_millis)
