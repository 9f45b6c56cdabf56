"""Translates PostgreSQL's error codes to errors of this project; pure.

An error becomes a StoreError that says when to retry and what to do, or BadInput if a value in the
statement is the cause.  `MEANINGS` maps the beginnings of the codes in PostgreSQL's appendix A; the
first entry that matches applies.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from midstreamer.domain.errors import BadInput, MidstreamerError, StoreError


class Meaning(NamedTuple):
    """What a group of PostgreSQL's error codes means."""

    sqlstate: str
    """Beginning of the error codes (SQLSTATE) of the group."""
    what: str
    """What has happened."""
    way_out: str
    """What the operator can do."""
    retry_after_s: float
    """Seconds after which the operation may be retried; 0 if a retry is of no use."""


MEANINGS = (
    Meaning("53100", "its disk is full", "free space on the volume of its data directory", 5.0),
    Meaning("53200", "it is out of memory", "give it memory or lower shared_buffers", 5.0),
    Meaning(
        "53300", "it has no connection left",
        "raise its max_connections or lower sync.connections", 1.0,
    ),
    Meaning("53", "it lacks a resource", "see its log", 5.0),
    Meaning("57P03", "it is starting, recovering or shutting down", "wait", 0.5),
    Meaning("57P", "it is shutting down", "wait until it is back", 0.5),
    Meaning("57014", "a statement took too long", "see its load, or raise sync.command_s", 1.0),
    Meaning("08", "the connection was lost", "wait until it is back", 0.5),
    Meaning("28", "it refused the login", "check user, password and pg_hba.conf", 5.0),
    Meaning("3D000", "there is no such database", "create it, or correct sync.dsn", 5.0),
    Meaning("42501", "our role lacks a right", "make the role the owner of the database", 5.0),
    Meaning("25006", "it is read-only", "name the primary in sync.dsn", 2.0),
    Meaning("40", "the transaction conflicts with another one", "retry", 0.05),
    Meaning("58", "its operating system failed", "see its log, disk and memory", 5.0),
    Meaning("XX", "it is damaged or has a fault", "see its log", 5.0),
)  # fmt: skip
"""The known groups of error codes. The first match applies, so "53100" must come before "53"."""

AWAY = MEANINGS[7]
"""The meaning of a lost connection, which is also used when no connection can be made."""
_OTHER = Meaning("", "it refused the statement", "see its log", 0.0)


VALUES = "22"
"""Class of error codes for a bad value. A retry with the same value fails again, so these errors
must not be retried: a single bad value would block everything queued behind it for good."""


def explain(sqlstate: str, message: str) -> MidstreamerError:
    """Return the error for an error code and message of PostgreSQL."""
    if sqlstate.startswith(VALUES):
        return BadInput(
            f"PostgreSQL cannot take a value ({sqlstate}: {message}): send a value that the type of"
            " its column can hold"
        )
    meaning = next((known for known in MEANINGS if sqlstate.startswith(known.sqlstate)), _OTHER)
    return StoreError(
        f"PostgreSQL: {meaning.what} ({sqlstate}: {message}); {meaning.way_out}",
        retry_after_s=meaning.retry_after_s,
    )


def absent(error: BaseException) -> StoreError:
    """Return the StoreError for a server to which no connection can be made or kept."""
    detail = str(error) or type(error).__name__
    match error:
        case socket.gaierror():
            cause = (
                f"the name of its host has no address ({detail}); correct sync.dsn, or check the"
                " DNS"
            )
        case TimeoutError():
            cause = (
                f"it did not answer in time ({detail}); start PostgreSQL, allow network access to"
                " it, or correct sync.dsn"
            )
        case ConnectionRefusedError():
            cause = (
                f"nothing listens at its address ({detail}); start PostgreSQL, or correct sync.dsn"
            )
        case _:
            cause = (
                f"{AWAY.what} or cannot be made ({detail}); start PostgreSQL, or correct sync.dsn"
            )
    return StoreError(f"PostgreSQL: {cause}", retry_after_s=AWAY.retry_after_s)
