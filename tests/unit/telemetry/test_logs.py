"""Log lines are JSON or text, have levels and bound keys, and show no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from midstreamer.telemetry import log_throttle, logs, metrics

PEM = "-----BEGIN PRIVATE " + "KEY-----\nabc\n-----END PRIVATE " + "KEY-----"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("midstreamer").setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_one_json_object_per_line_with_level_and_logger(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(json=True)
    logs.get("midstreamer.agent.service").info("shard.loaded", points=3)
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["points"], logged["level"]) == ("shard.loaded", 3, "info")
    assert logged["logger"] == "midstreamer.agent.service"


def test_lines_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="warning")
    logs.get("midstreamer.agent").info("shard.loaded")
    assert capsys.readouterr().err == ""


def test_log_lines_of_libraries_are_written_from_warning_upward(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(json=True)
    logging.getLogger("a.library").info("chatter")
    logging.getLogger("a.library").warning("trouble")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "trouble"


def test_bound_keys_come_with_every_later_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True)
    logs.bind(agent="a1")
    logs.get("midstreamer.agent").info("lease.renewed")
    assert json.loads(capsys.readouterr().err)["agent"] == "a1"


def test_a_terminal_gets_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=False)
    logs.get("midstreamer.agent").info("shard.loaded", points=3)
    assert "shard.loaded" in capsys.readouterr().err


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_traceback_does_not_show_a_password(
    capsys: pytest.CaptureFixture[str], json_lines: bool
) -> None:
    logs.configure(json=json_lines)
    try:
        raise OSError("postgresql://me:hunter2@db/x is away")
    except OSError:
        logs.get("midstreamer.sync").error("store.lost", exc_info=True)
    output = capsys.readouterr().err
    assert "hunter2" not in output
    assert "OSError" in output


@pytest.mark.parametrize("name", ["password", "ca_private_key", "api_token", "key_pem", "secrets"])
def test_values_named_like_secrets_are_hidden(name: str) -> None:
    assert logs.hide_secrets(None, "info", {name: "x"}) == {name: logs.HIDDEN}


@pytest.mark.parametrize("name", ["key", "monkey", "series", "event"])
def test_harmless_names_stay_readable(name: str) -> None:
    assert logs.hide_secrets(None, "info", {name: "x"}) == {name: "x"}


def test_secrets_are_found_inside_lists_tables_and_bytes() -> None:
    event = {"a": [PEM], "b": {"password": "x", "c": PEM}, "d": PEM.encode(), "e": b"\x01"}
    assert logs.hide_secrets(None, "info", event) == {
        "a": [logs.HIDDEN],
        "b": {"password": logs.HIDDEN, "c": logs.HIDDEN},
        "d": logs.HIDDEN,
        "e": "01",
    }


def test_a_url_keeps_everything_but_its_password() -> None:
    assert logs.scrub("postgresql://me:pw@h:5432/db") == f"postgresql://me:{logs.HIDDEN}@h:5432/db"


def test_lines_that_a_stranger_causes_are_limited_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left_out = metrics.LOG_LINES_LEFT_OUT.labels("peer.refused")._value
    before = left_out.get()
    logs.configure(json=True)
    for _ in range(500):
        logs.get("midstreamer.transport").warning("peer.refused")
        logs.get("midstreamer.agent").warning("shard.dropped")
    names = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    written = names.count("peer.refused")
    assert log_throttle.BURST <= written <= log_throttle.BURST + 5
    assert names.count("shard.dropped") == 500
    assert left_out.get() - before == 500 - written
