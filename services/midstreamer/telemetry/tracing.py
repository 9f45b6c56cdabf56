"""OpenTelemetry spans: the parts of a request and how long each took.

Spans are off by default, and then `span` costs one comparison.  The setting ``telemetry.traces``
chooses where spans go: ``log`` writes each span as one log line ``span.ended``, ``otlp`` sends
spans to a collector (`telemetry.span_export`).  A request carries the `current` span to other
processes as a W3C ``traceparent``, so all spans of a request share one trace id.  Whether a trace
is kept is decided once, where the trace begins: by the caller if the request brings a
``traceparent``, else by the ratio in the settings.

In an application that uses `midstreamer.client`, the settings above do not exist.  There `adopt`
takes the tracer provider that the application has set in OpenTelemetry, if any.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs

Attribute = str | int | float | bool

log = logs.get(__name__)
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None
_NOTHING = contextlib.nullcontext()
_HEADER = "traceparent"
PARENT_CHARACTERS_MAX = 256
"""Maximum characters of a ``traceparent`` that is read. It has 55 characters today, and may grow in
a later version of the standard."""
LINKS_MAX = 128
"""Maximum links from one span to the spans of callers. One batch may serve a thousand callers."""
_format = TraceContextTextMapPropagator()


class LogExporter(SpanExporter):
    """Writes each ended span as one log line ``span.ended``."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write each span as one log line."""
        for each in spans:
            context, parent = each.get_span_context(), each.parent
            log.info(
                "span.ended",
                span=each.name,
                trace=trace.format_trace_id(context.trace_id) if context else "",
                id=trace.format_span_id(context.span_id) if context else "",
                parent=trace.format_span_id(parent.span_id) if parent else "",
                duration_ms=((each.end_time or 0) - (each.start_time or 0)) / 1e6,
                **dict(each.attributes or {}),
            )
        return SpanExportResult.SUCCESS


def configure(
    traces: str,
    *,
    service: str,
    exporter: SpanExporter | None = None,
    ratio: float = 1.0,
    endpoint: str = "",
    instance: str = "",
) -> None:
    """Turn spans on or off for this process.

    ``traces``, ``ratio`` and ``endpoint`` are the settings ``telemetry.traces``,
    ``telemetry.traces_ratio`` and ``telemetry.traces_endpoint``.  ``service`` and ``instance`` name
    the process in spans.  ``exporter`` replaces the exporter that ``traces`` chooses.
    """
    close()
    if traces == "off":
        return
    processor: SpanProcessor
    if traces == "otlp" and exporter is None:
        # Imported here, so that only a process that exports spans loads the library for OTLP.
        from midstreamer.telemetry import span_export

        processor = span_export.processor(endpoint)
    else:
        processor = SimpleSpanProcessor(exporter or LogExporter())
    named = {"service.name": service, "service.namespace": "midstreamer"}
    named |= {"service.instance.id": instance} if instance else {}
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource.create(named),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    _use(provider, provider.get_tracer("midstreamer"))


def adopt() -> None:
    """Use the application's own OpenTelemetry tracer provider, unless spans are on already."""
    if _tracer is None and isinstance(trace.get_tracer_provider(), TracerProvider):
        _use(None, trace.get_tracer("midstreamer"))


def close() -> None:
    """Turn spans off, and send spans that still wait, within a bounded time."""
    provider = _provider
    _use(None, None)
    if provider is not None:
        provider.shutdown()


def _use(provider: TracerProvider | None, tracer: trace.Tracer | None) -> None:
    global _provider, _tracer
    _provider, _tracer = provider, tracer


def span(
    name: str, *, parent: str = "", links: Sequence[str] = (), **attributes: Attribute
) -> contextlib.AbstractContextManager[object]:
    """Return a context manager that records its block as a span.

    If the block raises an error, the span is marked as failed.  ``parent`` is the ``traceparent``
    of the request that the block serves.  If it serves several requests, ``links`` are the
    ``traceparent`` texts of the others.  Text that is not a valid ``traceparent`` is ignored.
    """
    if _tracer is None:
        return _NOTHING
    context = _context_of(parent)
    started = _tracer.start_span(
        name, context=context, attributes=attributes, links=_links(links) if links else None
    )
    return _Open(started)


@contextlib.contextmanager
def each(name: str, parents: Sequence[str]) -> Iterator[None]:
    """Record the block in several traces: as a new child span of each span in ``parents``."""
    if _tracer is None or not parents:
        yield
        return
    known = [context for parent in parents if (context := _known(parent)) is not None]
    spans = [_tracer.start_span(name, context=context) for context in known]
    try:
        yield
    finally:
        for started in spans:
            started.end()


@contextlib.contextmanager
def within(parent: str) -> Iterator[None]:
    """Make the span of a ``traceparent`` the current span of the block.

    Text that is not a valid ``traceparent`` changes nothing.
    """
    context = _known(parent) if _tracer is not None else None
    if context is None:
        yield
        return
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


class _Open:
    """Context manager that makes a span current; an error adds only its code to the span.

    OpenTelemetry's own context manager would add the error's text and traceback, which may hold
    secrets.
    """

    __slots__ = ("_span", "_token")

    def __init__(self, made: trace.Span) -> None:
        self._span = made

    def __enter__(self) -> trace.Span:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.detach(self._token)
        if error is not None:
            code = error.code if isinstance(error, MidstreamerError) else type(error).__name__
            self._span.set_attribute("error.type", code)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR))
        self._span.end()


def _context_of(parent: str) -> contexts.Context | None:
    if not 0 < len(parent) <= PARENT_CHARACTERS_MAX:
        return None
    return _format.extract({_HEADER: parent})


def _known(parent: str) -> contexts.Context | None:
    """Return the context of a ``traceparent``; None when the text is not a valid one."""
    context = _context_of(parent)
    known = trace.get_current_span(context).get_span_context().is_valid if context else False
    return context if known else None


def _links(parents: Sequence[str]) -> list[trace.Link]:
    known = (_known(parent) for parent in parents[:LINKS_MAX])
    spans = (trace.get_current_span(context) for context in known if context is not None)
    return [trace.Link(span.get_span_context()) for span in spans]


def current() -> str:
    """Return the current span as a ``traceparent``; "" when no span is open."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _format.inject(carrier)
    return carrier.get(_HEADER, "")


def kept() -> str:
    """Return the current span as a ``traceparent`` if its trace is kept, else "".

    It is also "" when no span is open.  Use this function instead of `current` for work that is
    stored and continues after its request.  If the trace is not kept, its ids are of no use, and
    the work is stored without them.
    """
    return current() if _is_kept() else ""


def exemplar() -> dict[str, str] | None:
    """Return the exemplar for a measured value: the trace id of the current span.

    Returns None when no span is open or its trace is not kept.
    """
    if not _is_kept():
        return None
    here = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(here.trace_id)}


def _ids() -> Mapping[str, str]:
    """Return the ids of the current trace and span, for a log line.

    Empty if no span is open, or if the current trace is not kept.
    """
    if not _is_kept():
        return {}
    here = trace.get_current_span().get_span_context()
    return {
        "trace_id": trace.format_trace_id(here.trace_id),
        "span_id": trace.format_span_id(here.span_id),
    }


logs.name_traces(_ids)


def _is_kept() -> bool:
    return _tracer is not None and trace.get_current_span().get_span_context().trace_flags.sampled


def context() -> contextvars.Context | None:
    """Return the context for a new task that continues the current span; None if spans are off."""
    return None if _tracer is None else contextvars.copy_context()
