"""Tests of `tests.cluster.reachable_ports` and of `port_probe`, which need no cluster."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from tests.cluster import port_probe, reachable_ports
from tests.cluster.reachable_ports import Place, Target, Visitors
from tests.cluster.releases import Release

HERE = "127.0.0.1"


@contextmanager
def a_udp_server(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Run a UDP server that replies `answer` to each packet; if `answer` is empty, no reply.

    Return the server's port and the list of received packets.
    """
    received: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind((HERE, 0))

        def serve() -> None:
            while True:
                packet, whence = serving.recvfrom(2048)
                received.append(packet)
                if packet == b"end":
                    return
                if answer:
                    serving.sendto(answer, whence)

        thread = threading.Thread(target=serve)
        thread.start()
        port = serving.getsockname()[1]
        try:
            yield port, received
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
                ending.sendto(b"end", (HERE, port))
            thread.join()


@pytest.mark.parametrize("kind", ["quic", "dns"])
def test_an_answer_over_udp_means_reached_and_silence_closed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_probe, "WAIT_S", 0.05)

    with a_udp_server(b"x") as (port, came):
        assert port_probe.reached(kind, HERE, port)
    with a_udp_server(b"") as (port, silent):
        assert not port_probe.reached(kind, HERE, port)

    assert kind == "dns" or len(came[0]) == port_probe.QUIC_BYTES_MIN
    assert len(silent) == port_probe.TRIES + 1


def test_a_connection_or_its_refusal_means_reached() -> None:
    with socket.create_server((HERE, 0)) as serving:
        port = serving.getsockname()[1]
        assert port_probe.reached("tcp", HERE, port)

    assert port_probe.reached("tcp", HERE, port)


def test_the_script_runs_as_a_text_and_answers_in_order() -> None:
    with socket.create_server((HERE, 0)) as serving:
        port = serving.getsockname()[1]
        # No machine has the address 255.255.255.255 (RFC 6890), so nothing answers there.
        ways = f'[["tcp", "{HERE}", {port}], ["tcp", "255.255.255.255", 1]]'
        done = subprocess.run(
            [sys.executable, "-I", "-c", reachable_ports.TEXT, ways],
            capture_output=True,
            check=True,
        )

    assert done.stdout == b"[true, false]\n"


def visitors() -> Visitors:
    pod = Target("tcp", HERE, 1, "mid-agent-1", "node-1")
    targets = {"agent health": pod, "coordinator outside": pod, "api": Target("tcp", HERE, 2)}
    sources = {"agent": Place(None, "mid-agent-1"), "node-0": Place(None, "")}
    sources["stranger"] = Place(None, "door-stranger")
    return Visitors(cast("Release", None), sources, targets)


def test_a_pod_is_not_tried_from_itself() -> None:
    assert [target for source, target in visitors().expected() if source == "agent"] == ["api"]


def test_a_node_reaches_its_own_pods_and_is_a_stranger_to_those_of_another() -> None:
    expected = visitors().expected()

    assert not expected["node-0", "agent health"]
    assert expected["node-0", "coordinator outside"]
    assert not expected["stranger", "coordinator outside"]


def test_tables_differ_in_the_pairs_that_were_tried() -> None:
    wanted = {("a", "x"): True, ("a", "y"): False, ("b", "x"): True}

    lines = reachable_ports.differences(wanted, {("a", "x"): False, ("a", "y"): False})

    assert lines == ["a to x: closed"]


def test_a_table_for_people_leaves_out_what_was_not_tried() -> None:
    shown = reachable_ports.markdown({("a", "x"): True, ("a", "y"): False, ("b", "y"): True})

    assert shown.splitlines()[2:] == ["| a | open | – |", "| b |  | open |"]
