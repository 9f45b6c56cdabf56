"""Start a local fleet for a load test: raised limits, certificates for users, stored history."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from loadtests import identities, user_requests
from midstreamer import AsyncClient
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import TRUST_DOMAIN, LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.telemetry import metrics

__all__ = ["TRUST_DOMAIN", "running", "scraped"]


def settings(users: int) -> str:
    """Return the text of a configuration file that allows a connection for each user."""
    return f"[limits]\nlinks_max = {2 * users + 64}\n"


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, users: int, agents: int, news: Callable[[str], None]
) -> AsyncIterator[LocalFleet]:
    """Run a fleet that is ready for load.

    Its history is stored, and all users have certificates and are on the allowlist.
    """
    config = folder / "fleet.toml"
    config.write_text(settings(users), encoding="utf-8")
    with state_folder.held(folder / "state") as kept:
        fleet = LocalFleet(kept, RunSettings(agents=agents), config_file=config, news=news)
        async with fleet:
            news(f"issuing certificates for {users} users")
            await asyncio.to_thread(identities.make, kept.certs, users, TRUST_DOMAIN)
            news("storing the history that is searched")
            async with AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
                await client.append(user_requests.history())
                first = user_requests.windows(
                    user_requests.history(), user_requests.specification().window
                )[:1]
                await client.match_many(first, user_requests.specification(), record=False)
            yield fleet
        await fleet.server.erase()


def scraped(fleet: LocalFleet) -> dict[str, dict[str, float]]:
    """Return the metrics of each process, by name; empty for a process that does not answer."""
    return {child.name: _scraped(child.health) for child in fleet.children}


def _scraped(address: str) -> dict[str, float]:
    host, _, port = address.rpartition(":")
    asking = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        asking.request("GET", "/metrics")
        return metrics.read(asking.getresponse().read().decode())
    except OSError:
        return {}
    finally:
        asking.close()
