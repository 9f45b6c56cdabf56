"""One replica as a process: probes, the client of the API, and the replica between them."""

from __future__ import annotations

from midstreamer.cluster import account, pod_reports
from midstreamer.cluster.account import Account
from midstreamer.cluster.api import Client
from midstreamer.cluster.pod_reports import Standing, Teller
from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import health
from midstreamer_operator.leading import Replica
from midstreamer_operator.reconcile import PASSES_AT_ONCE
from midstreamer_operator.settings import OperatorSettings
from midstreamer_operator.signals import Signals


async def run(settings: OperatorSettings, who: Account | None = None) -> None:
    """Run until a signal comes; ConfigError outside of a pod, or without what must be set."""
    check(settings)
    who = who or account.in_pod()
    signals = Signals()
    signals.take()
    try:
        async with Client(who, idle_max=PASSES_AT_ONCE) as api:
            replica = Replica(settings, api, who, signals)
            asked = health.Checks(ready=lambda: "; ".join(replica.serving_reasons()))
            teller = Teller(api, namespace=settings.namespace, pod=settings.pod, uid=settings.uid)

            def standing() -> Standing | None:
                if signals.stop.is_set():
                    return None
                why = asked.ready()
                return Standing(pod_reports.NOT_READY, why) if why else pod_reports.WELL

            async with (
                health.served(settings.telemetry.listen, asked),
                pod_reports.told(teller, standing),
            ):
                await replica.run()
    finally:
        signals.release()


def check(settings: OperatorSettings) -> None:
    """ConfigError names what a running operator needs and was not given."""
    for name in ("pod", "uid"):
        if not getattr(settings, name):
            raise ConfigError(
                f"operator.{name} is not set; in a pod, give MIDSTREAMER_OPERATOR__{name.upper()}"
                f" the field metadata.{'name' if name == 'pod' else 'uid'}"
            )
    if not settings.accounts:
        raise ConfigError(
            "operator.accounts is empty: no pod would get a certificate; name the service accounts"
            ' and their kinds, as MIDSTREAMER_OPERATOR__ACCOUNTS=\'{"midstreamer-agent": "agent"}\''
        )
