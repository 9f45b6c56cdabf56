"""QUIC with mutual TLS, on aioquic of exactly one version.

aioquic has no client authentication on the server side that holds, and would check a server by
its host name; so identity is enforced here (`enforcement`), tested at every start before anything
is served (`selftest`), and the library is pinned (`internals`).  The cost of QUIC is per packet:
`sockets` drains what has come before anything is answered, `wire` packs what was said in one
turn of the loop into as few datagrams as it can.
"""

from midstreamer.transport.aioquic.carrier import QuicCarrier
from midstreamer.transport.aioquic.selftest import self_test

__all__ = ["QuicCarrier", "self_test"]
