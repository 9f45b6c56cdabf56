"""A pod that appends a tick and asks for a match, again and again, from any namespace.

It holds the last values of its series and nothing else.  FLEET_NAMESPACE and FLEET_RELEASE name
the fleet; its certificate is asked for by `in_cluster` and renewed meanwhile.
"""

import os
import random
import signal
import sys
import threading
import time
from collections import deque

from midstreamer import Client, MidstreamerError, Specification, Tick

SERIES = f"example/{os.environ.get('HOSTNAME', 'app')}"
WINDOW, PAUSE_S = 64, 1.0 / float(os.environ.get("PER_SECOND", "1"))
stopped = threading.Event()


def main() -> None:
    """Walk at random until SIGTERM; print a line for each decision."""
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    fleet = (os.environ.get("FLEET_NAMESPACE", "fleet"), os.environ.get("FLEET_RELEASE", "mid"))
    wanted = Specification(universe="example", window=WINDOW, horizon=5)
    values: deque[float] = deque(maxlen=WINDOW)
    value, asked, due_s = 100.0, 0, time.monotonic()
    with Client.in_cluster(*fleet) as client:
        print(f"connected to {'/'.join(fleet)} as a client with a key in memory", flush=True)
        while not stopped.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + PAUSE_S, time.monotonic())  # what was missed is not made up for
            value *= 1.0 + random.gauss(0.0, 0.001)
            now = time.time_ns() // 1000
            begun_s = time.monotonic()
            client.append([Tick(SERIES, now, value)])
            stored_s = time.monotonic()
            values.append(value)
            if len(values) == WINDOW:
                decision = client.match(SERIES, now, values, wanted)
                asked += 1
                took = (
                    f"append {stored_s - begun_s:.3f} s, match {time.monotonic() - stored_s:.3f} s"
                )
                print(f"{asked}: {decision.direction or decision.reason}, {took}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except MidstreamerError as error:
        sys.exit(f"error[{error.code}]: {error.message}")
