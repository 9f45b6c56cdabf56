"""The fuzz targets: each accepts any bytes and may fail only with a named error.

A target is a function of bytes. It returns when the code under test accepted the bytes or refused
them with a named error (`MidstreamerError`). Any other exception, a hang, or a broken invariant (an
`AssertionError` of the target) is a failure. No target keeps state that changes the effect of the
next input, so a single file replays a failure.

``seeds`` are valid inputs, from which the fuzzer makes other inputs. Without seeds the fuzzer would
spend its time on the first bytes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midstreamer.cli.run_settings import RunSettings
from midstreamer.coordinator import request_checks
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError, RemoteProtocolError
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column, Window, qualified
from midstreamer.domain.specification import Specification
from midstreamer.market import feeds
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import Connection, Side, State
from midstreamer.protocol.connection_effects import Finish
from midstreamer.runtime import config
from midstreamer.security import allowlist
from midstreamer.store import dsn
from midstreamer.sync import write_planning
from midstreamer.sync.config import SyncSettings

FRAME_BYTES_MAX = 64 * 1024
"""Maximum frame size in bytes: so small that inputs of the fuzzer exceed it."""


class Target(NamedTuple):
    """One fuzz target."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    inputs: int
    """Number of inputs in a full run; the numbers of all targets add up to ten million."""


# --- frames -------------------------------------------------------------------------------------


def example_frames() -> list[frames.Frame]:
    """Return example frames of many types that a peer may send, for the seeds."""
    times = np.arange(8, dtype="<i8")
    column = Column("a/b", times.tobytes(), times.astype("<f8").tobytes())
    window = Window("a/b", 7, times.astype("<f8").tobytes())
    wanted = Specification("a", window=8, horizon=1, neighbours=3, grid=1)
    return [
        frames.AgentHandshake("u1", "client", 1, "i"),
        frames.CoordinatorAck("c1", frames.AssignedStreams(0, 4)),
        frames.Refusal("expired", "yesterday"),
        frames.Survey(request=3, budget_s=0.5),
        frames.Failure(request=3, code="behind", message="5 < 9", retry_after_s=0.1),
        frames.Append(request=1, columns=(column,)),
        frames.Match(request=2, specification=wanted, windows=(window,)),
        frames.Lookup(request=4, experience_ids=(b"0" * 16,)),
        frames.Tail(request=5, after=-1),
        frames.Write(request=6, sequence=1, columns=(column,)),
        frames.Load(request=7, runs=(frames.Run("a/b", 0, 8),)),
        frames.Recall(request=9, stream="a"),
        frames.Renew(request=8, member=frames.Member("client/u1", "i", "")),
    ]


def _encoded_frames() -> list[bytes]:
    return [codec.encode(frame) for frame in example_frames()]


def decode_frame(data: bytes) -> None:
    """Any body gives a frame that encodes and decodes again, or is refused with a named error."""
    try:
        frame = codec.decode(data)
    except RemoteProtocolError:
        return
    with contextlib.suppress(MidstreamerError):
        again = codec.decode(codec.encode(frame)[codec.HEAD_BYTES :])
        assert type(again) is type(frame)


def judge_request(data: bytes) -> None:
    """The contents of a decoded request are accepted, or refused with a named error."""
    with contextlib.suppress(MidstreamerError):
        frame = codec.decode(data)
        if isinstance(frame, frames.Append):
            request_checks.check_append(frame)
        elif isinstance(frame, frames.Match):
            request_checks.check_match(frame)
        elif isinstance(frame, frames.Write):
            write_planning.check_write(frame)


def drive_connection(data: bytes) -> None:
    """State machines of both sides accept any bytes on any stream, in pieces of any size."""
    if len(data) < 3:
        return
    side = Side.ACCEPTED if data[0] & 1 else Side.DIALLED
    me = identity.make("local", Kind.COORDINATOR, "c1")
    peer = identity.make("local", Kind.CLIENT, "u1")
    machine = Connection(side, me=me, peer=peer, frame_bytes_max=FRAME_BYTES_MAX)
    machine.start(0.0)
    # With this bit, a valid handshake comes first, because hardly any input contains one.
    if data[0] & 2:
        for frame in example_frames()[:2]:
            machine.receive(0, codec.encode(frame))
    piece, at, now_s = data[1] + 1, 2, 0.0
    while at < len(data):
        stream = (0, 4, 4, 0, 8, 1)[data[at] % 6]
        effects = machine.receive(stream, data[at + 1 : at + 1 + piece])
        finished = [effect for effect in effects if isinstance(effect, Finish)]
        assert len(finished) <= 1
        assert not finished or machine.state is State.CLOSED
        at += 1 + piece
        now_s += 0.5
        wakeup_s = machine.next_wakeup_s()
        if wakeup_s is not None and wakeup_s <= now_s:
            machine.tick(now_s)


def _conversations() -> list[bytes]:
    streams = b"".join(_encoded_frames())
    pieces = [bytes([0]) + streams[at : at + 256] for at in range(0, len(streams), 256)]
    return [bytes([flags, 255]) + b"".join(pieces) for flags in (0, 1, 2, 3)]


