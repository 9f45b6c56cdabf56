"""Tests of `tests.cluster.component_processes`, which need no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster import commands_here, component_processes, names

HALF_ENDED = """
import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_runs_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    cluster = names.cluster("test", tmp_path)
    (cluster.state / "pids").mkdir(parents=True)
    command = [sys.executable, "-c", HALF_ENDED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        (cluster.state / "pids/half.json").write_text(f'{{"pid": {process.pid}}}', encoding="ascii")
        first = Path(f"/proc/{process.pid}/stat")
        commands_here.until(
            "the first thread of the process ends",
            lambda: ") Z " in first.read_text(),
            timeout_s=10,
        )

        assert component_processes.running(cluster, "half")

        process.communicate("an end\n")
        assert not component_processes.running(cluster, "half")
