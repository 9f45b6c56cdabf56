"""Adds a firewall rule that drops UDP in the network namespace of this process.

    python -m tests.support.firewall      then `drop` or `allow` on its input, one per line

The process keeps running, so that a rule is active within milliseconds of the request. It answers
each line with `done`. Senders get no notice that a datagram was dropped.

The rule is an nftables rule, added over netlink, so that no system package is needed. Run this only
in a separate network namespace: see `tests.support.networks`.
"""

from __future__ import annotations

import sys

from pyroute2.netlink.nfnetlink.nftsocket import Cmp, Meta, Regs
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

TABLE, CHAIN = "midstreamer-tests", "input"
INET = 1
"""Number of the protocol family NFPROTO_INET: its rules apply to both IPv4 and IPv6."""
DROP, ACCEPT = 0, 1
UDP = b"\x11"


def drop_udp() -> None:
    """Drop every datagram that arrives in this network namespace, over loopback too."""
    with NFTables(nfgen_family=INET) as rules:
        rules.table("add", name=TABLE)
        rules.chain("add", table=TABLE, name=CHAIN, hook="input", type="filter", policy=ACCEPT)
        load = genex("meta", {"KEY": Meta.NFT_META_L4PROTO, "DREG": Regs.NFT_REG_1})
        value = {"attrs": [("NFTA_DATA_VALUE", UDP)]}
        compare = genex("cmp", {"SREG": Regs.NFT_REG_1, "OP": Cmp.NFT_CMP_EQ, "DATA": value})
        rules.rule("add", table=TABLE, chain=CHAIN, expressions=([load, compare], verdict(DROP)))


def allow_udp() -> None:
    """Remove the rule that drops UDP."""
    with NFTables(nfgen_family=INET) as rules:
        rules.table("del", name=TABLE)


def main() -> None:
    """Carry out each input line until the input ends."""
    for line in sys.stdin:
        # `networks.joined` first sends the line `ready`, which changes no rule. When it has read
        # the answer `done`, it knows that this process runs.
        verb = line.strip()
        if verb == "drop":
            drop_udp()
        elif verb == "allow":
            allow_udp()
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
