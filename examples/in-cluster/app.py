"""Example of a client in a pod: it sends random walks to a fleet and prints the fleet's decisions.

The environment variable SERIES says how many random walks are generated in parallel.
FLEET_NAMESPACE and FLEET_RELEASE name the fleet; the pod may run in another namespace.
`Client.in_cluster` requests a certificate for the pod and renews it.
"""

import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from midstreamer import Client, MidstreamerError, Specification, Tick

SERIES = int(os.environ.get("SERIES", "1"))
PAUSE_S = SERIES / float(os.environ.get("PER_SECOND", "1"))
WINDOW = 64
WANTED = Specification(universe="example", window=WINDOW, horizon=5)
stopped = threading.Event()
asked = itertools.count(1)


def main() -> None:
    """Generate all random walks in parallel, one in each thread, until SIGTERM or an error."""
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    fleet = (os.environ.get("FLEET_NAMESPACE", "fleet"), os.environ.get("FLEET_RELEASE", "mid"))
    pod = os.environ.get("HOSTNAME", "app")
    with Client.in_cluster(*fleet) as client, ThreadPoolExecutor(SERIES) as walking:
        print(
            f"connected to {'/'.join(fleet)} ; the key of this client is only in memory", flush=True
        )
        names = [f"example/{pod}-{number}" for number in range(SERIES)]
        for walked in [walking.submit(walk, client, name) for name in names]:
            walked.result()


def walk(client: Client, series: str) -> None:
    """Generate a random walk, tick by tick: append the tick, request a decision, print it.

    An error ends all walks.
    """
    values: deque[float] = deque(maxlen=WINDOW)
    value, due_s = 100.0, time.monotonic() + random.uniform(0.0, PAUSE_S)
    try:
        while not stopped.wait(max(0.0, due_s - time.monotonic())):
            # After a delay the walk goes on from now; it does not catch up on missed ticks.
            due_s = max(due_s + PAUSE_S, time.monotonic())
            value *= 1.0 + random.gauss(0.0, 0.001)
            values.append(value)
            now, begun_s = time.time_ns() // 1000, time.monotonic()
            client.append([Tick(series, now, value)])
            stored_s = time.monotonic()
            if len(values) == WINDOW:
                decision = client.match(series, now, values, WANTED)
                took = (
                    f"append {stored_s - begun_s:.3f} s, match {time.monotonic() - stored_s:.3f} s"
                )
                print(f"{next(asked)}: {decision.direction or decision.reason}, {took}", flush=True)
    finally:
        stopped.set()


if __name__ == "__main__":
    try:
        main()
    except MidstreamerError as error:
        sys.exit(f"error[{error.code}]: {error.message}")
