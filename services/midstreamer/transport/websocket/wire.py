"""`WssWire`: one TCP connection as a wire of `transport.framed_link`, with TLS and WebSocket.

A WebSocket message is one byte with the stream's id, then bytes of that stream.  A long frame is
sent in many messages, which alternate with messages of the other stream, so that a short frame
never waits behind a long one.

Methods called by the event loop or by the owner never raise: any error closes the connection.  The
memory that a peer can use is limited.  Before the peer is verified, the number of all its bytes is
limited.  Later the size of a message, the unread bytes and the number of pings are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.telemetry import logs
from midstreamer.transport import close_reasons, hosts
from midstreamer.transport.address import Scheme
from midstreamer.transport.framed_link import FramedLink
from midstreamer.transport.hosts import SocketAddress
from midstreamer.transport.websocket import websocket_protocol
from midstreamer.transport.websocket.send_queue import Waiting
from midstreamer.transport.websocket.tls import HANDSHAKE_FAILED, Tls

log = logs.get(__name__)

FAILED = "this side failed"
ENDED = "the peer closed"
UNJUDGED_BYTES_MAX = 64 * 1024
"""Maximum bytes from a peer before it is verified. A handshake with a chain takes about 5 kB."""
TURN_BYTES, TURN_S = 16 * 1024, 0.005
"""Limits of reading from one connection in one turn of the event loop: bytes, seconds. To read
megabytes of small messages in one turn would delay all other links."""
SLICE_BYTES = 2 * 1024
"""Bytes to read between two checks of the clock against `TURN_S`."""
UNREAD_BYTES = 256 * 1024
"""Decrypted bytes that wait to be read, above which reading from the socket pauses."""
BUFFER_BYTES = 64 * 1024
"""Bytes in asyncio's send buffer above which this wire keeps further bytes in its own queue."""
KERNEL_BYTES = 128 * 1024
"""Unsent bytes in the kernel's buffer above which the socket accepts no more."""
PINGS_MAX = 100
"""Maximum pings of a peer in one idle timeout. Each ping is answered, so without this limit a peer
that does not read the answers could fill the memory."""
LINGER_S = 1.0
"""Seconds that a closed connection waits for the peer to close. If the socket were closed earlier,
the last messages could be lost before the peer has read them."""
CLOSE_NORMAL, CLOSE_REASON = 1000, 4000
"""Status codes of a WebSocket close frame: without a reason, and with a reason of ours."""
CLOSE_BYTES_MAX = 123
"""Maximum bytes of the text in a WebSocket close frame (RFC 6455, section 5.5)."""


class Owner(Protocol):
    """Owner of WebSocket connections. A server owns many, a dialled link owns one."""

    def secured(self, wire: WssWire) -> None:
        """Verify the peer after the TLS handshake, and refuse it if it is not admitted."""

    def established(self, wire: WssWire) -> FramedLink:
        """Return a new link for the wire. TLS and the upgrade are complete, the peer verified."""

    def ended(self, wire: WssWire, code: str, message: str) -> None:
        """Handle the end of the connection, whose socket may still be open."""

    def forgotten(self, wire: WssWire) -> None:
        """Drop all state of the wire, because its socket is closed."""


