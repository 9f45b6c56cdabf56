"""The QUIC carrier, with mutual TLS, on exactly one version of aioquic.

A server with aioquic does not reliably authenticate clients, and a client would check a server only
by its host name.  So this package checks certificates itself (`transport.aioquic.mutual_tls`),
tests its check at every start before it serves (`selftest`), and accepts only one version of
aioquic (`aioquic_internals`).

The cost of QUIC is per packet.  So `sockets` reads all waiting datagrams before it answers, and
`wire` packs all data written in one turn of the event loop into as few datagrams as possible.
"""

from midstreamer.transport.aioquic.carrier import QuicCarrier
from midstreamer.transport.aioquic.selftest import self_test

__all__ = ["QuicCarrier", "self_test"]
