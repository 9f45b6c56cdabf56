"""The modules of load tests with pure logic must import neither locust nor gevent."""

import subprocess
import sys


def test_the_cores_load_neither_gevent_nor_locust() -> None:
    """Importing locust replaces the sockets and threads of the whole process."""
    cores = (
        "connection_core, identities, latency_curve, load_plan, report, result_counts, start_times,"
        " thresholds, user_of_sdk, user_requests"
    )
    look = (
        f"import sys; from loadtests import {cores};"
        " print([each for each in ('gevent', 'locust') if each in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
