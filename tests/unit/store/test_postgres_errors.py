"""Each PostgreSQL error becomes an error that says what to do and whether a retry can help."""

from __future__ import annotations

import socket

import pytest

from midstreamer.domain.errors import BadInput
from midstreamer.store import postgres_errors


@pytest.mark.parametrize(
    ("sqlstate", "says"),
    [
        ("53100", "disk is full"),
        ("53300", "max_connections"),
        ("57P03", "starting, recovering"),
        ("57P01", "shutting down"),
        ("08006", "connection was lost"),
        ("3D000", "no such database"),
        ("28P01", "pg_hba.conf"),
        ("40P01", "retry"),
    ],
)
def test_a_code_is_explained_with_a_way_out(sqlstate: str, says: str) -> None:
    error = postgres_errors.explain(sqlstate, "the server's words")
    assert says in error.message
    assert "the server's words" in error.message
    assert error.retry_after_s > 0


def test_an_unforeseen_code_is_not_worth_another_try() -> None:
    error = postgres_errors.explain("23505", "duplicate key")
    assert error.retry_after_s == 0
    assert "23505: duplicate key" in error.message


def test_a_server_that_is_not_there_says_how_to_reach_one() -> None:
    assert "sync.dsn" in postgres_errors.absent(ConnectionRefusedError("refused")).message
    assert "TimeoutError" in postgres_errors.absent(TimeoutError()).message


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name of its host has no address"),
        (TimeoutError(), "it did not answer in time"),
        (ConnectionRefusedError(111, "refused"), "nothing listens at its address"),
        (ConnectionResetError(104, "reset"), "the connection was lost"),
    ],
)
def test_a_server_that_is_not_reached_says_what_is_in_the_way(error: OSError, says: str) -> None:
    translated = postgres_errors.absent(error)

    assert says in translated.message
    assert translated.retry_after_s > 0


@pytest.mark.parametrize("sqlstate", ["22000", "22003", "22021", "22P02"])
def test_a_value_that_cannot_be_stored_is_bad_input_of_its_sender(sqlstate: str) -> None:
    error = postgres_errors.explain(sqlstate, "value out of int64 range")
    assert isinstance(error, BadInput)
    assert "value out of int64 range" in error.message
