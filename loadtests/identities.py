"""Identities of the users of a load test: who they are, and their certificates on a laptop.

Each user has an identity of its own below one prefix, so that one line of the allowlist lets all
in, with the one universe that they may append to.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from midstreamer.cli import identities
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.file_source import FileSource
from midstreamer.transport.carrier import Limits
from midstreamer.transport.trust import Trust

PREFIX = "client/load-"
STRANGER = "client/stranger"
"""Certified, and on no list."""
LOADER = "client/loader"
TICKS = "ticks"
"""The universe that users append to."""
HISTORY = "load"
"""The universe that they search."""
FOREIGN = "foreign"
"""One that they may not append to."""
ENTRY = f"{PREFIX}*  universes={TICKS}"


def user(number: int, trust_domain: str) -> Identity:
    """Who user ``number`` is."""
    return identities.named(f"{PREFIX}{number:05d}", trust_domain)


def sdk(trust_domain: str, worker: int = 0) -> Identity:
    """Who asks by the SDK beside a worker."""
    return identities.named(f"{PREFIX}sdk-{worker}", trust_domain)


def loader(trust_domain: str) -> Identity:
    """Who stores the history in a cluster; it may append to that universe alone."""
    return identities.named(LOADER, trust_domain)


def of_worker(users: int, worker: int, workers: int, trust_domain: str) -> list[Identity]:
    """Everybody that one of several workers is: as many users as it may be given, and others."""
    share = -(-users // workers)
    mine = [user(worker + number * workers, trust_domain) for number in range(share)]
    return [*mine, sdk(trust_domain, worker), stranger(trust_domain)]


def stranger(trust_domain: str) -> Identity:
    """Who is to be refused."""
    return identities.named(STRANGER, trust_domain)


def make(directory: Path, users: int, trust_domain: str) -> None:
    """Certify all users from the authority in a folder, and let them in. ConfigError: it has none.

    Those that have a certificate which is good for long keep it.
    """
    everybody = [user(number, trust_domain) for number in range(users)]
    for each in (*everybody, sdk(trust_domain), stranger(trust_domain)):
        files.CertificateManager(directory, each).load_or_generate()
    path = directory / identities.ALLOWLIST
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    if ENTRY not in lines:
        files.write_allowlist(path, [*lines, ENTRY])


def trust(directory: Path, me: Identity, limits: Limits | None = None) -> Trust:
    """What a user shows and trusts; its certificate is renewed when it is due, by `refresh`."""
    manager = files.CertificateManager(directory, me)
    manager.load_or_generate()
    return Trust(FileSource(manager, None), limits or Limits(), secrets.token_hex(8))
