"""Every error of PostgreSQL says whether to try again, and the way out."""

from __future__ import annotations

import pytest

from midstreamer.store import trouble


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
        ("40P01", "try again"),
    ],
)
def test_a_code_is_explained_with_a_way_out(sqlstate: str, says: str) -> None:
    error = trouble.explain(sqlstate, "the server's words")
    assert says in error.message
    assert "the server's words" in error.message
    assert error.retry_after_s > 0


def test_an_unforeseen_code_is_not_worth_another_try() -> None:
    error = trouble.explain("23505", "duplicate key")
    assert error.retry_after_s == 0
    assert "23505: duplicate key" in error.message


def test_a_server_that_is_not_there_says_how_to_reach_one() -> None:
    assert "sync.dsn" in trouble.absent(ConnectionRefusedError("refused")).message
    assert "TimeoutError" in trouble.absent(TimeoutError()).message
