"""Parses the first bytes of a PostgreSQL client, before TLS; pure functions.

A client asks for TLS with a request of eight bytes, and waits for an answer of one byte.  Any other
beginning would be unencrypted and is refused.
"""

from __future__ import annotations

import struct
from enum import Enum

REQUEST_BYTES = 8
"""Length of a request for TLS or for GSSAPI encryption."""
_TLS, _GSS, _CANCEL = 80877103, 80877104, 80877102
_FIRST_OF_TLS = 0x16
YES, NO = b"S", b"N"
"""Answers to a request for encryption: `YES` accepts TLS, and `NO` refuses GSSAPI."""
INVALID_AUTHORIZATION = "28000"
"""PostgreSQL's error code (SQLSTATE) for a login that is not allowed."""
STARTING = "57P03"
"""PostgreSQL's error code (SQLSTATE) for a server that is not ready yet."""


class Ask(Enum):
    """What the first bytes of a client ask for."""

    MORE = "more bytes are needed"
    TLS = "TLS"
    GSS = "encryption by GSSAPI, which is not offered"
    TALK = "to talk in the clear"
    """A login without encryption. It is refused with an error message that the client shows."""
    NONSENSE = "something that is not PostgreSQL's protocol"
    """First bytes that are neither a request for encryption nor a login.

    This includes a request for TLS with bytes after it, because these bytes would be mistaken for
    bytes sent inside TLS.
    """


def read(head: bytes) -> Ask:
    """Return what a client asks for; ``head`` holds all bytes that it has sent."""
    if head[:1] == bytes([_FIRST_OF_TLS]):
        # The client starts the TLS handshake without the request before it: not supported.
        return Ask.NONSENSE
    if len(head) < REQUEST_BYTES:
        return Ask.MORE
    length, code = struct.unpack_from("!ii", head)
    match code:
        case _ if code in (_TLS, _GSS) and length == len(head) == REQUEST_BYTES:
            return Ask.TLS if code == _TLS else Ask.GSS
        case _ if code in (_TLS, _GSS, _CANCEL):
            return Ask.NONSENSE
        case _ if code >> 16 in (2, 3):
            return Ask.TALK
    return Ask.NONSENSE


def refusal(code: str, message: str) -> bytes:
    """Return a fatal error message in PostgreSQL's protocol, with an SQLSTATE code and a text."""
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
    body = b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body
