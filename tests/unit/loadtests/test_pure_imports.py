"""The modules of load tests with pure logic must import neither locust nor gevent."""

import subprocess
import sys


def test_the_cores_load_neither_gevent_nor_locust() -> None:
    """Importing locust replaces the sockets and threads of the whole process."""
    cores = (
        "connection_machine, identities, latency_curve, plan, report, schedule, sdk, tally,"
        " thresholds, user_requests"
    )
    look = (
        f"import sys; from loadtests import {cores};"
        " print([each for each in ('gevent', 'locust') if each in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
