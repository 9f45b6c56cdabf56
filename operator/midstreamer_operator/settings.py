"""The settings of the operator, section `[operator]`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from midstreamer.domain.identity import Kind
from midstreamer.runtime.config import SecuritySettings, Settings, TelemetrySettings
from midstreamer_operator.plan.issuance import LIVE_MAX, Policy

NAME = r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$"


class OperatorSettings(Settings):
    """Settings of one replica of the operator."""

    section: ClassVar[str] = "operator"

    namespace: str = Field("default", pattern=NAME)
    """Namespace of the installation. The operator reads pods of this namespace only."""
    release: str = Field("midstreamer", pattern=NAME)
    """Name of the installation: its Helm release. The names of the signers contain the namespace
    and this name."""
    pod: str = Field("", max_length=253)
    """Name of the operator's own pod. Events about requesters of other namespaces are attached to
    this pod."""
    uid: str = Field("", max_length=64)
    """Uid of the operator's own pod. Pod name and uid identify the holder of the lease, so that a
    restarted container continues with its lease at once."""
    accounts: dict[str, Kind] = Field({})
    """Kind of the pods of each service account, such as `{"midstreamer-agent" = "agent"}`. Pods of
    service accounts that are not listed get no certificate."""
    postgres_hosts: tuple[str, ...] = ()
    """DNS names that the certificate of the database may carry: sync connects by these names."""
    own_database: bool | None = None
    """Whether the installation has its own database. If it has, the operator creates the Secret
    `<release>-postgres` with the key `password`, unless the Secret exists. Default: true when
    `accounts` lists the kind `postgres`."""
    life_s: float = Field(86_400.0, ge=600, le=90 * 86_400.0)
    """Seconds that a certificate is valid. Pods renew after two thirds of this time, so the
    operator may be down for the last third without harm."""
    live_max: int = Field(LIVE_MAX, ge=8, le=100_000)
    """Certificates of one pod, or of one client identity, that may be valid at once; further
    requests are denied. A pod needs two, and one more each time a container restarts after a crash:
    at most 300 a day, because the kubelet pauses between restarts."""
    lease_s: float = Field(6.0, ge=2, le=600)
    """Seconds without renewal after which another replica takes over the lease."""
    renew_within_s: float = Field(4.0, ge=1, le=600)
    """Seconds after which a leader that cannot renew its lease stops leading. It must be less than
    `lease_s`; the difference is the time that the leader has to stop its work."""
    retry_s: float = Field(1.0, gt=0, le=60)
    """Seconds between two reads of the lease."""
    sweep_s: float = Field(30.0, ge=1, le=3600)
    """Seconds between two passes over all signing requests, and over all pools of agents. Changes
    are normally handled at once, on an event; a pass handles changes whose event was lost."""
    security: SecuritySettings = SecuritySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _check_lease(self) -> OperatorSettings:
        if self.renew_within_s >= self.lease_s:
            raise ValueError(
                f"renew_within_s={self.renew_within_s:g} must be less than"
                f" lease_s={self.lease_s:g}; lower renew_within_s, or raise lease_s"
            )
        return self

    @property
    def me(self) -> str:
        """The name of this replica as holder of the lease: pod name and pod uid."""
        return f"{self.pod}_{self.uid}"

    @property
    def makes_password(self) -> bool:
        """Whether the operator makes the password of the database."""
        if self.own_database is None:
            return Kind.POSTGRES in self.accounts.values()
        return self.own_database

    @property
    def policy(self) -> Policy:
        """The rules by which the operator certifies, made from these settings."""
        return Policy(
            trust_domain=self.security.trust_domain,
            namespace=self.namespace,
            release=self.release,
            kinds=self.accounts,
            host_names={Kind.POSTGRES: frozenset(self.postgres_hosts)},
            life_s=self.life_s,
            live_max=self.live_max,
        )
