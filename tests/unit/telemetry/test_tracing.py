"""Spans are real when they are on and nothing when they are off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from midstreamer.telemetry import tracing


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    tracing.configure("off", service="")


def test_a_span_inside_another_names_it_as_parent() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with tracing.span("outer"), tracing.span("inner", windows=3):
        pass
    inner, outer = kept.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes or {}) == {"windows": 3}
    assert inner.resource.attributes["service.name"] == "agent"


def test_an_ended_span_is_one_log_line() -> None:
    tracing.configure("log", service="agent")
    with capture_logs() as lines, tracing.span("search", windows=3):
        pass
    (line,) = lines
    assert (line["event"], line["span"], line["windows"]) == ("span.ended", "search", 3)
    assert line["duration_ms"] >= 0


def test_an_error_goes_on_its_way_and_marks_the_span() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with pytest.raises(OSError, match="away"), tracing.span("outer"):
        raise OSError("away")
    (ended,) = kept.get_finished_spans()
    assert not ended.status.is_ok


def test_off_means_no_span() -> None:
    with capture_logs() as lines, tracing.span("search"):
        pass
    assert lines == []


def test_a_span_continues_what_a_request_brought() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with tracing.span("asks"):
        told = tracing.current()
    with tracing.span("answers", parent=told):
        pass
    asks, answers = kept.get_finished_spans()
    assert answers.parent is not None
    assert asks.context is not None
    assert answers.parent.span_id == asks.context.span_id
    assert tracing.current() == ""


@pytest.mark.parametrize(
    "parent",
    ["", "00", "00-0-0-00", "x" * 10_000_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\n\0é"],
)
def test_a_parent_that_is_none_is_ignored(parent: str) -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with tracing.span("answers", parent=parent):
        pass
    (answers,) = kept.get_finished_spans()
    assert answers.parent is None


def test_off_means_nothing_to_tell() -> None:
    assert (tracing.current(), tracing.context()) == ("", None)
