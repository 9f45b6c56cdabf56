"""The label values of metrics are closed sets, so that no peer can create a time series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import midstreamer
import midstreamer_operator
from midstreamer.coordinator import dispatch_io
from midstreamer.domain.errors import Refused
from midstreamer.protocol import authorisation, frames
from midstreamer.protocol.connection import Code
from midstreamer.security.refusal_reasons import Reason
from midstreamer.telemetry import label_values, metrics
from midstreamer.transport import open_links
from midstreamer.transport.aioquic import wire

SOURCES = [Path(each.__path__[0]) for each in (midstreamer, midstreamer_operator)]
LABELLED = [one for one in vars(metrics).values() if isinstance(one, metrics.Family)]
NOBODYS = "no word of ours"


def handshakes(result: str) -> float:
    found = metrics.REGISTRY.get_sample_value("midstreamer_handshakes_total", {"result": result})
    return found or 0.0


def series() -> int:
    return len(metrics.render().splitlines())


def test_every_label_of_the_catalogue_has_its_closed_set() -> None:
    labelled = [metric for metric in metrics.CATALOGUE if metric.labels]
    assert len(labelled) == len(LABELLED)
    sets = [closed for metric in labelled for closed in metric.labels.values()]
    assert all(closed for closed in sets)
    sizes = [
        metric.most if isinstance(metric, label_values.FirstNames) else len(metric)
        for metric in sets
    ]
    assert max(sizes) < 64


@pytest.mark.parametrize("metric", LABELLED, ids=lambda one: one._metric._name)
def test_a_word_from_outside_its_set_counts_as_other(
    metric: metrics.Family[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [
        allowed
        for allowed in metric._words.values()
        if isinstance(allowed, label_values.FirstNames)
    ]
    for allowed in named:
        monkeypatch.setattr(allowed, "_met", {str(each) for each in range(allowed.most)})
    child = metric.labels(*[NOBODYS for _ in metric._words])
    assert child._labelvalues == tuple(label_values.OTHER for _ in metric._words)
    assert NOBODYS not in metrics.render().decode()


@pytest.mark.slow
@given(st.text())
def test_a_refusal_with_any_code_makes_no_time_series(code: str) -> None:
    open_links.refused("a peer", Refused("no", reason="what nobody says"))
    before = series()
    open_links.refused("a peer", Refused("no", reason=code))
    assert series() - before in ({0, 1} if code in label_values.REFUSALS else {0})


def test_accepted_sent_as_a_code_does_not_count_as_accepted() -> None:
    accepted, other = handshakes("accepted"), handshakes("other")
    open_links.refused("a peer", Refused("no", reason="accepted"))
    assert (handshakes("accepted"), handshakes("other")) == (accepted, other + 1)


def test_the_words_are_those_of_the_code() -> None:
    assert set(frames.FRAMES) == label_values.FRAMES
    codes = {*Reason, *Code, wire.HANDSHAKE_FAILED, authorisation.NOT_AUTHORISED}
    codes |= {open_links.NOT_JUDGED, dispatch_io.HOLDINGS_MISMATCH}
    assert codes <= label_values.REFUSALS <= codes | label_values.CODES


def test_the_names_of_background_loops_are_those_of_the_services() -> None:
    started = re.compile(r'\b(?:supervise|background|spawn)\(\s*"([\w]+\.[\w.]+)"')
    found = {
        name
        for source in SOURCES
        for path in source.rglob("*.py")
        for name in started.findall(path.read_text(encoding="utf-8"))
    }
    assert found == label_values.TASKS


def test_every_limited_line_is_one_that_is_written() -> None:
    line = re.compile(r'\blog\.\w+\(\s*"([\w.]+)"')
    written = {
        name
        for source in SOURCES
        for path in source.rglob("*.py")
        for name in line.findall(path.read_text(encoding="utf-8"))
    }
    assert written >= label_values.EVENTS_BY_PEERS


def test_lines_that_a_client_can_cause_at_will_are_limited() -> None:
    assert {
        "survey.remembered",
        "agent.known_wrongly",
        "verdict.void",
    } <= label_values.EVENTS_BY_PEERS


def test_the_first_names_stay_labels_and_later_names_become_other() -> None:
    names = label_values.FirstNames("the first 2", 2)
    assert [each in names for each in ("b", "a", "c", "b")] == [True, True, False, True]
    assert list(names) == ["a", "b"]


def test_no_metric_is_labelled_behind_the_closed_sets() -> None:
    text = (SOURCES[0] / "telemetry" / "metric_builders.py").read_text(encoding="utf-8")
    makers = re.findall(r"(?:Counter|Gauge|Histogram)\(name, help, tuple\(labels\)", text)
    assert len(makers) == text.count("Family(") - text.count("class Family(")
