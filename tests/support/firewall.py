"""A network namespace of this process's own, and a firewall rule in it that drops UDP.

The namespace ends with the process: nothing is left behind, whatever happens.  The rule is one of
nftables, put in by netlink, so that no package of the system is needed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.nfnetlink.nftsocket import Cmp, Meta, Regs
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

TABLE, CHAIN = "midstreamer-tests", "input"
INET = 1
"""Of both IP versions (NFPROTO_INET)."""
DROP, ACCEPT = 0, 1
UDP = b"\x11"
_STARTED_IN = "MIDSTREAMER_TEST_STARTED_IN"


def may_have_namespace() -> str:
    """Why this process cannot have a network namespace of its own; empty when it can."""
    if os.geteuid() != 0:
        return "a network namespace of one's own needs root"
    return "" if shutil.which("unshare") else "`unshare` is missing: install util-linux"


def move_into_namespace(module: str) -> None:
    """Begin again as ``python -m module`` in a namespace of its own, unless this is it already."""
    if _is_own():
        with IPRoute() as route:
            route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")
        return
    if reason := may_have_namespace():
        sys.exit(reason)
    if os.environ.get(_STARTED_IN):
        sys.exit("`unshare --net` gave no namespace of its own")
    words = ("unshare", "--net", "--", sys.executable, "-m", module, *sys.argv[1:])
    os.execvpe("unshare", words, os.environ | {_STARTED_IN: _here()})


def drop_udp() -> None:
    """Drop every datagram that arrives in this namespace; nobody is told."""
    _require_own()
    with NFTables(nfgen_family=INET) as rules:
        rules.table("add", name=TABLE)
        rules.chain("add", table=TABLE, name=CHAIN, hook="input", type="filter", policy=ACCEPT)
        load = genex("meta", {"KEY": Meta.NFT_META_L4PROTO, "DREG": Regs.NFT_REG_1})
        value = {"attrs": [("NFTA_DATA_VALUE", UDP)]}
        compare = genex("cmp", {"SREG": Regs.NFT_REG_1, "OP": Cmp.NFT_CMP_EQ, "DATA": value})
        rules.rule("add", table=TABLE, chain=CHAIN, expressions=([load, compare], verdict(DROP)))


def allow_udp() -> None:
    """Take the rule away."""
    _require_own()
    with NFTables(nfgen_family=INET) as rules:
        rules.table("del", name=TABLE)


def _here() -> str:
    return str(Path("/proc/self/ns/net").readlink())


def _is_own() -> bool:
    """Whether this process began again in another namespace than it was started in."""
    return os.environ.get(_STARTED_IN, _here()) != _here()


def _require_own() -> None:
    if not _is_own():
        raise RuntimeError("this is the machine's own network namespace: it is left alone")
