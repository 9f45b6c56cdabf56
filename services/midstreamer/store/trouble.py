"""What PostgreSQL's error codes mean for us: whether to try again, when, and the way out.

Pure: (sqlstate, message) to StoreError, or to BadInput where a value is to blame.  `store.postgres`
is the only caller; the codes are those of PostgreSQL's appendix A, and the first entry whose code
begins an error's code applies.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from midstreamer.domain.errors import BadInput, MidstreamerError, StoreError


class Meaning(NamedTuple):
    """One kind of trouble."""

    sqlstate: str
    what: str
    way_out: str
    retry_after_s: float


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
    Meaning("28", "it does not let us in", "check user, password and pg_hba.conf", 5.0),
    Meaning("3D000", "there is no such database", "create it, or correct sync.dsn", 5.0),
    Meaning("42501", "we lack a right", "let our role own its database", 5.0),
    Meaning("25006", "it is read-only", "name the primary in sync.dsn", 2.0),
    Meaning("40", "another transaction was in the way", "try again", 0.05),
    Meaning("58", "its system failed it", "see its log, disk and memory", 5.0),
    Meaning("XX", "it is damaged or has a fault", "see its log", 5.0),
)  # fmt: skip

AWAY = MEANINGS[7]
_OTHER = Meaning("", "it refused", "see its log", 0.0)


VALUES = "22"
"""Class of the errors about a value. Who sends it again meets the same error, so it must not be
an error that is waited out: one such value would hold up everything behind it for good."""


def explain(sqlstate: str, message: str) -> MidstreamerError:
    """The error for one that PostgreSQL reported."""
    if sqlstate.startswith(VALUES):
        return BadInput(
            f"PostgreSQL cannot take a value ({sqlstate}: {message}): send one within its range"
        )
    meaning = next((one for one in MEANINGS if sqlstate.startswith(one.sqlstate)), _OTHER)
    return StoreError(
        f"PostgreSQL: {meaning.what} ({sqlstate}: {message}); {meaning.way_out}",
        retry_after_s=meaning.retry_after_s,
    )


def absent(error: BaseException) -> StoreError:
    """The StoreError for a server that does not answer."""
    said = str(error) or type(error).__name__
    match error:
        case socket.gaierror():
            told = f"the name of its host has no address ({said}); correct sync.dsn, or see the DNS"
        case TimeoutError():
            told = (
                f"it did not answer in time ({said}); open the network to it, start it,"
                " or correct sync.dsn"
            )
        case ConnectionRefusedError():
            told = f"nothing listens at its address ({said}); start it, or correct sync.dsn"
        case _:
            told = f"{AWAY.what} or cannot be made ({said}); start it, or correct sync.dsn"
    return StoreError(f"PostgreSQL: {told}", retry_after_s=AWAY.retry_after_s)
