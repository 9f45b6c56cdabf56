"""A client's certificate: found in a folder, turned into the carrier that presents it."""

from __future__ import annotations

from pathlib import Path

from midstreamer.domain import identity
from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import files
from midstreamer.security.file_source import FileSource
from midstreamer.transport import carriers
from midstreamer.transport.carrier import Carrier, Limits


def carrier(
    directory: Path, name: str = "", limits: Limits | None = None, *, proxy: str = ""
) -> Carrier:
    """The carriers of ``client/<id>`` or ``operator/<id>``, or of the folder's only client.

    There is no allowlist of servers: they are verified by chain, validity and kind.
    """
    manager = files.CertificateManager(directory, find(directory, name))
    manager.load_or_generate()
    return carriers.build(FileSource(manager, None), limits=limits, proxy=proxy)


def find(directory: Path, name: str = "") -> Identity:
    """The identity in the folder that is called so; ConfigError names those that are there."""
    found = {}
    kind = Kind.OPERATOR if name.startswith(f"{Kind.OPERATOR}/") else Kind.CLIENT
    for path in sorted((directory / kind).glob("*.pem")):
        for uri in files.describe(path).uris:
            made = identity.parse(uri)
            found[made.name] = made
    if name in found:
        return found[name]
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise ConfigError(
            f"no {kind} certificate in {directory}: run `midstreamer certs issue"
            f" {name or 'client/<id>'} --directory {directory}` where the authority is"
        )
    raise ConfigError(
        f"{directory} holds {', '.join(found)}: name one of them as identity, not {name!r}"
    )
