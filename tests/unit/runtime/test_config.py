"""Settings come from several layers; each value's layer is named, and unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import config


class AgentLike(config.Settings):
    """The settings of a service, with a section of its own and a shared section."""

    section: ClassVar[str] = "agent"

    threads: int = Field(2, ge=1)
    """Number of compute threads."""
    names: tuple[str, ...] = ()
    """Some names, to test a list."""
    dsn: str = ""
    """Connection string of PostgreSQL, to test a secret."""
    telemetry: config.TelemetrySettings = config.TelemetrySettings(listen="127.0.0.1:9100")
    """The shared section, with a default of this service."""


def a_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def load(
    tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object
) -> AgentLike:
    file = a_file(tmp_path, text) if text else None
    return config.load(AgentLike, config_file=file, overrides=flags, environ=environ or {})


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    text, environ = "[agent]\nthreads = 3", {"MIDSTREAMER_AGENT__THREADS": "4"}
    assert load(tmp_path).threads == 2
    assert load(tmp_path, text).threads == 3
    assert load(tmp_path, text, environ).threads == 4
    assert load(tmp_path, text, environ, threads=5).threads == 5


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "[agent]\nthreads = 3", threads=None).threads == 3


def test_every_value_names_its_origin(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[telemetry]\nlevel = 'debug'",
        {"MIDSTREAMER_AGENT__NAMES": '["a", "b"]'},
        threads=7,
    )
    rows = {row.key: row for row in config.show(settings)}
    assert rows["agent.telemetry.level"].origin == f"{tmp_path}/config.toml [telemetry]"
    assert rows["agent.names"].origin == "environment MIDSTREAMER_AGENT__NAMES"
    assert rows["agent.threads"].origin == "flag --threads"
    assert rows["agent.telemetry.json_logs"].origin == "default"


def test_a_shared_section_holds_for_all_and_can_be_narrowed(tmp_path: Path) -> None:
    text = "[telemetry]\nlevel = 'debug'\njson_logs = true\n[agent.telemetry]\nlevel = 'error'"
    settings = load(tmp_path, text)
    assert (settings.telemetry.level, settings.telemetry.json_logs) == ("error", True)


def test_a_service_may_have_its_own_default_in_a_shared_section(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={"MIDSTREAMER_TELEMETRY__LEVEL": "debug"})
    assert (settings.telemetry.level, settings.telemetry.listen) == ("debug", "127.0.0.1:9100")


def test_the_environment_reaches_into_a_shared_section(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"MIDSTREAMER_AGENT__TELEMETRY__LISTEN": "none"}).telemetry == (
        config.TelemetrySettings(listen=None)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[agent]\nthread = 3",
            r"config.toml \[agent\]: unknown key 'thread'; did you mean threads",
        ),
        ("[agnet]\nthreads = 3", r"unknown section \[agnet\]; did you mean agent"),
        ("[agent.telemetry]\nlevle = 'x'", "did you mean telemetry.level"),
        ("[agent]\nthreads = 0", r"agent.threads = 0 from .*config.toml \[agent\]: .*greater"),
        ("[agent]\nthreads = 'x'", "agent.threads = 'x' from"),
        ("agent = 3", "'agent' is not inside a section"),
        ("[agent", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MIDSTREAMER_AGENT__THREAD", "3", "unknown key; did you mean threads"),
        ("MIDSTREAMER_AGNET__THREADS", "3", "unknown section 'agnet'"),
        ("MIDSTREAMER_AGENT__NAMES", "a,b", "is not JSON"),
        ("MIDSTREAMER_TELEMETRY__LISTEN", "nowhere", "is not <host>:<port>"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, environ={name: value})
    assert name in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(AgentLike, config_file=tmp_path / "none.toml", environ={})


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean threads"):
        config.load(AgentLike, overrides={"thread": 3}, environ={})


def test_a_password_is_neither_shown_nor_quoted_in_an_error(tmp_path: Path) -> None:
    settings = load(tmp_path, dsn="postgresql://me:hunter2@db/x")
    assert "hunter2" not in str(config.show(settings))
    assert settings.dsn.endswith("hunter2@db/x")


def test_settings_built_by_hand_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDSTREAMER_AGENT__THREADS", "9")
    monkeypatch.setenv("THREADS", "9")
    assert AgentLike().threads == 2


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AgentLike().threads = 3  # type: ignore[misc]


def test_the_named_file_wins_over_the_one_that_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.default_config_file({}) is None
    a_file(tmp_path, "")
    assert config.default_config_file({}) == Path("config.toml")
    assert config.default_config_file({config.FILE_VARIABLE: "x.toml"}) == Path("x.toml")