class WssWire(asyncio.Protocol):
    """Runs TLS and WebSocket for one TCP connection on the event loop."""

    scheme = Scheme.WSS

    def __init__(
        self, tls: Tls, connection: websocket_protocol.Web, owner: Owner, *, idle_s: float
    ) -> None:
        self.tls = tls
        self.link: FramedLink | None = None
        """The link of the connection. None until the peer is verified and the upgrade complete."""
        self.over = False
        """True: the connection has ended. Bytes that still arrive are dropped."""
        self.received_bytes = 0
        """Encrypted bytes received from the peer, limited until the peer is verified."""
        self.address: SocketAddress = ()
        self._web = connection
        self._owner = owner
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._heard_s = self._loop.time()
        self._judged = False
        self._closing = False
        self._unread = bytearray()
        self._reading_later = False
        self._eof = False
        self._waiting = Waiting()
        self._paused = False
        self._flush: asyncio.Handle | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._pings = 0
        self._pings_since_s = self._heard_s

    # --- Wire ---

    def write(self, stream: int, data: bytes, *, flush: bool = False) -> None:
        """Send bytes on a stream, in order: now if ``flush``, else at the end of this loop turn."""
        self._waiting.add(stream, data)
        if flush:
            self._flush_now()
        elif self._flush is None:
            self._flush = self._loop.call_soon(self._flush_now)

    def hang_up(self, code: str, message: str) -> None:
        """Close the connection, and send the reason to the peer."""
        self._end(close_reasons.coded(code, message), "", "")

    def consumed(self) -> None:
        """Do nothing: flow control depends on bytes read from the socket, not on frames taken."""

    @property
    def unsent_bytes(self) -> int:
        """Written bytes that the kernel has not taken. The kernel may hold `KERNEL_BYTES` more."""
        handed = self._transport.get_write_buffer_size() if self._transport else 0
        return self._waiting.total_bytes + handed

    @property
    def silent_s(self) -> float:
        """Seconds since bytes of the peer arrived."""
        return self._loop.time() - self._heard_s

    # --- the owner calls the following methods ---

    def begin(self) -> None:
        """Start the TLS handshake. Only the side that dialled calls this."""
        self._guarded("begin", self._begin)

    def keep_alive(self) -> None:
        """Start the keepalive, or continue it when its timer fires.

        While no bytes arrive, a ping is sent after one third and after two thirds of the idle
        timeout.  At its end the connection is closed.
        """
        self._guarded("keepalive", self._keep_alive)

    def refuse(self, status: int, refusal: MidstreamerError) -> None:
        """Refuse a client after the TLS handshake, with an HTTP response that has the reason."""
        if isinstance(self._web, ServerProtocol):
            self._web.send_response(self._web.reject(status, refusal.message))
        self._end("", "", "")

    def abandon(self, code: str, message: str) -> None:
        """Close the connection, without a reason for the peer. Our link gets code and message."""
        self._end("", code, message)

    def drop(self) -> None:
        """Close the connection and its socket at once, without waiting for the peer."""
        self._end("", "", "")
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the options of the connected socket."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - only for the type checker
        self._transport = transport
        transport.set_write_buffer_limits(BUFFER_BYTES, BUFFER_BYTES // 4)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)
        self.address = transport.get_extra_info("peername") or ("0.0.0.0", 0)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        if self.over:
            return
        self._heard_s = self._loop.time()
        self._guarded("data", self._received, data)

    def eof_received(self) -> bool:
        """Called when the peer sends no more bytes: close when all its bytes were read."""
        self._eof = True
        if self.over and self._transport is not None:
            self._transport.close()
        elif not self._unread:
            self._end("", "", ENDED)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Read the remaining bytes, end the link, and let the owner drop this wire."""
        self._transport = None
        if self._linger is not None:
            self._linger.cancel()
        while self._unread and not self.over:  # read also what arrived just before the end
            self._guarded("data", self._read_part)
        self._finish("", "the connection is gone" if exc else ENDED)
        self._owner.forgotten(self)

    def pause_writing(self) -> None:
        """Stop writing, because the socket's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write again, because the socket's buffer has room."""
        self._paused = False
        self._flush_now()

    # --- reading ---

    def _begin(self) -> None:
        self.tls.start()
        self._send_out()

    def _received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if not self._judged and self.received_bytes > UNJUDGED_BYTES_MAX:
            message = f"more than {UNJUDGED_BYTES_MAX} B before the TLS handshake was complete"
            self._end("", HANDSHAKE_FAILED, message)
            return
        try:
            self.tls.receive(data)
            if self.tls.ready and not self._judged:
                self._owner.secured(self)
                self._judged = not self.over
                if isinstance(self._web, ClientProtocol):
                    self._web.send_request(self._web.connect())
            self._send_out()
            if self._judged:
                self._decrypt()
        except Refused as refusal:
            self._send_out()  # send the alert that TLS has made for the peer
            code, message = close_reasons.read(refusal.message) or (refusal.reason, refusal.message)
            self._end("", code, message)

    def _decrypt(self) -> None:
        while data := self.tls.read():
            self._unread += data
        if self.tls.ended:
            self._eof = True
        if self._reading_later:
            self._read_later()
        else:
            self._read_part()

    def _read_on(self) -> None:
        self._reading_later = False
        if not self.over:
            self._guarded("data", self._read_part)

    def _read_part(self) -> None:
        """Read a part of the decrypted bytes; schedule later loop turns for the rest."""
        until_s = self._loop.time() + TURN_S
        for _ in range(TURN_BYTES // SLICE_BYTES):
            part = bytes(self._unread[:SLICE_BYTES])
            del self._unread[:SLICE_BYTES]
            if part:
                self._web.receive_data(part)
                self._take_events()
            if self.over:
                return
            if not self._unread or self._loop.time() > until_s:
                break
        if self._unread:
            self._read_later()
        elif self._eof:
            self._end("", "", ENDED)
        elif self._transport is not None:
            self._transport.resume_reading()

    def _read_later(self) -> None:
        if not self._reading_later and self._transport is not None:
            self._reading_later = True
            self._loop.call_soon(self._read_on)
        if len(self._unread) > UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def _take_events(self) -> None:
        for event in self._web.events_received():
            self._take(event)
            if self.over:
                return
        self._send_out()
        failure = self._web.handshake_exc or self._web.parser_exc
        if self._web.close_rcvd is not None:
            self._end("", *(close_reasons.read(self._web.close_rcvd.reason) or ("", ENDED)))
        elif failure is not None or self._web.close_expected():
            self._end("", HANDSHAKE_FAILED if self.link is None else "", str(failure or ENDED))
        elif self.link is not None:
            self.link.written()

    def _take(self, event: Event) -> None:
        match event:
            case Request() if isinstance(self._web, ServerProtocol):
                websocket_protocol.answer(self._web, event)
                if self._web.state is State.OPEN:
                    self.link = self._owner.established(self)
            case Response(status_code=101):
                self.link = self._owner.established(self)
            case Response():
                self._end("", *websocket_protocol.refusal(event))
            case Frame():
                self._message(event)

    def _message(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self._count_ping()
        elif frame.opcode in (Opcode.PONG, Opcode.CLOSE):
            return
        elif frame.opcode is not Opcode.BINARY or not frame.fin or not frame.data:
            self._end("", "", "the peer sent a WebSocket message that is not valid here")
        elif self.link is not None:
            self.link.data(frame.data[0], bytes(frame.data[1:]))

    def _count_ping(self) -> None:
        now_s = self._loop.time()
        if now_s - self._pings_since_s > self._idle_s:
            self._pings, self._pings_since_s = 0, now_s
        self._pings += 1
        if self._pings > PINGS_MAX:
            self._end("", "", f"more than {PINGS_MAX} pings within {self._idle_s:g} s")

    # --- writing ---

    def _flush_now(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._guarded("flush", self._send_streams)

    def _send_streams(self, *, all_of_it: bool = False) -> None:
        """Send waiting bytes, a chunk of each stream in turn, until the socket's buffer is full.

        With ``all_of_it``, send all, even if the buffer is full.
        """
        if self.over or self._web.state is not State.OPEN:
            return
        while self._waiting.total_bytes and (all_of_it or not self._paused):
            for message in self._waiting.turn():
                self._web.send_binary(message)
            if not all_of_it and self._waiting.total_bytes:
                self._send_out()  # if this fills the buffer, asyncio calls `pause_writing`
        self._send_out()
        if self.link is not None:
            self.link.written()

    def _send_out(self) -> None:
        """Encrypt what the WebSocket object wants to send, and write it to the socket."""
        if self._transport is None or self.over:
            return
        for data in self._web.data_to_send():
            if data and self.tls.ready:
                self.tls.write(data)
        if sealed := self.tls.take():
            self._transport.write(sealed)

    # --- timers ---

    def _keep_alive(self) -> None:
        if self.over:
            return
        left_s = self._idle_s - self.silent_s
        if left_s <= 0:
            self._end("", "", f"no bytes arrived for {self._idle_s:g} s")
            return
        if left_s <= self._idle_s * 2 / 3 and self._web.state is State.OPEN:
            self._web.send_ping(b"")
            self._send_out()
            left_s = min(left_s, self._idle_s / 3)
        else:
            left_s -= self._idle_s * 2 / 3
        self._keepalive = self._loop.call_later(max(left_s, 0.001), self.keep_alive)

    # --- ends ---

    def _guarded(self, where: str, call: object, *arguments: object) -> None:
        try:
            call(*arguments)  # type: ignore[operator]
        except Exception:
            log.exception("wire.failed", where=where)
            self._end("", "", FAILED)

    def _end(self, reason: str, code: str, message: str) -> None:
        """Close the connection. Send ``reason`` to the peer; give our link the code and message."""
        if self.over or self._closing:
            return
        self._closing = True
        try:
            self._say_goodbye(reason)
        except Exception:
            log.exception("wire.failed", where="closing")
            if self._transport is not None:
                self._transport.abort()
        self._finish(code, message)

    def _say_goodbye(self, reason: str) -> None:
        """Send waiting bytes and the reason. The socket closes when the peer has closed."""
        if self._transport is None:
            return
        if self._web.state is State.OPEN:
            self._send_streams(all_of_it=True)
            code = CLOSE_REASON if reason else CLOSE_NORMAL
            self._web.send_close(code, close_reasons.cut(reason, CLOSE_BYTES_MAX))
        self._send_out()
        self.tls.close()
        self._send_out()
        self._transport.resume_reading()
        if self._eof:
            self._transport.close()
            self._linger = self._loop.call_later(LINGER_S, self._transport.abort)
            return
        with contextlib.suppress(OSError):  # the peer may have closed already
            self._transport.write_eof()
        self._linger = self._loop.call_later(LINGER_S, self._transport.abort)

    def _finish(self, code: str, message: str) -> None:
        if self.over:
            return
        self.over = True
        for handle in (self._flush, self._keepalive):
            if handle is not None:
                handle.cancel()
        self._unread.clear()
        self._waiting.clear()
        self.tls.free()  # free memory now, because the socket may stay open a while longer
        try:
            if self.link is not None:
                self.link.lost(code, message)
            self._owner.ended(self, code, message)
        except Exception:
            log.exception("wire.failed", where="end")


def place_of(wire: WssWire) -> str:
    """Return ``host:port`` of the peer, for logs."""
    return hosts.written(wire.address)
