"""Identities, credentials and carriers for the commands."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from midstreamer.cluster import service_account
from midstreamer.cluster.api import Client
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.cluster.pod_reports import Teller
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.domain.identity import Identity, Kind
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.security import files
from midstreamer.security.credentials import CredentialSource
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.local_issuer import AuthorityIssuer, BundleFile
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Limits

ALLOWLIST = "allowlist"
"""File name of the allowlist in the folder of certificates."""

log = logs.get(__name__)


def named(text: str, trust_domain: str) -> Identity:
    """Return the identity of ``<kind>/<id>``; BadInput when the text has another form."""
    kind, _, label = text.partition("/")
    if kind not in set(Kind) or not label:
        raise BadInput(f"{text!r} is not <kind>/<id>; kinds: {', '.join(Kind)}")
    return identity.make(trust_domain, Kind(kind), label)


def prepare(
    directory: Path, members: Iterable[Identity], *, in_memory: Collection[Kind] = ()
) -> None:
    """Create what is missing: the authority, the members' certificates, their allowlist entries.

    Members of the kinds in ``in_memory`` request their certificates themselves, so no key file is
    written for them.
    """
    all_members = list(members)
    if not files.authority_path(directory).exists():
        files.init_authority(directory, all_members[0].trust_domain)
    for member in all_members:
        if member.kind not in in_memory:
            files.CertificateManager(directory, member).load_or_generate()
    allow(directory / ALLOWLIST, all_members)


def allow(path: Path, members: Iterable[Identity]) -> None:
    """Add allowlist entries for the members that no entry admits; keep all existing entries."""
    entries: list[str] = []
    if path.exists():
        current = files.AllowlistFile(path).current
        members = [member for member in members if not current.allows(member)]
        # Keep the existing lines unchanged, with their grants and comments.
        entries = path.read_text("utf-8").splitlines()
    wanted = [member.name for member in members]
    if wanted:
        files.write_allowlist(path, [*entries, *wanted])


def carrier(me: Identity, security: SecuritySettings, limits: LimitSettings) -> Carrier:
    """Return the carriers of a process; issue or renew its certificate file first if needed."""
    from midstreamer.transport import carriers

    return carriers.build(_of_files(me, security), limits=limits_of(limits), proxy=security.proxy)


def source(
    me: Identity, security: SecuritySettings, *, hosts: Collection[str] = ()
) -> CredentialSource:
    """Return the source of a service's credentials, as ``security.key`` configures it.

    Credentials from files are available at once; `runtime.credential_renewal` waits for credentials
    of any other source. ``hosts`` are DNS names for the certificate. PostgreSQL gets no allowlist,
    because its clients show no certificate.
    """
    if security.key == "file":
        return _of_files(me, security, hosts)

    def waits(why: str) -> None:
        log.warning("certificate.waiting", identity=me.name, detail=why)

    bundle_path = files.trust_path(security.directory)
    in_cluster = security.key == "cluster"
    return RequestedSource(
        me,
        _in_cluster(me, security)
        if in_cluster
        else AuthorityIssuer(security.directory, hosts=hosts),
        hosts=hosts,
        allowlist=None if me.kind is Kind.POSTGRES else _listed(security),
        # In a cluster the issuer provides the trusted authorities, unless a bundle is mounted.
        bundle=None if in_cluster and not bundle_path.exists() else BundleFile(bundle_path),
        waits=waits,
    )


def teller(me: Identity, security: SecuritySettings) -> Teller | None:
    """Return the `Teller` that reports this pod's state; None unless `security.key` is cluster."""
    if security.key != "cluster":
        return None
    _check_pod(me)
    namespace, pod, uid = me.id.split("/")
    api = Client(service_account.in_pod(), idle_max=0)
    return Teller(api, namespace=namespace, pod=pod, uid=uid)


def _in_cluster(me: Identity, security: SecuritySettings) -> ClusterIssuer:
    """Return the issuer that requests certificates from the cluster."""
    _check_pod(me)
    who = service_account.in_pod()
    client = Client(who, idle_max=0)  # keeps no idle connection: requests are hours apart
    return ClusterIssuer(client, namespace=who.namespace, release=security.release)


def _check_pod(me: Identity) -> None:
    """Raise ConfigError unless the id names a pod: the operator certifies no other names."""
    if me.id.count("/") != 2:
        raise ConfigError(
            f"{me.kind}.id = {me.id}: with security.key = cluster, set the id to"
            " <namespace>/<pod>/<uid> of this pod, from its fields metadata.namespace,"
            " metadata.name and metadata.uid"
        )


def _of_files(me: Identity, security: SecuritySettings, hosts: Collection[str] = ()) -> FileSource:
    """Return the source that keeps key and certificate in files."""
    manager = files.CertificateManager(
        security.directory, me, renew_before_days=security.renew_before_days, hosts=hosts
    )
    manager.load_or_generate()
    return FileSource(manager, None if me.kind is Kind.POSTGRES else _listed(security))


def _listed(security: SecuritySettings) -> files.AllowlistFile:
    """Return the allowlist, which is read from its file."""
    return files.AllowlistFile(security.allowlist or security.directory / ALLOWLIST)


def limits_of(limits: LimitSettings) -> Limits:
    """Return the limits for carriers, as configured."""
    return Limits(
        frame_bytes_max=limits.frame_bytes_max,
        links_max=limits.links_max,
        links_per_identity_max=limits.links_per_identity_max,
        handshake_s=limits.handshake_s,
        frame_s=limits.frame_s,
        idle_s=limits.idle_s,
    )
