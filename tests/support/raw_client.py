"""Clients that say what ours never would: plain aioquic, driven by the test."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is re-exported all the same
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStreamSender

from midstreamer.protocol import codec, frames
from midstreamer.security.files import Credentials
from midstreamer.transport.aioquic import enforcement
from midstreamer.transport.carrier import Limits

NESTED = (
    b"\x84\xa5frame\xa7Refusal\xa4code\xa1a\xa7message\xa1b\xa4hint" + b"\x91" * 100_000 + b"\xc0"
)
"""A frame that would be in order without the unknown field, in which lists are nested."""


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def displace(sender: QuicStreamSender, offset: int, data: bytes = b"x") -> None:
    """Have a stream send these bytes at this offset, and nothing before them."""
    sender._buffer[:] = data
    sender._buffer_start, sender._buffer_stop = offset, offset + len(data)
    sender._pending = RangeSet([range(offset, offset + len(data))])
    sender.highest_offset = offset
    sender.buffer_is_empty = False


class RawClient:
    """One QUIC connection to a server, on a socket of its own."""

    def __init__(
        self,
        address: str,
        holder: Credentials | None = None,
        *,
        udp_payload_max: int | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.quic = QuicConnection(
            configuration=enforcement.configuration(holder, Limits(idle_s=20.0), is_client=True)
        )
        if udp_payload_max is not None:
            self._announce(udp_payload_max)
        self.received: dict[int, bytes] = {}
        self.established = False
        self.end: events.ConnectionTerminated | None = None
        self.largest_datagram = 0
        self._place = (host, int(port))
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(self._place)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def connect(self) -> RawClient:
        """Begin; what is sent first may still be changed before `flush`."""
        self.quic.connect(self._place, now=time.monotonic())
        return self

    async def open(self, handshake: frames.AgentHandshake) -> RawClient:
        """Go through both handshakes."""
        self.connect().flush()
        await self.until(lambda: self.established)
        self.say(codec.encode(handshake))
        await self.until(lambda: bool(self.received.get(0)))
        return self

    def say(self, data: bytes, stream: int = 0) -> None:
        """Send bytes on a stream."""
        self.quic.send_stream_data(stream, data)
        self.flush()

    async def until(self, done: Callable[[], bool], *, within_s: float = 5.0) -> None:
        """Wait for something that packets bring."""
        async with asyncio.timeout(within_s):
            while not done():  # noqa: ASYNC110 - what comes is noted by a callback
                await asyncio.sleep(0.002)

    async def ended(self, *, within_s: float = 5.0) -> events.ConnectionTerminated:
        """Why the server closed."""
        await self.until(lambda: self.quic._close_event is not None, within_s=within_s)
        assert self.quic._close_event is not None
        return self.quic._close_event

    def flush(self) -> None:
        """Send what is to be sent."""
        now = time.monotonic()
        for data, _ in self.quic.datagrams_to_send(now=now):
            if self._socket.fileno() >= 0:
                self._socket.send(data)
        if self._timer is not None:
            self._timer.cancel()
        due = self.quic.get_timer()
        if due is not None and self._socket.fileno() >= 0:
            self._timer = self._loop.call_later(max(0.0, due - now), self._timer_fired)

    def leave(self) -> None:
        """Go without a word."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        try:
            while True:
                data = self._socket.recv(65_536)
                self.largest_datagram = max(self.largest_datagram, len(data))
                self.quic.receive_datagram(data, self._place, now=time.monotonic())
                self._take_events()
        except BlockingIOError:
            self.flush()
        except ConnectionRefusedError:
            self.leave()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.HandshakeCompleted():
                    self.established = True
                case events.StreamDataReceived(data, _, stream):
                    self.received[stream] = self.received.get(stream, b"") + data
                case events.ConnectionTerminated():
                    self.end = event

    def _timer_fired(self) -> None:
        self.quic.handle_timer(now=time.monotonic())
        self._take_events()
        self.flush()

    def _announce(self, udp_payload_max: int) -> None:
        serialize = self.quic._serialize_transport_parameters

        def serialized() -> bytes:
            parameters = pull_quic_transport_parameters(Buffer(data=serialize()))
            parameters.max_udp_payload_size = udp_payload_max
            buffer = Buffer(capacity=4096)
            push_quic_transport_parameters(buffer, parameters)
            return buffer.data

        self.quic._serialize_transport_parameters = serialized  # type: ignore[method-assign]
