"""Try which ports can be reached from the place where this script runs.

    python port_probe.py '[["tcp", "198.18.0.5", 5432], ["quic", "198.18.0.6", 7400]]'

The script prints a list of true and false.  It uses only the standard library, so that any pod with
Python can run its text.  Any response means that the port is reached, even a refused connection;
when a NetworkPolicy drops the packets, no response comes.

    tcp    try to connect
    quic   send a packet of an unknown QUIC version; a server answers with its versions (RFC 9000,
           section 6.1)
    dns    send a DNS query over UDP
"""

from __future__ import annotations

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

WAIT_S = 0.6
TRIES = 3
QUIC_BYTES_MIN = 1200
"""The least size of the QUIC packet in bytes; a server does not answer a shorter one."""
QUESTION = bytes.fromhex("2a2a01000001000000000000") + b"\x0akubernetes\x00\x00\x01\x00\x01"


def reached(kind: str, address: str, port: int) -> bool:
    """Whether any response comes from the port; `kind` is tcp, quic or dns."""
    try:
        if kind == "tcp":
            with socket.create_connection((address, port), timeout=WAIT_S * TRIES):
                return True
        return _answered(address, port, QUESTION if kind == "dns" else _unknown_version())
    except ConnectionRefusedError:
        return True
    except OSError:  # a timeout, or no route to the address
        return False


def _answered(address: str, port: int, packet: bytes) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        asking.settimeout(WAIT_S)
        for _ in range(TRIES):
            asking.send(packet)
            try:
                return bool(asking.recv(2048))
            except TimeoutError:
                continue
    return False


def _unknown_version() -> bytes:
    ids = b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    return (b"\xc0\x1a\x2a\x3a\x4a" + ids).ljust(QUIC_BYTES_MIN, b"\0")


def main() -> None:
    """Try all ports of the argument at the same time and print the results."""
    ways = json.loads(sys.argv[1])
    with ThreadPoolExecutor(len(ways) or 1) as trying:
        print(json.dumps(list(trying.map(lambda way: reached(*way), ways))))  # noqa: T201


if __name__ == "__main__":
    main()
