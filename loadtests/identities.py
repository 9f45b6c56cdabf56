"""Identities of the users of a load test, and their certificates for a local fleet.

Each user has an identity of its own.  All identities start with `PREFIX`, so that one entry of the
allowlist admits all users and grants them the one universe that they may append to.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from midstreamer.cli import peer_credentials
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.transport.carrier import Limits
from midstreamer.transport.trust import Trust

PREFIX = "client/load-"
"""Start of the name of every user."""
STRANGER = "client/stranger"
"""Name of an identity that has a certificate but is on no allowlist; the fleet must refuse it."""
LOADER = "client/loader"
"""Name of the identity that stores the history when the load test runs in a cluster."""
TICKS = "ticks"
"""The universe that users append to."""
HISTORY = "load"
"""The universe that users search."""
FOREIGN = "foreign"
"""A universe that users may not append to."""
ENTRY = f"{PREFIX}*  universes={TICKS}"
"""The entry of the allowlist for all users."""


def user(number: int, trust_domain: str) -> Identity:
    """Return the identity of user ``number``."""
    return peer_credentials.named(f"{PREFIX}{number:05d}", trust_domain)


def sdk(trust_domain: str, worker: int = 0) -> Identity:
    """Return the identity of the SDK user of this worker: it sends requests with the SDK."""
    return peer_credentials.named(f"{PREFIX}sdk-{worker}", trust_domain)


def loader(trust_domain: str) -> Identity:
    """Return the identity that stores the history in a cluster; it may append to `HISTORY` only."""
    return peer_credentials.named(LOADER, trust_domain)


def of_worker(users: int, worker: int, workers: int, trust_domain: str) -> list[Identity]:
    """Return the identities that one worker of several needs.

    They are: the users that this worker runs, its SDK user, and the identity that the fleet must
    refuse (`STRANGER`). Each worker gets the same number of users, rounded up.
    """
    share = -(-users // workers)
    mine = [user(worker + number * workers, trust_domain) for number in range(share)]
    return [*mine, sdk(trust_domain, worker), stranger(trust_domain)]


def stranger(trust_domain: str) -> Identity:
    """Return the identity that the fleet must refuse, because it is on no allowlist."""
    return peer_credentials.named(STRANGER, trust_domain)


def make(directory: Path, users: int, trust_domain: str) -> None:
    """Issue certificates for all users, and add the users to the allowlist.

    `STRANGER` gets a certificate too, but is not added to the allowlist.  The authority in the
    folder ``directory`` signs the certificates.  A certificate that is still valid for long is
    kept.  Raise ConfigError if the folder has no authority.
    """
    everybody = [user(number, trust_domain) for number in range(users)]
    for each in (*everybody, sdk(trust_domain), stranger(trust_domain)):
        files.CertificateManager(directory, each).load_or_generate()
    path = directory / peer_credentials.ALLOWLIST
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    if ENTRY not in lines:
        files.write_allowlist(path, [*lines, ENTRY])


def trust(directory: Path, me: Identity, limits: Limits | None = None) -> Trust:
    """Return the `Trust` of a user: it holds the certificate, and whom the user trusts.

    `Trust.refresh` renews the certificate.
    """
    manager = files.CertificateManager(directory, me)
    manager.load_or_generate()
    return Trust(FileSource(manager, None), limits or Limits(), secrets.token_hex(8))
