"""A network that drops UDP for ten seconds, twice: a whole fleet goes on over WebSocket."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import before, firewall

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SILENCE_MAX_S = 8.0
"""`make rolling ARGS=--cut` on a quiet machine shows 3 s; other tests run beside this."""


@pytest.mark.skipif(bool(firewall.may_have_namespace()), reason=firewall.may_have_namespace())
def test_no_request_fails_while_a_firewall_drops_udp_for_ten_seconds_twice(tmp_path: Path) -> None:
    figures, kept = tmp_path / "figures.json", tmp_path / "state"
    words = ("--cut", "--rate", "0.4", "--keep", str(kept), "--json", str(figures))
    done = subprocess.run(
        [sys.executable, "-m", "tests.rolling", *words],
        cwd=before.ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    calm, *cuts = json.loads(figures.read_text(encoding="utf-8"))["events"]
    assert calm["requests"] > 0
    assert [cut["what"] for cut in cuts] == ["UDP dropped"] * 2
    assert max(cut["longest_silence_s"] for cut in cuts) < SILENCE_MAX_S
    logs = "".join(each.read_text(encoding="utf-8") for each in (kept / "logs").glob("*.log"))
    moves = [line for line in logs.splitlines() if "session.moves" in line]
    for how in ("by=wss", "by=quic"):
        assert sum(how in line for line in moves) >= 2
