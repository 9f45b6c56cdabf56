"""A firewall rule that drops UDP in the network namespace of this process.

    python -m tests.support.firewall      then `drop` or `allow` on its input, a line each

It stays, so that a rule is in within milliseconds of being asked for, and answers each line with
`done`. Nobody is told that a datagram was dropped.

The rule is one of nftables, put in by netlink, so that no package of the system is needed. Run it
in a namespace of its own alone: see `tests.support.networks`.
"""

from __future__ import annotations

import sys

from pyroute2.netlink.nfnetlink.nftsocket import Cmp, Meta, Regs
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

TABLE, CHAIN = "midstreamer-tests", "input"
INET = 1
"""Of both IP versions (NFPROTO_INET)."""
DROP, ACCEPT = 0, 1
UDP = b"\x11"


def drop_udp() -> None:
    """Drop every datagram that arrives in this namespace, over loopback too."""
    with NFTables(nfgen_family=INET) as rules:
        rules.table("add", name=TABLE)
        rules.chain("add", table=TABLE, name=CHAIN, hook="input", type="filter", policy=ACCEPT)
        load = genex("meta", {"KEY": Meta.NFT_META_L4PROTO, "DREG": Regs.NFT_REG_1})
        value = {"attrs": [("NFTA_DATA_VALUE", UDP)]}
        compare = genex("cmp", {"SREG": Regs.NFT_REG_1, "OP": Cmp.NFT_CMP_EQ, "DATA": value})
        rules.rule("add", table=TABLE, chain=CHAIN, expressions=([load, compare], verdict(DROP)))


def allow_udp() -> None:
    """Take the rule away."""
    with NFTables(nfgen_family=INET) as rules:
        rules.table("del", name=TABLE)


def main() -> None:
    """Do what each line says, until there are no more."""
    for line in sys.stdin:
        verb = line.strip()  # or `ready`, which only asks for the answer
        if verb == "drop":
            drop_udp()
        elif verb == "allow":
            allow_udp()
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
