"""`midstreamer-k8s status` names the cause of each fault; when a fault ends, the fleet recovers.

The rows of `release_faults.WRONGS` run in order. Each row leaves a fleet that works, and a row may
need what earlier rows made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster import commands_here, release_faults
from tests.cluster.conftest import a_namespace
from tests.cluster.release_faults import Place, Wrong

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Return the namespace of the releases "mid" and "db"; uninstall both releases at the end."""
    with a_namespace() as kubernetes:
        shared = Place(kubernetes)
        yield shared
        shared.server.uninstall()
        shared.fleet().uninstall(volume=False)


@pytest.mark.parametrize(
    "wrong", release_faults.WRONGS, ids=[each.what for each in release_faults.WRONGS]
)
def test_the_cause_is_named_in_one_line_and_it_heals_when_it_is_gone(
    place: Place, wrong: Wrong
) -> None:
    began_s = time.monotonic()
    wrong.begin(place)
    changed_s = time.monotonic()
    line = release_faults.found(place, wrong)
    named_s = time.monotonic()
    symptom = wrong.said or wrong.symptom
    messages = commands_here.eventually(
        f"an Event, termination message or condition has {symptom!r}",
        lambda: [each for each in place.said() if symptom in each],
        bool,
    )
    wrong.end(place)
    ended_s = time.monotonic()
    release_faults.well(place, wrong.release)

    healed_s = time.monotonic() - ended_s
    commands_here.say(
        f"| {wrong.what} | `{line}` | {messages[-1][:200]} | {changed_s - began_s:.0f}"
        f" | {named_s - changed_s:.0f} | {healed_s:.0f} |"
    )


def test_an_agent_without_code_for_its_processor_makes_its_own_and_says_so(place: Place) -> None:
    """An agent compiles its kernels itself when the image has none for the node's processor.

    The image has kernels for processors with AVX2 or AVX-512. A test cannot change the processor
    of a pod. So it hides the kernels: the environment variable for their folder names a folder that
    does not exist.
    """
    began_s = time.monotonic()
    nowhere = {"name": "MIDSTREAMER_KERNELS_AHEAD", "value": "/nowhere"}
    place.fleet(extraEnv=[nowhere]).put()
    release_faults.well(place)

    (agent,) = place.fleet().pods("agent")
    log = place.kubernetes("logs", agent["metadata"]["name"])
    commands_here.say(
        f"an agent that compiles its kernels was ready after {time.monotonic() - began_s:.0f} s"
    )
    assert "MIDSTREAMER_KERNELS_AHEAD=/nowhere: there is no such folder" in log
