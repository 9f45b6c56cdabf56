"""Makes two network namespaces, joined by a veth pair, with a firewall in each that can drop UDP.

A module that needs both networks runs in its own process: `own` returns the command that starts the
process in an empty network namespace, and there `joined` makes the second namespace. The namespaces
have no names, so each ends with its last process, and nothing is left behind. The machine's own
network is never changed.

The module needs `unshare` and `nsenter` of util-linux, `ip` of iproute2, and either root or a
kernel that lets users create namespaces. `tests.support.firewall` adds the rules.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import firewall

HERE, THERE = "10.231.8.1", "10.231.8.2"
"""Addresses of the two ends of the veth pair, in a network that nothing else can reach."""
PREFIX = "/30"
CABLE_HERE, CABLE_THERE = "cable-here", "cable-there"
COMMANDS = ("unshare", "nsenter", "ip", "cat")
OUTSIDE = "TEST_NETWORK_OUTSIDE"
"""Environment variable that holds the network namespace of the process that called `own`."""


def why_not() -> str:
    """Return why this user cannot create a network namespace; empty if possible, as for root."""
    if os.geteuid() == 0:
        return ""
    if missing := [name for name in COMMANDS if shutil.which(name) is None]:
        return f"not root, and missing here: {', '.join(missing)}"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return f"not root, and {tried.stderr.strip()}" if tried.returncode else ""


def own(*words: str) -> tuple[list[str], dict[str, str]]:
    """Return a command line and an environment that run ``words`` in a new network namespace."""
    return [*_unshare(), *words], {**os.environ, OUTSIDE: _current()}


def _unshare() -> list[str]:
    if os.geteuid() == 0:
        return ["unshare", "--net", "--"]
    # The user must not become root in the namespace: PostgreSQL refuses to run as root.
    return ["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--"]


@dataclass
class Joined:
    """Two joined networks: this process's own, at `HERE`, and a second one, at `THERE`."""

    holder: int
    """Id of the process that keeps the second network alive."""
    firewalls: list[subprocess.Popen[str]] = field(default_factory=list)
    """The processes that change the firewall, one in each of the two networks."""

    def there(self, *words: str) -> list[str]:
        """Return a command line that runs ``words`` in the second network."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *words]

    def drop_udp(self) -> None:
        """Drop every datagram that arrives in either network, over loopback too."""
        self._firewall("drop")

    def allow_udp(self) -> None:
        """Accept datagrams again in both networks."""
        self._firewall("allow")

    def _firewall(self, verb: str) -> None:
        for each in self.firewalls:
            assert each.stdin is not None
            each.stdin.write(f"{verb}\n")
            each.stdin.flush()
        for each in self.firewalls:
            assert each.stdout is not None
            if each.stdout.readline() != "done\n":
                raise RuntimeError(f"the firewall could not {verb} UDP: its error is above")


@contextmanager
def joined() -> Iterator[Joined]:
    """Join a second network to this process's own network.

    Raise RuntimeError when this process was not started with the command of `own`.
    """
    require_own()
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:  # fmt: skip
        # `cat` keeps the second network alive. It ends when this process closes its input or ends.
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"are you there\n")
        holder.stdin.flush()
        if not holder.stdout.readline():
            raise RuntimeError("`unshare --net` gave no second network")
        network = Joined(holder.pid)
        _join(network)
        with contextlib.ExitStack() as stack:
            words = [sys.executable, "-m", firewall.__name__]
            for each in (words, network.there(*words)):
                process = subprocess.Popen(
                    each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                network.firewalls.append(stack.enter_context(process))
            network._firewall("ready")
            yield network
        holder.stdin.close()


def _join(network: Joined) -> None:
    pid = str(network.holder)
    _run("ip", "link", "add", CABLE_HERE, "type", "veth", "peer", "name", CABLE_THERE, "netns", pid)
    for before, device, address in (
        ([], CABLE_HERE, HERE),
        (network.there(), CABLE_THERE, THERE),
    ):
        _run(*before, "ip", "addr", "add", address + PREFIX, "dev", device)
        for each in (device, "lo"):
            _run(*before, "ip", "link", "set", each, "up")


def require_own() -> None:
    """Raise RuntimeError when this process does not run in a network namespace of its own."""
    outside = os.environ.get(OUTSIDE)
    if not outside or outside == _current():
        raise RuntimeError(
            "this process has no network of its own: start it with the command that `own` returns"
        )


def _run(*words: str) -> None:
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"`{' '.join(words)}` ended with {ended.returncode}: {ended.stderr}")


def _current() -> str:
    return str(Path("/proc/self/ns/net").readlink())
