"""Tests: each request is assigned to an event, and each broken promise is found."""

from __future__ import annotations

import pytest

from tests.load.client_reports import Request, Retry
from tests.rolling import judgement
from tests.rolling.judgement import Evidence, Happened, Outcome

FIRST, SECOND = Happened("s1 old → new", "SIGTERM", 10.0), Happened("c1 old → new", "SIGTERM", 20.0)


def a_request(due_s: float, end_s: float, error: str = "", what: str = "match") -> Request:
    return Request("u1", what, due_s, end_s, error)


def belongs_to(request: Request) -> str:
    found = judgement.outcomes([FIRST, SECOND], [request])
    (where,) = [each.event.what for each in found if each.requests]
    return where


@pytest.mark.parametrize(
    ("due_s", "end_s", "where"),
    [
        (9.0, 9.9, judgement.CALM),
        (9.5, 10.5, FIRST.what),  # the first event interrupted this request
        (10.5, 10.6, FIRST.what),
        (12.0, 25.0, FIRST.what),  # begun more than `OPEN_S` before the second event
        (19.9, 20.1, SECOND.what),
        (30.0, 31.0, SECOND.what),
    ],
)
def test_a_request_belongs_to_the_event_that_met_it(due_s: float, end_s: float, where: str) -> None:
    assert belongs_to(a_request(due_s, end_s)) == where


def test_recovery_lasts_until_the_last_request_that_was_delayed_has_ended() -> None:
    requests = [a_request(10.1, 12.5), a_request(11.0, 12.9), a_request(13.0, 13.02)]
    _, outcome = judgement.outcomes([FIRST], requests)
    assert outcome.recovery_s == pytest.approx(2.9)
    assert outcome.slowest_s("match") == pytest.approx(2.4)


def test_an_event_that_delays_nothing_needs_no_recovery() -> None:
    _, outcome = judgement.outcomes([FIRST], [a_request(10.1, 10.2)])
    assert outcome.recovery_s == 0.0


def test_repeated_attempts_are_counted_for_the_event_before_them() -> None:
    found = judgement.outcomes([FIRST, SECOND], [], [Retry("u1", 10.2, "unavailable: gone")])
    assert [len(each.retries) for each in found] == [0, 1, 0]


def judged(*requests: Request, kill: bool = False, **evidence: list[str]) -> list[str]:
    found = judgement.outcomes([FIRST], requests)
    return judgement.broken(found, Evidence(**evidence), kill=kill)


def test_a_failed_request_breaks_the_promise_after_sigterm_alone() -> None:
    failed = a_request(10.1, 40.1, "unavailable: nobody")
    assert judged(failed) == [
        "s1 old → new: 1 requests failed, the first, match, after 30.0 s with unavailable: nobody"
    ]
    assert judged(failed, kill=True) == []


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("kind", ["lost", "faults", "log_lines"])
def test_what_is_lost_or_contradicts_or_was_not_foreseen_breaks_it_always(
    kind: str, kill: bool
) -> None:
    assert judged(a_request(10.1, 10.2), kill=kill, **{kind: ["it"]}) == [f"{kind}: it"]


def test_a_run_without_requests_shows_nothing() -> None:
    assert judged() == ["no request was made"]


def test_a_process_that_had_to_be_killed_breaks_it() -> None:
    late = FIRST._replace(complaint="s1 did not end within 60 s of SIGTERM")
    broken = judgement.broken([Outcome(late, [a_request(1, 2)])], Evidence(), kill=False)
    assert broken == ["s1 old → new: s1 did not end within 60 s of SIGTERM"]


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "error[error]: unexpected KeyError: 'x'",
        "Task exception was never retrieved",
        "[warning] link.refused reason=unexpected_frame",
    ],
)
def test_a_line_that_no_log_may_hold_is_found(line: str) -> None:
    text = f"[info] sync.listening\n{line}\n[info] process.stopping"
    assert judgement.wrong_lines("s1-1-old.log", text) == [f"s1-1-old.log: {line}"]
