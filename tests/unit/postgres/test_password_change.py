"""The password is changed while PostgreSQL runs, even if its answer to the change is lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from midstreamer.domain.errors import StoreError
from midstreamer.postgres import service
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.postgres.service import PostgresService
from midstreamer.store import driver

FIRST, SECOND = "the-first-password", "the-second-password"


class Server:
    """A fake PostgreSQL server that accepts only its current password."""

    def __init__(self) -> None:
        self.word = FIRST
        self.loses_answers = False

    async def connect(self, given: str) -> Server:
        if given != self.word:
            raise TimeoutError("the server refused the password")
        return self

    async def execute(self, statement: str) -> None:
        self.word = statement
        if self.loses_answers:
            raise TimeoutError("no answer")

    def terminate(self) -> None:
        """Do nothing: this server has no connection to close."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    fake = Server()

    async def connect(way: driver.Way, _name: str) -> Any:
        assert way.password is not None
        return await fake.connect(way.password())

    monkeypatch.setattr(driver.Way, "connect", connect)
    monkeypatch.setattr(service, "Trust", lambda *_: None)
    monkeypatch.setattr(service, "_own", lambda word: word)
    return fake


async def test_a_change_whose_answer_was_lost_is_taken_over_at_the_next_look(
    tmp_path: Path, server: Server
) -> None:
    file = tmp_path / "password"
    file.write_text(SECOND)
    postgres = PostgresService(PostgresSettings(password_file=file), cast("Any", None))
    postgres._server = cast("Any", SimpleNamespace(dsn="postgresql://"))
    postgres._password = FIRST
    server.loses_answers = True
    with pytest.raises(StoreError, match="no answer"):
        await postgres._take_password()
    assert server.word == SECOND

    server.loses_answers = False
    await postgres._take_password()

    assert postgres._password == SECOND
