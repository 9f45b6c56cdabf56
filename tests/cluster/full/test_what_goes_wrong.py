"""Each thing that goes wrong is named in one line where people look, and heals when it is over.

Rows run in their order and each leaves the fleet whole: what one needs, the one before has made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster import host, wrongs
from tests.cluster.conftest import a_namespace
from tests.cluster.wrongs import Place, Wrong

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """The namespace of both releases, which go at the end."""
    with a_namespace() as kubernetes:
        made = Place(kubernetes)
        yield made
        made.server.uninstall()
        made.fleet().uninstall(volume=False)


@pytest.mark.parametrize("wrong", wrongs.WRONGS, ids=[each.what for each in wrongs.WRONGS])
def test_the_cause_is_named_in_one_line_and_it_heals_when_it_is_gone(
    place: Place, wrong: Wrong
) -> None:
    began_s = time.monotonic()
    wrong.begin(place)
    changed_s = time.monotonic()
    line = wrongs.found(place, wrong)
    named_s = time.monotonic()
    said = wrong.said or wrong.symptom
    own = host.eventually(
        f"a pod says {said!r}",
        lambda: [each for each in place.said() if said in each],
        bool,
    )
    wrong.end(place)
    ended_s = time.monotonic()
    wrongs.well(place, wrong.release)

    healed_s = time.monotonic() - ended_s
    host.say(
        f"| {wrong.what} | `{line}` | {own[-1][:200]} | {changed_s - began_s:.0f}"
        f" | {named_s - changed_s:.0f} | {healed_s:.0f} |"
    )


def test_an_agent_without_code_for_its_processor_makes_its_own_and_says_so(place: Place) -> None:
    """As on a node without AVX2, where no level of the image's code is chosen either.

    The processor of a pod cannot be changed; so the folder of compiled code is taken away.
    """
    began_s = time.monotonic()
    nowhere = {"name": "MIDSTREAMER_KERNELS_AHEAD", "value": "/nowhere"}
    place.fleet(extraEnv=[nowhere]).put()
    wrongs.well(place)

    (agent,) = place.fleet().pods("agent")
    log = place.kubernetes("logs", agent["metadata"]["name"])
    host.say(f"an agent that compiles by itself was ready after {time.monotonic() - began_s:.0f} s")
    assert "MIDSTREAMER_KERNELS_AHEAD=/nowhere: there is no such folder" in log
