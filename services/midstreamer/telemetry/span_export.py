"""Send spans to a collector by OTLP over HTTP, without slowing or failing any request.

Spans wait in a bounded queue and are sent by a thread.  When the queue is full, or the collector
does not take them, spans are dropped; dropped spans are counted, and logged at most once a minute.
The headers and the certificate authority for the collector come from OpenTelemetry's environment
variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``), so that no secret
has to be in a settings file.
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
"""Maximum spans that wait to be sent; each takes about 1 kB."""
BATCH_MAX = 256
"""Maximum spans sent in one request."""
DELAY_S = 1.0
"""Seconds after which waiting spans are sent even if they do not fill a batch."""
SEND_S = 2.0
"""Maximum seconds for sending one batch, retries included."""
CLOSE_S = 2.0
"""Maximum seconds for sending the waiting spans when a process stops."""
ANSWER_BYTES_MAX = 65_536
"""Maximum bytes read of a collector's answer, which only says how many spans it refused."""
SAY_S = 60.0
"""Least seconds between two log lines about dropped spans."""

log = logs.get(__name__)

_EXPORTED = metrics.SPANS.labels("exported")
_DROPPED = metrics.SPANS.labels("dropped")


def processor(endpoint: str) -> Bounded:
    """Return a span processor that sends spans to the collector at ``endpoint``, a URL such as
    ``http://collector:4318``."""
    # Silence OpenTelemetry, which logs each failed batch with a traceback; `Counted` logs failures
    # once a minute.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    session = _Session()
    target = f"{endpoint.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(target, timeout=SEND_S, session=session)
    return Bounded(exporter, lambda: f"{target}: {session.told}")


class _Session(requests.Session):
    """HTTP session that keeps the result of its last request and limits the size of answers.

    Of an error only its type is kept, because its text may contain a header with a secret.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # ignore proxies and passwords in the environment
        self.told = "not asked"

    def request(self, *args: Any, **options: Any) -> requests.Response:
        """Send a request and return the answer; a redirect is an error, and is not followed."""
        self.told = "no answer yet"
        try:
            answer = super().request(*args, **{**options, "stream": True})
            with answer:
                answer.raw.read(ANSWER_BYTES_MAX)  # reading it makes the connection reusable
        except Exception as error:
            self.told = type(error).__name__
            raise
        self.told = f"HTTP {answer.status_code} {answer.reason}"
        if 300 <= answer.status_code < 400:
            raise requests.exceptions.RequestException(self.told)
        return answer


class Counted(SpanExporter):
    """Wraps an exporter and counts each span once, as exported or as dropped."""

    def __init__(self, exporter: SpanExporter, told: Callable[[], str]) -> None:
        self._exporter = exporter
        self._told = told
        self._said_s = float("-inf")
        self._lock = threading.Lock()
        self._waiting = 0
        self._is_over = False

    def expect(self) -> bool:
        """Reserve room in the queue for one span; return False, and count a drop, if the queue is
        full."""
        with self._lock:
            full = self._waiting >= QUEUE_MAX
            self._waiting += not full
        if full:
            self._drop(1, f"{QUEUE_MAX:,} spans wait to be sent: lower telemetry.traces_ratio")
        return not full

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch of spans; count them as exported, or as dropped if sending fails."""
        result = SpanExportResult.FAILURE
        try:
            if not self._is_over:
                result = self._exporter.export(spans)
        finally:
            self._ended(len(spans), is_sent=result is SpanExportResult.SUCCESS)
        return result

    def end(self) -> None:
        """Stop sending; spans that still wait are counted as dropped."""
        with self._lock:
            self._is_over = True
            left, self._waiting = self._waiting, 0
        if left:
            self._drop(left, f"the process stops; {self._told()}")
        self._exporter.shutdown()

    def shutdown(self) -> None:
        """Stop sending, as `end` does; OpenTelemetry calls this method."""
        self.end()

    def _ended(self, spans: int, *, is_sent: bool) -> None:
        with self._lock:
            if self._is_over:
                return  # `end` has already counted these spans as dropped
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
    """Span processor with a bounded queue that drops ended spans when the queue is full."""

    def __init__(self, exporter: SpanExporter, told: Callable[[], str]) -> None:
        self._counted = Counted(exporter, told)
        self._batches = BatchSpanProcessor(
            self._counted,
            max_queue_size=QUEUE_MAX,
            max_export_batch_size=BATCH_MAX,
            schedule_delay_millis=1000 * DELAY_S,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span, if its trace is kept and the queue has room."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled and self._counted.expect():
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send the waiting spans for at most `CLOSE_S` seconds, then drop the rest."""
        # OpenTelemetry's own shutdown may take half a minute, so it runs in a daemon thread, which
        # ends with the process.
        closing = threading.Thread(target=self._batches.shutdown, name="spans.close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        self._counted.end()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send the waiting spans now."""
        return self._batches.force_flush(timeout_millis)
