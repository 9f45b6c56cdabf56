"""A PostgreSQL client's first bytes: TLS begins only after the eight bytes of an SSLRequest."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.postgres import startup_message
from midstreamer.postgres.startup_message import Ask

TLS = struct.pack("!ii", 8, 80877103)
GSS = struct.pack("!ii", 8, 80877104)
CANCEL = struct.pack("!iiii", 16, 80877102, 1, 2)


def talk(version: int = 3 << 16) -> bytes:
    body = struct.pack("!i", version) + b"user\0midstreamer\0\0"
    return struct.pack("!i", len(body) + 4) + body


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (b"", Ask.MORE),
        (TLS[:7], Ask.MORE),
        (TLS, Ask.TLS),
        (GSS, Ask.GSS),
        (TLS + b"\0", Ask.NONSENSE),
        (TLS + talk(), Ask.NONSENSE),
        (GSS + TLS, Ask.NONSENSE),
        (struct.pack("!ii", 9, 80877103), Ask.NONSENSE),
        (CANCEL, Ask.NONSENSE),
        (talk(), Ask.TALK),
        (talk(2 << 16), Ask.TALK),
        (talk((3 << 16) + 2), Ask.TALK),
        (b"GET / HTTP/1.1\r\n", Ask.NONSENSE),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", Ask.NONSENSE),
        (b"\x16", Ask.NONSENSE),
    ],
)
def test_first_bytes_are_told_apart(head: bytes, asked: Ask) -> None:
    assert startup_message.read(head) is asked


@given(st.binary(max_size=64))
def test_no_other_bytes_lead_to_tls(head: bytes) -> None:
    assert (startup_message.read(head) is Ask.TLS) == (head == TLS)


@given(st.binary(max_size=40))
def test_a_verdict_stays_when_more_bytes_come_but_for_what_may_not_follow(more: bytes) -> None:
    assert startup_message.read(CANCEL + more) is Ask.NONSENSE
    assert startup_message.read(talk() + more) is Ask.TALK
    assert startup_message.read(TLS + b"x" + more) is Ask.NONSENSE


def test_a_refusal_reads_as_one_of_postgresqls() -> None:
    frame = startup_message.refusal("28000", "no")
    kind, length = struct.unpack_from("!ci", frame)
    assert (kind, length) == (b"E", len(frame) - 1)
    assert frame[5:] == b"SFATAL\0VFATAL\0C28000\0Mno\0\0"
