"""A process that runs the gevent links of `loadtests`, so that asyncio tests can use them.

``python -m tests.support.gevent_process SOCKET`` listens on a Unix socket. Each connection sends
one line of JSON and gets one line of JSON. Only this process loads gevent, not the test process.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import gevent.socket
from gevent.server import StreamServer

from loadtests.gevent_link import GeventLink, dial
from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.files import AllowlistFile, CertificateManager
from midstreamer.transport.carrier import Limits
from midstreamer.transport.trust import Trust

LINKS: dict[int, GeventLink] = {}
NUMBERS = itertools.count()


def dialled(asked: dict[str, Any]) -> dict[str, Any]:
    directory = Path(asked["directory"])
    me = identity.make(asked["domain"], Kind(asked["kind"]), asked["id"])
    manager = CertificateManager(directory, me)
    manager.load_or_generate()
    source = FileSource(manager, AllowlistFile(directory / "allowlist"))
    trust = Trust(source, Limits(**asked["limits"]), secrets.token_hex(8))
    link = dial(trust, asked["address"], expect=Kind(asked["expect"]))
    number = next(NUMBERS)
    LINKS[number] = link
    return {"link": number, "peer": [link.peer.trust_domain, link.peer.kind, link.peer.id]}


def done(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["do"] == "dial":
        return dialled(asked)
    link = LINKS[asked["link"]]
    match asked["do"]:
        case "send":
            link.send(codec.decode(base64.b64decode(asked["frame"])), bulk=asked["bulk"])
        case "receive":
            body = codec.encode(link.receive(), frame_bytes_max=16 * 1024 * 1024)
            return {"frame": base64.b64encode(body[codec.HEAD_BYTES :]).decode()}
        case "drained":
            link.drained()
        case "close":
            link.close(asked["code"], asked["message"])
    return {}


def attend(connection: gevent.socket.socket, _address: object) -> None:
    with connection, connection.makefile("rw", encoding="utf-8") as lines:
        line = lines.readline()
        if not line:
            return
        try:
            answer = done(json.loads(line))
        except MidstreamerError as error:
            answer = {
                "error": type(error).__name__,
                "message": error.message,
                "retry_after_s": error.retry_after_s,
                "reason": error.reason if isinstance(error, Refused) else "",
            }
        lines.write(json.dumps(answer) + "\n")
        lines.flush()


if __name__ == "__main__":
    listening = gevent.socket.socket(gevent.socket.AF_UNIX, gevent.socket.SOCK_STREAM)
    listening.bind(sys.argv[1])
    listening.listen(64)
    StreamServer(listening, attend).serve_forever()
