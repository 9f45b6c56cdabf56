"""One replica of the operator as a process, against the API server of a test.

    python -m tests.observed.operator --port 6443 --account DIR --pod operator-0 \\
        --listen 127.0.0.1:9200

SIGTERM ends it. In a cluster `midstreamer-operator` does the same with its pod's account.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from midstreamer.cli import exit_with_parent
from midstreamer.cluster.service_account import Account
from midstreamer.runtime.config import SecuritySettings, TelemetrySettings
from midstreamer.telemetry import logs
from midstreamer_operator import process
from midstreamer_operator.settings import OperatorSettings
from tests.support.operator_builders import DOMAIN, NAMESPACE, POLICY, RELEASE

SWEEP_S = 2.0
LEASE_S, RENEW_WITHIN_S, RETRY_S = 4.0, 1.5, 0.2


def settings_of(pod: str, listen: str) -> OperatorSettings:
    """Settings of a replica with short intervals, so that tests need not wait long."""
    return OperatorSettings(
        namespace=NAMESPACE,
        release=RELEASE,
        pod=pod,
        uid=f"uid-of-{pod}",
        accounts=dict(POLICY.kinds),
        lease_s=LEASE_S,
        renew_within_s=RENEW_WITHIN_S,
        retry_s=RETRY_S,
        sweep_s=SWEEP_S,
        security=SecuritySettings(trust_domain=DOMAIN),
        telemetry=TelemetrySettings(listen=listen),
    )


def main() -> None:
    """Read the arguments and run; end when the parent process ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.observed.operator")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--account", required=True, type=Path)
    for name in ("--pod", "--listen"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    exit_with_parent.follow(os.environ)
    logs.configure(json=False, level="info")
    who = Account("127.0.0.1", given.port, NAMESPACE, given.account)
    asyncio.run(process.run(settings_of(given.pod, given.listen), who))


if __name__ == "__main__":
    main()
