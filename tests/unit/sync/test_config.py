"""Contradicting settings about the database are refused, and no password is shown."""

from __future__ import annotations

import pytest

from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import config
from midstreamer.sync.config import SyncSettings

DSN = "postgresql://me@db.example/db"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"password_file": "word"}, "password_file is for a server named by dsn"),
        ({"database_trust": "fleet"}, "database_trust is for a server named by dsn"),
        ({"database_trust": "flet", "dsn": DSN}, "sync.database_trust = 'flet'"),
        (
            {"password_file": "word", "dsn": "postgresql://me:hush@db.example/db"},
            "dsn holds a password, and password_file is set too",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, str], message: str) -> None:
    environ = {f"MIDSTREAMER_SYNC__{key.upper()}": value for key, value in given.items()}
    with pytest.raises(ConfigError, match=message) as raised:
        config.load(SyncSettings, environ=environ)
    assert "hush" not in raised.value.message


def test_a_server_may_have_its_password_in_a_file_and_the_fleets_trust() -> None:
    settings = config.load(
        SyncSettings,
        environ={
            "MIDSTREAMER_SYNC__DSN": DSN,
            "MIDSTREAMER_SYNC__PASSWORD_FILE": "/etc/postgres/password",
            "MIDSTREAMER_SYNC__DATABASE_TRUST": "fleet",
        },
    )
    assert (str(settings.password_file), settings.database_trust) == (
        "/etc/postgres/password",
        "fleet",
    )
