"""The first bytes of a client of PostgreSQL, before there is TLS; a core.

A client asks for TLS with eight bytes and waits for one byte of answer.  Whatever else it begins
with would be in the clear, and is refused.
"""

from __future__ import annotations

import struct
from enum import Enum

REQUEST_BYTES = 8
_TLS, _GSS, _CANCEL = 80877103, 80877104, 80877102
_FIRST_OF_TLS = 0x16
YES, NO = b"S", b"N"
"""The answers to a request for TLS, and for encryption by GSSAPI."""
INVALID_AUTHORIZATION = "28000"
STARTING = "57P03"


class Ask(Enum):
    """What a client wants first."""

    MORE = "more bytes are needed"
    TLS = "TLS"
    GSS = "encryption by GSSAPI, which is not offered"
    TALK = "to talk in the clear"
    """It waits for words of ours, and can be told that it may not."""
    NONSENSE = "something that is not PostgreSQL's protocol"
    """Also more bytes than it may send: they would be taken for words said within TLS."""


def read(head: bytes) -> Ask:
    """What the first bytes of a client, all that came, ask for."""
    if head[:1] == bytes([_FIRST_OF_TLS]):
        return Ask.NONSENSE  # TLS without asking, a new way that no answer is known to
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
    """An answer that ends a connection, as PostgreSQL would give it."""
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
    body = b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body
