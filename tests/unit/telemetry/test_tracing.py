"""Spans are recorded when tracing is on, and cost nothing when it is off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from midstreamer.domain.errors import Unavailable
from midstreamer.telemetry import logs, tracing
from tests.support.own_tracing import provided


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
        parent = tracing.current()
    with tracing.span("answers", parent=parent):
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
def test_a_malformed_trace_parent_is_ignored(parent: str) -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with tracing.span("answers", parent=parent):
        pass
    (answers,) = kept.get_finished_spans()
    assert answers.parent is None


def test_without_tracing_no_trace_is_sent_on() -> None:
    assert (tracing.current(), tracing.context()) == ("", None)


# From here on, the tests check which traces are recorded.


def kept_of(ratio: float, *, parents: list[str]) -> list[bool]:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept, ratio=ratio)
    found = []
    for parent in parents:
        with tracing.span("answers", parent=parent):
            found.append(bool(tracing.kept()))
    return found


def a_parent(*, sampled: bool, trace: int = 7) -> str:
    return f"00-{trace:032x}-{9:016x}-0{int(sampled)}"


def test_the_caller_decides_whether_a_trace_is_kept() -> None:
    parents = [a_parent(sampled=True), a_parent(sampled=False)]
    assert kept_of(0.0, parents=parents) == [True, False]
    assert kept_of(1.0, parents=parents) == [True, False]


def test_of_traces_that_begin_here_the_ratio_is_kept() -> None:
    assert not any(kept_of(0.0, parents=[""] * 50))
    assert all(kept_of(1.0, parents=[""] * 50))
    assert 0.4 < sum(kept_of(0.5, parents=[""] * 1000)) / 1000 < 0.6


def test_a_trace_that_is_not_kept_gives_no_exemplar_and_nothing_to_carry_on() -> None:
    tracing.configure("log", service="agent", exporter=InMemorySpanExporter(), ratio=0.0)
    with tracing.span("answers"):
        assert (tracing.kept(), tracing.exemplar()) == ("", None)
        assert int(tracing.current().rpartition("-")[2], 16) & 1 == 0


def test_an_error_leaves_its_code_and_no_message_in_the_span() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with pytest.raises(Unavailable), tracing.span("outer"):
        raise Unavailable("password=hunter2")
    (ended,) = kept.get_finished_spans()
    assert dict(ended.attributes or {}) == {"error.type": "unavailable"}
    assert "hunter2" not in ended.to_json()


# From here on, the tests are about one batch that serves several requests.


def test_a_batch_is_in_the_trace_of_the_first_and_linked_to_the_others() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="sync", exporter=kept)
    first, second = a_parent(sampled=True, trace=1), a_parent(sampled=True, trace=2)
    with tracing.span("commit", parent=first, links=[second, "none", first]):
        pass
    (commit,) = kept.get_finished_spans()
    assert commit.context is not None
    assert commit.context.trace_id == 1
    assert [link.context.trace_id for link in commit.links] == [2, 1]


def test_each_caller_of_a_batch_has_a_span_in_its_own_trace() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="sync", exporter=kept)
    parents = [a_parent(sampled=sampled, trace=at) for at, sampled in ((1, True), (2, False))]
    with tracing.each("commit.wait", [*parents, "none"]):
        pass
    assert [span.context.trace_id for span in kept.get_finished_spans() if span.context] == [1]


def test_work_goes_on_within_the_span_that_a_request_brought() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="agent", exporter=kept)
    with tracing.within(a_parent(sampled=True)):
        assert tracing.current() == a_parent(sampled=True)
    with tracing.within("none"):
        assert tracing.current() == ""


def test_an_application_s_own_provider_is_taken_and_its_spans_are_parents() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with provided(provider):
        tracing.adopt()
        with provider.get_tracer("app").start_as_current_span("app"), tracing.span("client.match"):
            pass
    inner, outer = kept.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id


def test_without_an_application_s_provider_nothing_is_taken() -> None:
    with provided(None):
        tracing.adopt()
        with tracing.span("client.match"):
            assert tracing.current() == ""


def test_a_line_names_the_trace_that_it_was_written_in() -> None:
    tracing.configure("log", service="agent", exporter=InMemorySpanExporter())
    with tracing.span("answers", parent=a_parent(sampled=True)):
        line = dict(logs.add_trace(None, "info", {"event": "x"}))
    assert line["trace_id"] == f"{7:032x}"
    assert len(line["span_id"]) == 16
    assert dict(logs.add_trace(None, "info", {"event": "x"})) == {"event": "x"}
