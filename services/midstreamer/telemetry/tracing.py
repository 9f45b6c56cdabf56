"""Spans: what a request did and how long each part took, when somebody wants to know.

Off by default, and then `span` costs one comparison.  ``telemetry.traces = "log"`` lets the
OpenTelemetry SDK make real spans with parents and ids, each written as one log line
``span.ended`` when it ends.  There is deliberately no exporter to a collector yet.  A request
carries the `current` span across processes as a W3C ``traceparent``, so one trace id joins the
lines of all that took part.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from midstreamer.telemetry import logs

Attribute = str | int | float | bool

log = logs.get(__name__)
_tracer: trace.Tracer | None = None
_NOTHING = contextlib.nullcontext()
_HEADER = "traceparent"
PARENT_CHARACTERS_MAX = 256
"""A ``traceparent`` has 55 today, and may grow in a later version of the standard."""
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


def configure(traces: str, *, service: str, exporter: SpanExporter | None = None) -> None:
    """Turn spans on ("log") or off ("off"); ``service`` names the process in them."""
    global _tracer
    if traces == "off":
        _tracer = None
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(exporter or LogExporter()))
    _tracer = provider.get_tracer("midstreamer")


def span(
    name: str, *, parent: str = "", **attributes: Attribute
) -> contextlib.AbstractContextManager[object]:
    """Time what happens inside; an error inside marks the span and goes on its way.

    ``parent`` is the ``traceparent`` that a request brought; text that is none is ignored.
    """
    if _tracer is None:
        return _NOTHING
    told = 0 < len(parent) <= PARENT_CHARACTERS_MAX
    context = _format.extract({_HEADER: parent}) if told else None
    return _tracer.start_as_current_span(name, context=context, attributes=attributes)


def current() -> str:
    """The span that is open here, as a ``traceparent``; empty when there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _format.inject(carrier)
    return carrier.get(_HEADER, "")


def exemplar() -> dict[str, str] | None:
    """What leads from a measured value to the trace of the span that is open here.

    None when there is no such span, or when its trace is not kept.
    """
    if _tracer is None:
        return None
    here = trace.get_current_span().get_span_context()
    if not here.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(here.trace_id)}


def context() -> contextvars.Context | None:
    """What a task takes to go on in the span that is open here; None when spans are off."""
    return None if _tracer is None else contextvars.copy_context()