# --- text from users -----------------------------------------------------------------------------


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def read_dsn(data: bytes) -> None:
    """A DSN is accepted, or refused with a message that does not contain its password."""
    with contextlib.suppress(MidstreamerError):
        dsn.checked(_text(data), {})


def read_names(data: bytes) -> None:
    """Any text is read as a series name, as an identity and as an allowlist.

    Each reader accepts the text or refuses it with a named error.
    """
    text = _text(data)
    for read in (qualified, identity.parse, allowlist.parse):
        with contextlib.suppress(MidstreamerError):
            read(text)


def read_csv(data: bytes) -> None:
    """Any bytes in a .csv file give a table, or the file is refused with a named error."""
    _read_feed(data, ".csv")


def read_parquet(data: bytes) -> None:
    """Any bytes in a .parquet file give a table, or the file is refused with a named error."""
    _read_feed(data, ".parquet")


def _read_feed(data: bytes, ending: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=ending, dir=_memory()) as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(MidstreamerError):
            table = feeds.read(Path(file.name))
            assert np.isfinite(table.value).all()
            assert (np.diff(table.time) >= 0).all()


def read_settings(data: bytes) -> None:
    """Any configuration file gives settings, or an error that names the mistake."""
    with tempfile.NamedTemporaryFile(suffix=".toml", dir=_memory()) as file:
        file.write(data)
        file.flush()
        for kind in (SyncSettings, CoordinatorSettings, RunSettings):
            with contextlib.suppress(MidstreamerError):
                config.show(config.load(kind, config_file=Path(file.name), environ={}))


def _memory() -> str | None:
    """Return a folder in memory, because ten thousand files a second are too many for a disk.

    Without such a folder return None, which means the system's folder for temporary files.
    """
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _dsns() -> list[bytes]:
    return [
        b"postgresql://user:secret@db.example/stock?sslmode=verify-full",
        b"postgres:///stock?host=/run/postgresql&port=5432",
        b"postgresql://u@[::1]:5432,db.example:1/d?connect_timeout=3",
        b"host=db.example user=u password='a b' dbname=d sslmode=verify-full",
    ]


def _names() -> list[bytes]:
    return [
        b"stocks/^GSPC",
        b"spiffe://midstreamer.local/agent/ns/pod-1/0a1b2c3d-0000-4000-8000-000000000000",
        b"coordinator/c1\nagent/a*   # every one\nclient/*\n",
    ]


def _csvs() -> list[bytes]:
    return [
        b"time,series,value\n2020-01-01T00:00:00Z,a/b,1.5\n1577923200000000,a/b,2\n",
        b"\xef\xbb\xbftime,series,value\r\n2020-01-01,a,1e3\r\n2020-01-02,a,-0.0\r\n",
    ]


def _parquets() -> list[bytes]:
    import pyarrow as arrow
    import pyarrow.parquet as files

    contents = []
    for times in ([1, 2], ["2020-01-01", "2020-01-02"]):
        cells = {"time": times, "series": ["a", "a"], "value": [1.0, 2.0]}
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            files.write_table(arrow.table(cells), file.name, compression="NONE")
            contents.append(Path(file.name).read_bytes())
    return contents


def _settings() -> list[bytes]:
    return [
        b'[sync]\ndsn = "postgresql://u:p@h/d?sslmode=verify-full"\nlease_s = 3.0\n',
        b'[coordinator]\nlisten = "127.0.0.1:0"\n[coordinator.limits]\nin_flight_max = 4\n',
        b'[telemetry]\nlevel = "info"\n[limits]\nframe_bytes_max = 4096\n[run]\n',
    ]


def _bodies() -> list[bytes]:
    """Return valid frame bodies, and a body whose unknown field is nested 3,000 levels deep."""
    nested = b"\x82\xa5frame\xa6Survey\xa1x" + b"\x91" * 3000 + b"\xc0"
    return [*(frame[codec.HEAD_BYTES :] for frame in _encoded_frames()), nested]


def all_targets() -> dict[str, Target]:
    """Return all targets by name, also those of the modules `quic` and `websocket`."""
    from tests.fuzz import quic, websocket  # imported late: importing `quic` makes certificates

    return {
        "codec": Target(decode_frame, _bodies, 3_000_000),
        "request": Target(judge_request, _bodies, 1_500_000),
        "connection": Target(drive_connection, _conversations, 1_500_000),
        "packet": Target(quic.take_packet, quic.packet_seeds, 150_000),
        "handshake": Target(quic.take_handshake, quic.handshake_seeds, 100_000),
        "certificate": Target(quic.take_certificate, quic.certificate_seeds, 400_000),
        "websocket": Target(websocket.read_words, websocket.conversations, 200_000),
        "dsn": Target(read_dsn, _dsns, 1_500_000),
        "names": Target(read_names, _names, 1_250_000),
        "csv": Target(read_csv, _csvs, 300_000),
        "parquet": Target(read_parquet, _parquets, 150_000),
        "toml": Target(read_settings, _settings, 150_000),
    }
