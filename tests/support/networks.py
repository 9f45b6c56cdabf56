"""Two networks of a test's own, joined by a cable, with a firewall in each that can drop UDP.

A module that needs them runs in a process of its own: `own` gives the words that start it in a
network namespace without anything in it, and there `joined` makes the second namespace.  Neither
has a name: a namespace ends with the last process in it, so nothing is left behind, whatever
happens.  The machine's own network is never touched.

What it takes are `unshare` and `nsenter` of util-linux, `ip` of iproute2, and root or a kernel that
lets people have user namespaces. The rules are put in by `tests.support.firewall`.
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
"""Addresses of the two, in a network that no other can reach."""
PREFIX = "/30"
CABLE_HERE, CABLE_THERE = "cable-here", "cable-there"
COMMANDS = ("unshare", "nsenter", "ip", "cat")
OUTSIDE = "TEST_NETWORK_OUTSIDE"
"""Names the network that a process was started from, so that it knows that it left it."""


def why_not() -> str:
    """Why a plain user can have no namespace here; empty for root, who must have it."""
    if os.geteuid() == 0:
        return ""
    if missing := [name for name in COMMANDS if shutil.which(name) is None]:
        return f"not root, and missing here: {', '.join(missing)}"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return f"not root, and {tried.stderr.strip()}" if tried.returncode else ""


def own(*words: str) -> tuple[list[str], dict[str, str]]:
    """Words and environment to run a command with in a network namespace of its own."""
    return [*_unshare(), *words], {**os.environ, OUTSIDE: _current()}


def _unshare() -> list[str]:
    if os.geteuid() == 0:
        return ["unshare", "--net", "--"]
    # Not mapped to root: PostgreSQL does not run as root.
    return ["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--"]


@dataclass
class Joined:
    """This process's network and one beside it; `HERE` and `THERE` reach each other."""

    holder: int
    """Id of the process that keeps the other one alive."""
    firewalls: list[subprocess.Popen[str]] = field(default_factory=list)
    """One in each network."""

    def there(self, *words: str) -> list[str]:
        """Words that run a command in the other network."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *words]

    def drop_udp(self) -> None:
        """Drop every datagram that arrives in either network, over loopback too."""
        self._firewall("drop")

    def allow_udp(self) -> None:
        """Let datagrams through again."""
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
    """The second network, joined to this process's; RuntimeError in one that is not its own."""
    require_own()
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:  # fmt: skip
        # `cat` ends when this process does, however: its input is closed then.
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"are you there\n")
        holder.stdin.flush()
        if not holder.stdout.readline():
            raise RuntimeError("`unshare --net` gave no second network")
        made = Joined(holder.pid)
        _join(made)
        with contextlib.ExitStack() as stack:
            words = [sys.executable, "-m", firewall.__name__]
            for each in (words, made.there(*words)):
                process = subprocess.Popen(
                    each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                made.firewalls.append(stack.enter_context(process))
            made._firewall("ready")
            yield made
        holder.stdin.close()


def _join(made: Joined) -> None:
    pid = str(made.holder)
    _run("ip", "link", "add", CABLE_HERE, "type", "veth", "peer", "name", CABLE_THERE, "netns", pid)
    for before, device, address in (
        ([], CABLE_HERE, HERE),
        (made.there(), CABLE_THERE, THERE),
    ):
        _run(*before, "ip", "addr", "add", address + PREFIX, "dev", device)
        for each in (device, "lo"):
            _run(*before, "ip", "link", "set", each, "up")


def require_own() -> None:
    """Raise when this process is not in a network of its own."""
    outside = os.environ.get(OUTSIDE)
    if not outside or outside == _current():
        raise RuntimeError("this process is not in a network of its own: start it as `own` says")


def _run(*words: str) -> None:
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"`{' '.join(words)}` ended with {ended.returncode}: {ended.stderr}")


def _current() -> str:
    return str(Path("/proc/self/ns/net").readlink())
