"""What can be set about the operator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from midstreamer.domain.identity import Kind
from midstreamer.runtime.config import SecuritySettings, Settings, TelemetrySettings
from midstreamer_operator.plan.issuance import LIVE_MAX, Policy

NAME = r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$"


class OperatorSettings(Settings):
    """One replica of the operator."""

    section: ClassVar[str] = "operator"

    namespace: str = Field("default", pattern=NAME)
    """Namespace of the installation. The operator looks at no pod of another one."""
    release: str = Field("midstreamer", pattern=NAME)
    """Name of the installation: with the namespace it makes the name of the signer."""
    pod: str = Field("", max_length=253)
    """Name of the operator's own pod. Events about requesters of other namespaces are written
    there."""
    uid: str = Field("", max_length=64)
    """Uid of the operator's own pod. Name and uid say who holds the lease, so that a restarted
    container goes on at once."""
    accounts: dict[str, Kind] = Field({})
    """The kind that the pods of each service account may be, as
    `{"midstreamer-agent" = "agent"}`. Pods of other accounts get no certificate."""
    postgres_hosts: tuple[str, ...] = ()
    """DNS names that the database's certificate may carry: those by which sync dials it."""
    own_database: bool | None = None
    """Whether the installation has a database of its own, whose password the operator makes: the
    Secret `<release>-postgres`, key `password`, unless it is there. None: when a service account
    may be `postgres`."""
    life_s: float = Field(86_400.0, ge=600, le=90 * 86_400.0)
    """Seconds that a certificate is valid. Pods renew theirs after two thirds of that, so a third
    of it is how long the operator may be away without harm."""
    live_max: int = Field(LIVE_MAX, ge=8, le=100_000)
    """Certificates of one pod, or of one client identity, that may be valid at once; further
    requests are denied. A pod needs two, and one more for each start of a container that crashed:
    with the kubelet's pauses 300 in a day."""
    lease_s: float = Field(6.0, ge=2, le=600)
    """Seconds after which a leader that is silent is replaced."""
    renew_within_s: float = Field(4.0, ge=1, le=600)
    """A leader that could not renew its lease for so many seconds stops to lead; less than
    `lease_s`, and the difference is what it may take to stop."""
    retry_s: float = Field(1.0, gt=0, le=60)
    """Seconds between two looks at the lease."""
    sweep_s: float = Field(30.0, ge=1, le=3600)
    """Seconds between two passes over all signing requests, and over all pools of agents. Events
    tell of each at once; a pass finds what an event was lost of."""
    security: SecuritySettings = SecuritySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _check_lease(self) -> OperatorSettings:
        if self.renew_within_s >= self.lease_s:
            raise ValueError(
                f"renew_within_s={self.renew_within_s:g} must be less than lease_s={self.lease_s:g}"
            )
        return self

    @property
    def me(self) -> str:
        """Who this replica is, in the lease."""
        return f"{self.pod}_{self.uid}"

    @property
    def makes_password(self) -> bool:
        """Whether the password of the database is the operator's to make."""
        if self.own_database is None:
            return Kind.POSTGRES in self.accounts.values()
        return self.own_database

    @property
    def policy(self) -> Policy:
        """Who may be called what."""
        return Policy(
            trust_domain=self.security.trust_domain,
            namespace=self.namespace,
            release=self.release,
            kinds=self.accounts,
            host_names={Kind.POSTGRES: frozenset(self.postgres_hosts)},
            life_s=self.life_s,
            live_max=self.live_max,
        )
