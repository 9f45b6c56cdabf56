"""One replica of the operator as a process.

The process serves the probes, reports its readiness as Events about its pod, and runs the replica.
"""

from __future__ import annotations

from midstreamer.cluster import pod_reports, service_account
from midstreamer.cluster.api import Client
from midstreamer.cluster.pod_reports import Standing, Teller
from midstreamer.cluster.service_account import Account
from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import health
from midstreamer_operator.leadership import Replica
from midstreamer_operator.settings import OperatorSettings
from midstreamer_operator.signals import Signals
from midstreamer_operator.signing_reconciler import PASSES_AT_ONCE


async def run(settings: OperatorSettings, who: Account | None = None) -> None:
    """Run until SIGTERM or SIGINT.

    Raise ConfigError outside of a pod, or when a required setting is missing.
    """
    check(settings)
    who = who or service_account.in_pod()
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
    """Raise ConfigError when a setting that a running operator needs is missing."""
    for name in ("pod", "uid"):
        if not getattr(settings, name):
            raise ConfigError(
                f"operator.{name} is not set; in the pod template, set the environment variable"
                f" MIDSTREAMER_OPERATOR__{name.upper()} from the field"
                f" metadata.{'name' if name == 'pod' else 'uid'}"
            )
    if not settings.accounts:
        raise ConfigError(
            "operator.accounts is empty, so no pod would get a certificate; map each service"
            " account to its kind, for example"
            ' MIDSTREAMER_OPERATOR__ACCOUNTS=\'{"midstreamer-agent": "agent"}\''
        )
