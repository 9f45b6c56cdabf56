"""Connections to a server through an HTTP proxy, with the method CONNECT."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from websockets.exceptions import InvalidProxy
from websockets.proxy import Proxy, get_proxy, parse_proxy, prepare_connect_request
from websockets.uri import WebSocketURI, parse_uri

from midstreamer.domain.errors import ConfigError, Unavailable

ENVIRONMENT = "environment"
"""Value of the proxy setting that means: use HTTPS_PROXY, ALL_PROXY and NO_PROXY."""
ANSWER_BYTES_MAX = 16 * 1024
"""Maximum bytes of the proxy's answer to CONNECT."""
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Way:
    """The route to a server: directly (``proxy`` is None), or through a proxy."""

    uri: WebSocketURI
    proxy: Proxy | None

    @property
    def first(self) -> str:
        """``host:port`` of the TCP connection: of the proxy if there is one, else of the server."""
        host, port = (self.uri.host, self.uri.port) if self.proxy is None else (
            self.proxy.host, self.proxy.port)  # fmt: skip
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def pass_through(self, sock: socket.socket) -> None:
        """Ask the proxy to connect this socket to the server. Raise Unavailable if it does not."""
        if self.proxy is None:
            return
        loop = asyncio.get_running_loop()
        request = prepare_connect_request(self.proxy, self.uri, None)
        await loop.sock_sendall(sock, request)
        answer = b""
        while not answer.endswith(_END):
            # Read single bytes, to take no byte after the proxy's answer: it would belong to TLS.
            part = await loop.sock_recv(sock, 1)
            if not part or len(answer) >= ANSWER_BYTES_MAX:
                raise Unavailable(
                    f"the proxy {self.first} gave no answer to CONNECT", retry_after_s=1.0
                )
            answer += part
        status = answer.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not (status[0].startswith("HTTP/1.") and status[1][:1] == "2"):
            raise Unavailable(
                f"the proxy {self.first} does not connect to {self.uri.host}:{self.uri.port}:"
                f" it answered {' '.join(status)[:200]!r}",
                retry_after_s=1.0,
            )


def way_to(address: str, setting: str) -> Way:
    """Return the route to ``host:port`` by the proxy setting. Raise ConfigError if it is wrong."""
    uri = parse_uri(f"wss://{address}/")
    found = get_proxy(uri) if setting == ENVIRONMENT else setting
    if not found:
        return Way(uri, None)
    try:
        proxy = parse_proxy(found)
    except InvalidProxy as error:
        # The setting may hold a password, so neither message nor cause shows it.
        raise ConfigError(f"the proxy setting is not http://<host>:<port>: {error.msg}") from None
    except ValueError:
        raise ConfigError(
            "the proxy setting is not http://<host>:<port>: its port is no number"
        ) from None
    if proxy.scheme != "http":
        raise ConfigError(
            f"a {proxy.scheme}:// proxy is not supported: use one with http://<host>:<port>"
        )
    return Way(uri, proxy)
