"""The setting with the DNS names of the database: a text with commas between names, or JSON."""

from __future__ import annotations

import pytest

from midstreamer.domain.errors import ConfigError
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.runtime import config

NAMES = "MIDSTREAMER_POSTGRES__NAMES"


@pytest.mark.parametrize("text", ["db.example, postgres", '["db.example", "postgres"]'])
def test_names_are_text_with_commas_or_json(text: str) -> None:
    settings = config.load(PostgresSettings, environ={NAMES: text})
    assert settings.names == ("db.example", "postgres")


@pytest.mark.parametrize("text", ["", "db example", "a_b", "-a", "x" * 64, ".".join(["x"] * 200)])
def test_what_is_no_dns_name_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"postgres\.names"):
        config.load(PostgresSettings, environ={NAMES: text})
