"""The command line: help with examples, one line for each error, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from midstreamer.cli import error_lines, main, state_folder
from midstreamer.domain.errors import BadInput, MidstreamerError, Overloaded
from midstreamer.market import report
from tests.support.client_builders import a_csv

VERBS = [
    "run",
    "replay",
    "match",
    "status",
    "judge",
    "sync",
    "coordinator",
    "agent",
    "certs",
    "db",
    "config",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder, without config.toml and data of the repository."""
    monkeypatch.chdir(tmp_path)


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in VERBS if f" {verb} " not in shown] == []


@pytest.mark.parametrize("verb", ["run", "replay", "match", "judge", "sync", "agent"])
def test_the_help_of_a_verb_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute([verb, "--help"]) == 0
    assert f"midstreamer {verb}" in capsys.readouterr().out.split("Usage", 1)[1][30:]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["--version"]) == 0
    assert capsys.readouterr().out.startswith("midstreamer 0.")


def test_an_unknown_option_is_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["run", "--speed", "9"]) == 2
    assert "--speed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--data", "none.csv"], "error[bad_input]: none.csv: no such file"),
        (["run"], "error[bad_input]: data set 'sp500' is not at "),
        (["run", "--from", "soon"], "error[bad_input]: time 'soon' is neither ISO 8601"),
        (["run", "--agents", "0"], "error[config]: run.agents = 0 from flag --agents"),
        (["run", "--engine", "gpu"], "error[config]: run.engine = 'gpu' from flag --engine"),
        (["--config", "no.toml", "status"], "error[config]: configuration file no.toml: No such"),
        (["sync", "--set", "listen"], "error[bad_input]: --set 'listen' is not KEY=VALUE"),
        (["agent", "--set", "thread=2"], "error[config]: unknown flag 'thread' of [agent]; did"),
        (["status"], "error[config]: no client certificate in var/certs: run `midstreamer certs"),
        (
            ["config", "show", "agents"],
            "error[bad_input]: section 'agents' is unknown: use one of sync, coord",
        ),
        (["certs", "issue", "agent/a1"], "error[config]: var/certs/authority.pem: No such file"),
        (["certs", "show"], "error[bad_input]: no certificate in var/certs; run `midstreamer"),
        (["db", "status"], "error[config]: sync.dsn is empty and sync.directory = var/store has"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.execute(arguments) == error_lines.WRONG
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert shown.count("\n") == 1


def test_a_wrong_key_names_file_section_and_the_nearest_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("[agent]\nenginee = 'auto'\n")
    assert main.execute(["agent"]) == error_lines.WRONG
    shown = capsys.readouterr().err
    assert "config.toml [agent]: unknown key 'enginee'; did you mean engine?" in shown


def test_a_broken_file_stops_a_run_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_csv(tmp_path / "prices.csv", "2020-01-01,a,1", "2020-01-02,a,nan")
    assert main.execute(["run", "--data", str(path)]) == error_lines.WRONG
    assert "prices.csv:3: value of default/a is nan" in capsys.readouterr().err
    assert not state_folder.where(None).exists()


def test_the_schema_of_the_report_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["run", "--json-schema"]) == 0
    assert capsys.readouterr().out.encode() == report.schema()


def test_settings_are_shown_with_their_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("[agent]\nengine = 'wasm'\n")
    assert main.execute(["agent", "--set", "id=a9", "--print-config"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["agent.engine", "wasm", "config.toml", "[agent]"] in rows
    assert ["agent.id", "a9", "flag", "--id"] in rows
    assert ["agent.threads", "0", "default"] in rows


def test_the_schema_of_the_settings_has_every_section(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.execute(["config", "schema"]) == 0
    sections = json.loads(capsys.readouterr().out)["properties"]
    assert set(sections) == {"sync", "coordinator", "agent", "postgres", "client", "run"}


def test_certificates_are_made_shown_and_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--directory", str(tmp_path / "certs")]
    assert main.execute(["certs", "init", *at]) == 0
    assert main.execute(["certs", "issue", "client/laptop", "agent/a1", *at]) == 0
    assert main.execute(["certs", "issue", "coordinator/c1", "--no-allow", *at]) == 0
    assert (tmp_path / "certs" / "allowlist").read_text() == "client/laptop\nagent/a1\n"
    capsys.readouterr()
    assert main.execute(["certs", "show", *at]) == 0
    shown = capsys.readouterr().out
    assert "spiffe://midstreamer.local/client/laptop" in shown
    assert "PRIVATE" not in shown
    assert main.execute(["certs", "init", *at]) == error_lines.WRONG


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("no"), 2),
        (Overloaded("full"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(7), 7),
        (ExceptionGroup("several", [ValueError("x"), BadInput("no")]), 2),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (RuntimeError("bug"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert error_lines.outcome(raising(error), debug=lambda: False) == code


def test_an_unexpected_error_has_its_traceback_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error_lines.outcome(raising(RuntimeError("bug")), debug=lambda: False)
    shown = capsys.readouterr().err
    assert shown.startswith("error[error]: unexpected RuntimeError: bug")
    assert "Traceback" not in shown
    error_lines.outcome(raising(RuntimeError("bug")), debug=lambda: True)
    assert "Traceback" in capsys.readouterr().err


def test_the_foreseen_error_is_found_inside_nested_groups() -> None:
    inner = Overloaded("full")
    group = BaseExceptionGroup("a", [KeyError("x"), ExceptionGroup("b", [inner])])
    found: MidstreamerError | BaseException = error_lines.foreseen(group)
    assert found is inner


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "mine.toml", "agent", "--print-config"],
        ["agent", "--config", "mine.toml", "--print-config"],
        ["agent", "--print-config", "--config", "mine.toml"],
        ["--config", "other.toml", "agent", "--config", "mine.toml", "--print-config"],
        ["config", "--config", "mine.toml", "show", "agent"],
        ["config", "show", "agent", "--config", "mine.toml"],
    ],
)
def test_the_configuration_file_is_taken_before_and_after_the_verb(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("[agent]\nid = 'a7'\n")
    (tmp_path / "other.toml").write_text("[agent]\nid = 'a8'\n")
    assert main.execute(words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["agent.id", "a7", "mine.toml", "[agent]"] in rows


@pytest.mark.parametrize(
    "words", [["--debug", "agent", "--set", "id"], ["agent", "--set", "id", "--debug"]]
)
def test_the_traceback_may_be_asked_for_before_and_after_the_verb(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.execute(words) == error_lines.WRONG
    assert "Traceback" in capsys.readouterr().err
    assert main.execute(["agent", "--set", "id"]) == error_lines.WRONG
    assert "Traceback" not in capsys.readouterr().err


def test_every_command_takes_the_options_of_the_whole_command() -> None:
    root = typer.main.get_command(main.app)

    def lacking(command: Any, name: str) -> list[str]:
        inner = [each for child in getattr(command, "commands", {}).items()
                 for each in lacking(child[1], f"{name} {child[0]}")]  # fmt: skip
        options = {option for parameter in command.params for option in parameter.opts}
        return inner + ([] if {"--config", "--debug"} <= options else [name])

    assert lacking(root, "midstreamer") == []
