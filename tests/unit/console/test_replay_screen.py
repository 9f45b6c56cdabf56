"""The screens that show the progress of a replay, on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from midstreamer.console import replay_screen, terminal
from midstreamer.console.replay_watch import SHOWN_PER_STEP, Watch
from midstreamer.domain.decision import Direction
from midstreamer.market.replay import Loading, Resumed, Stepped, Waiting
from tests.support.client_builders import DAY, a_decision, a_verdict


def a_step(number: int, *, signal: bool = False, total: int = 100) -> Stepped:
    direction = Direction.LONG if signal else None
    decision = a_decision(time=number * DAY, direction=direction)
    verdicts = (a_verdict(a_decision(time=(number - 1) * DAY, direction=direction)),)
    return Stepped(number * DAY, number, total, 2, (decision,), verdicts, 0.01, 0.02)


def test_progress_tells_share_rate_and_remaining_time() -> None:
    watch = Watch("sp500")
    for number in range(1, 12):
        watch.take(a_step(number), now_s=float(number))
    assert watch.progress_line().plain == (
        "sp500: ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 11% 1970-01-12  22 ticks, 2/s, 1:29 left"
    )
    assert watch.counts_line().plain.startswith(
        "11 decisions: 0 signals, 11 abstentions; 10 verdicts"
    )


def test_history_has_its_own_progress() -> None:
    watch = Watch("sp500")
    watch.take(Loading(50, 100, 50, 0), now_s=1.0)
    assert watch.progress_line().plain.endswith("50 of 100 ticks")


def test_a_feed_of_unknown_length_has_no_end_to_tell() -> None:
    watch = Watch("standard input")
    watch.take(a_step(1, total=0), now_s=1.0)
    assert watch.progress_line().plain == "standard input: 1970-01-02  2 ticks, 0/s"


def test_what_was_stored_before_does_not_count_as_speed() -> None:
    watch = Watch("sp500")
    watch.take(Resumed(50, 100, 100, (), ()), now_s=1.0)
    watch.take(a_step(51), now_s=2.0)
    watch.take(a_step(52), now_s=3.0)
    assert watch.steps_per_s == 1.0


def test_signals_are_shown_before_silences() -> None:
    silences = [a_decision(series=f"sp500/S{each}", confidence=0.9) for each in range(9)]
    signal = a_decision(series="sp500/GO", direction=Direction.LONG, confidence=0.6)
    watch = Watch("sp500")
    watch.take(Stepped(DAY, 1, 9, 10, (*silences, signal), (), 0.1, 0.1), now_s=1.0)
    assert len(watch.fresh) == SHOWN_PER_STEP
    assert watch.fresh[-1] == signal


def test_an_outage_is_shown_until_it_is_over() -> None:
    watch = Watch("sp500")
    watch.take(Waiting("link_closed", "gone", 0.5), now_s=1.0)
    assert watch.waiting_line().plain == "waiting: error[link_closed]: gone; retry in 0.5 s"
    watch.take(a_step(1), now_s=2.0)
    assert watch.waiting_line().plain == ""


def plain(width: int = 200) -> tuple[replay_screen.PlainScreen, io.StringIO]:
    out = io.StringIO()
    return replay_screen.PlainScreen(Console(file=out, width=width, color_system=None)), out


def test_a_pipe_gets_few_lines_however_many_steps() -> None:
    shown, out = plain()
    with shown:
        shown.say("starting")
        shown.begin(Watch("sp500"))
        for number in range(1, 500):
            shown.take(a_step(number, signal=True))
        shown.show(Text("the end"))
    lines = out.getvalue().splitlines()
    assert lines[0] == "starting"
    assert lines[-1] == "the end"
    assert any("LONG 60%" in line for line in lines)
    assert len(lines) < 30


def test_an_outage_is_reported_once_in_a_pipe() -> None:
    shown, out = plain()
    shown.begin(Watch("sp500"))
    for _ in range(5):
        shown.take(Waiting("store", "PostgreSQL is away", 0.5))
    shown.take(a_step(1))
    lines = [
        line for line in out.getvalue().splitlines() if "waiting" in line or "continuing" in line
    ]
    assert lines == ["waiting: error[store]: PostgreSQL is away; retry in 0.5 s", "continuing"]


def test_a_terminal_gets_one_picture_and_keeps_the_summary() -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    with replay_screen.LiveScreen(console) as shown:
        watch = Watch("sp500")
        shown.begin(watch)
        shown.take(Waiting("store", "away", 0.5))
        shown.take(a_step(1, signal=True))
        shown.take(a_step(2, signal=True))
        console.print(watch.panel())
        shown.say("news")
        shown.show(Text("the end"))
    text = out.getvalue()
    for part in ("nearest analog", "LONG 60%", "verdict on LONG", "news", "the end"):
        assert part in text


def test_the_screen_fits_where_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(replay_screen.screen_here(), replay_screen.PlainScreen)
    assert terminal.console_here().width == terminal.PLAIN_COLUMNS
