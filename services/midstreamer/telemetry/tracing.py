"""Spans: what a request did and how long each part took, when somebody wants to know.

Off by default, and then `span` costs one comparison.  ``telemetry.traces`` chooses where spans go:
``log`` writes each as one line ``span.ended``, ``otlp`` sends them to a collector by
`telemetry.exporting`.  A request carries the `current` span across processes as a W3C
``traceparent``, so one trace id joins what all processes did for it.  Whether a trace is kept is
decided once, where it begins: by whoever asked, else by the ratio in the settings.

In an application with the SDK nothing is configured here: `adopt` takes the provider that the
application has given to OpenTelemetry, if any.
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
"""A ``traceparent`` has 55 today, and may grow in a later version of the standard."""
LINKS_MAX = 128
"""Links of one span: a batch may hold what a thousand callers asked for."""
_format = TraceContextTextMapPropagator()


class LogExporter(SpanExporter):
    """Writes each ended span as one line of the log."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans."""
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
    """Turn spans on or off, as ``telemetry.traces`` says.

    ``service`` and ``instance`` name the process in spans; ``exporter`` takes the place of the one
    that ``traces`` means.
    """
    close()
    if traces == "off":
        return
    processor: SpanProcessor
    if traces == "otlp" and exporter is None:
        # Here, because a process that sends nothing should not load it.
        from midstreamer.telemetry import exporting

        processor = exporting.processor(endpoint)
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
    """Take the application's own provider of OpenTelemetry, unless spans are on already."""
    if _tracer is None and isinstance(trace.get_tracer_provider(), TracerProvider):
        _use(None, trace.get_tracer("midstreamer"))


def close() -> None:
    """Send what waits, for a bounded time, and turn spans off."""
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
    """Time what happens inside; an error inside marks the span and goes on its way.

    ``parent`` is the ``traceparent`` that a request brought, ``links`` those of requests that this
    is done for besides; text that is none is ignored.
    """
    if _tracer is None:
        return _NOTHING
    context = _context_of(parent)
    made = _tracer.start_span(
        name, context=context, attributes=attributes, links=_links(links) if links else None
    )
    return _Open(made)


@contextlib.contextmanager
def each(name: str, parents: Sequence[str]) -> Iterator[None]:
    """Time what happens inside in several traces: one span in each, below its own parent."""
    if _tracer is None or not parents:
        yield
        return
    those = [context for parent in parents if (context := _known(parent)) is not None]
    made = [_tracer.start_span(name, context=context) for context in those]
    try:
        yield
    finally:
        for one in made:
            one.end()


@contextlib.contextmanager
def within(parent: str) -> Iterator[None]:
    """Go on in the span of a ``traceparent``; text that is none changes nothing."""
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
    """A span that is current while this is entered; an error leaves its code and nothing else.

    OpenTelemetry's own context writes the text of an error and its traceback, which may hold what
    nobody should read.
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
    """The context of a ``traceparent``; None when it is none."""
    context = _context_of(parent)
    known = trace.get_current_span(context).get_span_context().is_valid if context else False
    return context if known else None


def _links(parents: Sequence[str]) -> list[trace.Link]:
    known = (_known(parent) for parent in parents[:LINKS_MAX])
    spans = (trace.get_current_span(context) for context in known if context is not None)
    return [trace.Link(span.get_span_context()) for span in spans]


def current() -> str:
    """The span that is open here, as a ``traceparent``; empty when there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _format.inject(carrier)
    return carrier.get(_HEADER, "")


def kept() -> str:
    """The same, but empty when its trace is not kept: for what outlives its request."""
    return current() if _is_kept() else ""


def exemplar() -> dict[str, str] | None:
    """What leads from a measured value to the trace of the span that is open here.

    None when there is no such span, or when its trace is not kept.
    """
    if not _is_kept():
        return None
    here = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(here.trace_id)}


def _ids() -> Mapping[str, str]:
    """Trace and span that are open here, for a line of the log; empty when none is kept."""
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
    """What a task takes to go on in the span that is open here; None when spans are off."""
    return None if _tracer is None else contextvars.copy_context()
