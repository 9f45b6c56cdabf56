"""Ask a fleet to forecast a series, and count how many forecasts had the right direction.

    python examples/outcomes/app.py --addresses 127.0.0.1:7400 --directory certs

The series repeats daily, with noise, so that past windows predict what follows. The program stores
a history. Then it appends further points, and after each point asks for a decision about the window
that ends there. At the end it looks up the verdicts: which forecasts had the right direction. The
program needs the certificate of a client that may append to the universe ``example``:
``midstreamer certs issue client/local`` makes one.
"""

import argparse
import asyncio
import math
import random
import sys

from midstreamer import AsyncClient, MidstreamerError, Specification, Tick

SERIES, HOUR = "example/season", 3_600_000_000
HISTORY, LIVE = 600, 40
WANTED = Specification("example", window=24, horizon=4, neighbours=20, grid=4)


def season(count: int) -> list[float]:
    """Return hourly values that repeat daily, with noise; each run returns the same values."""
    dice = random.Random(1)
    return [10.0 + math.sin(2 * math.pi * t / 24) + dice.gauss(0.0, 0.1) for t in range(count)]


async def main(addresses: str, directory: str, identity: str) -> None:
    """Store the history, ask for a decision after each further point, and print a summary."""
    values = season(HISTORY + LIVE)
    ticks = [Tick(SERIES, t * HOUR, value) for t, value in enumerate(values)]
    connecting = AsyncClient.connect(addresses.split(","), directory=directory, identity=identity)
    async with connecting as client:
        await client.append(ticks[:HISTORY])
        decisions = []
        for t in range(HISTORY, HISTORY + LIVE):
            await client.append([ticks[t]])
            window = values[t - WANTED.window + 1 : t + 1]
            decisions.append(await client.match(SERIES, t * HOUR, window, WANTED))
        found = await client.lookup([decision.experience_id for decision in decisions])
    hits = sum(verdict.hit for verdict in found.verdicts)
    signals = sum(decision.direction is not None for decision in decisions)
    print(f"{len(decisions)} decisions, {signals} signals")
    print(f"{len(found.verdicts)} outcomes are known: {hits} forecasts had the right direction")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", default="127.0.0.1:7400", help="coordinators, with commas")
    parser.add_argument("--directory", required=True, help="folder of `midstreamer certs issue`")
    parser.add_argument("--identity", default="client/local", help="the client's identity")
    given = parser.parse_args()
    try:
        asyncio.run(main(given.addresses, given.directory, given.identity))
    except MidstreamerError as error:
        sys.exit(f"error[{error.code}]: {error.message}")
