"""Run the observed fleet and a Prometheus that scrapes it, until Ctrl-C.

    python -m tests.observed                  prints the targets and the address of Prometheus
    python -m tests.observed --scrape-s 5

Query it with `curl 127.0.0.1:PORT/api/v1/query --data-urlencode 'query=sum by (component) (up)'`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster import commands_here
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace


async def run(scrape_s: float) -> None:
    """Start the fleet and Prometheus, print their addresses, and run until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="midstreamer-observed-") as folder:
        place = Path(folder)
        async with (
            fleet.observed(place / "fleet", news=commands_here.say) as seen,
            prometheus.running(
                place / "prometheus", seen.targets(), pace=Pace(scrape_s, scrape_s)
            ) as asked,
        ):
            for target in seen.targets():
                commands_here.say(
                    f"{target.component:12} {target.pod:12} http://{target.address}/metrics"
                )
            commands_here.say(f"Prometheus answers at http://{asked.address}; Ctrl-C ends all")
            await stop.wait()


def main() -> None:
    """Read the arguments and run; an expected failure prints one message and exits with code 1."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m tests.observed", None, __doc__, formatter_class=formatter
    )
    parser.add_argument("--scrape-s", type=float, default=1.0, help="seconds between two scrapes")
    given = parser.parse_args()
    if not given.scrape_s > 0:
        parser.error(f"--scrape-s {given.scrape_s:g}: take more than 0 seconds")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(given.scrape_s))
    except (AssertionError, commands_here.KitError) as error:
        sys.exit(f"observed: {error}")


if __name__ == "__main__":
    main()
