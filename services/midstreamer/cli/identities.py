"""The identities a command acts under, where their credentials come from, and the carrier."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from midstreamer.cluster import account
from midstreamer.cluster.api import Client
from midstreamer.cluster.pod_reports import Teller
from midstreamer.cluster.requesting import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.domain.identity import Identity, Kind
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.security import files
from midstreamer.security.credentials import CredentialSource
from midstreamer.security.file_source import FileSource
from midstreamer.security.local_issuer import AuthorityIssuer, BundleFile
from midstreamer.security.requested import RequestedSource
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Limits

ALLOWLIST = "allowlist"

log = logs.get(__name__)


def named(text: str, trust_domain: str) -> Identity:
    """The identity of ``<kind>/<id>``."""
    kind, _, label = text.partition("/")
    if kind not in set(Kind) or not label:
        raise BadInput(f"{text!r} is not <kind>/<id>; kinds: {', '.join(Kind)}")
    return identity.make(trust_domain, Kind(kind), label)


def prepare(
    directory: Path, members: Iterable[Identity], *, in_memory: Collection[Kind] = ()
) -> None:
    """Make sure that an authority is there and that the members are certified and let in.

    Members of the kinds in ``in_memory`` have themselves certified: no key is written for them.
    """
    several = list(members)
    if not files.authority_path(directory).exists():
        files.init_authority(directory, several[0].trust_domain)
    for member in several:
        if member.kind not in in_memory:
            files.CertificateManager(directory, member).load_or_generate()
    allow(directory / ALLOWLIST, several)


def allow(path: Path, members: Iterable[Identity]) -> None:
    """Add those that no entry lets in; a list that lets all in is left as it is."""
    entries: list[str] = []
    if path.exists():
        there = files.AllowlistFile(path).current
        members = [member for member in members if not there.allows(member)]
        # Line by line as they stand: with what is granted, and with people's comments.
        entries = path.read_text("utf-8").splitlines()
    wanted = [member.name for member in members]
    if wanted:
        files.write_allowlist(path, [*entries, *wanted])


def carrier(me: Identity, security: SecuritySettings, limits: LimitSettings) -> Carrier:
    """The carriers of one process; its certificate is loaded, issued or renewed first."""
    from midstreamer.transport import carriers

    return carriers.build(_of_files(me, security), limits=limits_of(limits), proxy=security.proxy)


def source(
    me: Identity, security: SecuritySettings, *, hosts: Collection[str] = ()
) -> CredentialSource:
    """Where the credentials of a service come from, by `security.key`.

    Those of files are there at once; `runtime.renewing` waits for the others.  ``hosts`` are DNS
    names in the certificate.  The database has no allowlist: its clients show no certificate.
    """
    if security.key == "file":
        return _of_files(me, security, hosts)

    def waits(why: str) -> None:
        log.warning("certificate.waiting", identity=me.name, detail=why)

    trust = files.trust_path(security.directory)
    in_cluster = security.key == "cluster"
    return RequestedSource(
        me,
        _in_cluster(me, security)
        if in_cluster
        else AuthorityIssuer(security.directory, hosts=hosts),
        hosts=hosts,
        allowlist=None if me.kind is Kind.POSTGRES else _listed(security),
        # In a cluster the issuer says whom to trust, unless the bundle is mounted.
        bundle=None if in_cluster and not trust.exists() else BundleFile(trust),
        waits=waits,
    )


def teller(me: Identity, security: SecuritySettings) -> Teller | None:
    """Who tells in the cluster what this process waits for; None outside of one."""
    if security.key != "cluster":
        return None
    _check_pod(me)
    namespace, pod, uid = me.id.split("/")
    api = Client(account.in_pod(), idle_max=0)
    return Teller(api, namespace=namespace, pod=pod, uid=uid)


def _in_cluster(me: Identity, security: SecuritySettings) -> ClusterIssuer:
    _check_pod(me)
    who = account.in_pod()
    client = Client(who, idle_max=0)  # it is used once in hours
    return ClusterIssuer(client, namespace=who.namespace, release=security.release)


def _check_pod(me: Identity) -> None:
    """The operator certifies pods by these three, and no other name."""
    if me.id.count("/") != 2:
        raise ConfigError(
            f"{me.kind}.id = {me.id}: with security.key = cluster it is <namespace>/<pod>/<uid> of"
            " this pod, from its fields metadata.namespace, metadata.name and metadata.uid"
        )


def _of_files(me: Identity, security: SecuritySettings, hosts: Collection[str] = ()) -> FileSource:
    manager = files.CertificateManager(
        security.directory, me, renew_before_days=security.renew_before_days, hosts=hosts
    )
    manager.load_or_generate()
    return FileSource(manager, None if me.kind is Kind.POSTGRES else _listed(security))


def _listed(security: SecuritySettings) -> files.AllowlistFile:
    return files.AllowlistFile(security.allowlist or security.directory / ALLOWLIST)


def limits_of(limits: LimitSettings) -> Limits:
    """The settings, as carriers take them."""
    return Limits(
        frame_bytes_max=limits.frame_bytes_max,
        links_max=limits.links_max,
        links_per_identity_max=limits.links_per_identity_max,
        handshake_s=limits.handshake_s,
        frame_s=limits.frame_s,
        idle_s=limits.idle_s,
    )
