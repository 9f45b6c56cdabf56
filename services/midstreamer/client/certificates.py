"""Find the certificate of a client in a folder, and build the carrier that uses it."""

from __future__ import annotations

from pathlib import Path

from midstreamer.domain import identity
from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import files
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.transport import carriers
from midstreamer.transport.carrier import Carrier, Limits


def carrier(
    directory: Path, name: str = "", limits: Limits | None = None, *, proxy: str = ""
) -> Carrier:
    """Return a carrier for the identity ``name``, which is ``client/<id>`` or ``operator/<id>``.

    With an empty name, use the only client certificate in the folder.  The client has no allowlist,
    so it accepts every server whose certificate has a trusted chain, a valid time and the right
    kind.
    """
    manager = files.CertificateManager(directory, find(directory, name))
    manager.load_or_generate()
    return carriers.build(FileSource(manager, None), limits=limits, proxy=proxy)


def find(directory: Path, name: str = "") -> Identity:
    """Return the identity ``name``, after checking that the folder has a certificate for it.  With
    an empty name, return the only client identity in the folder.

    Raise ConfigError if there is no such certificate.  Its message lists the names that were found.
    """
    found = {}
    kind = Kind.OPERATOR if name.startswith(f"{Kind.OPERATOR}/") else Kind.CLIENT
    for path in sorted((directory / kind).glob("*.pem")):
        for uri in files.describe(path).uris:
            parsed = identity.parse(uri)
            found[parsed.name] = parsed
    if name in found:
        return found[name]
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise ConfigError(
            f"no {kind} certificate in {directory}: run `midstreamer certs issue"
            f" {name or 'client/<id>'} --directory {directory}` on the machine that has the"
            " certificate authority"
        )
    raise ConfigError(
        f"{directory} has certificates of {', '.join(found)}: set identity to one of these names,"
        f" not {name!r}"
    )
