"""A stop flag set in another thread ends a search within milliseconds."""

import statistics
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import midstreamer_kernels as kernels
from tests.support.thread_time import used_s

ENDS_WITHIN_MS = 5.0
TRIES = 5
LONG = 4096
"""Length of a window: one comparison over the full matrix of such windows takes seconds."""

Searching = Callable[[kernels.Stop], object]


def a_history(n: int, seed: int = 1, engine: str = "auto") -> kernels.History:
    walk = np.random.default_rng(seed).standard_normal(n).cumsum()
    return kernels.History(walk, dtype="float64", engine=engine)


def a_search(engine: str, measure: str, m: int, band: int, n: int) -> Searching:
    """Return a search whose window statistics are already computed, so it only compares."""
    run, query = kernels.Run(a_history(n)), np.random.default_rng(2).standard_normal(m)
    epsilon = 0.3 if measure == "lcss" else None

    def search(stop: kernels.Stop) -> object:
        return kernels.nearest(
            [run], query, 8, measure=measure, epsilon=epsilon, band=band, engine=engine, stop=stop
        )

    # The first search compiles what is missing; the second computes the statistics of the run.
    for warm in (kernels.Run(a_history(100)), run):
        kernels.nearest(
            [warm],
            query[:50] if warm is not run else query,
            1,
            measure=measure,
            epsilon=epsilon,
            band=0,
            cutoff=0.0,
            engine=engine,
        )
    return search


def ended_ms(searching: Searching, after_s: float) -> float:
    """Start a search and set its stop flag after `after_s` seconds.

    Return the processor time that the search used after that, in milliseconds. The search must
    still be running when the flag is set.
    """
    stop, ended, raised = kernels.Stop(), [0.0], []

    def work() -> None:
        try:
            searching(stop)
        except kernels.StoppedError as error:
            raised.append(error)
        ended[0] = time.thread_time()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(after_s)
    assert thread.is_alive(), "the search ended before its stop flag was set: make it longer"
    at_the_flag_s = used_s(thread)
    stop.set()
    thread.join(10.0)
    assert raised
    return 1000.0 * (ended[0] - at_the_flag_s)


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
@pytest.mark.parametrize(
    ("m", "band", "n"), [(LONG, LONG, 20_000), (128, 60, 200_000), (512, 100, 100_000)]
)
def test_a_search_ends_within_milliseconds_of_its_flag(
    engine: str, measure: str, m: int, band: int, n: int
) -> None:
    searching = a_search(engine, measure, m, band, n)

    tries = [ended_ms(searching, 0.02 + 0.01 * attempt) for attempt in range(TRIES)]

    print(f"{engine} {measure} m={m} band={band}: {[round(ms, 2) for ms in tries]} ms")  # noqa: T201 - seen with -s
    assert statistics.median(tries) < ENDS_WITHIN_MS


def test_making_the_statistics_of_long_windows_ends_too(engine: str) -> None:
    query = np.random.default_rng(2).standard_normal(LONG)
    tries = []
    for seed in range(TRIES):
        run = kernels.Run(a_history(1_000_000, seed))

        def search(stop: kernels.Stop, run: kernels.Run = run) -> object:
            return kernels.nearest([run], query, 8, band=0, engine=engine, stop=stop)

        tries.append(ended_ms(search, 0.05))

    assert statistics.median(tries) < ENDS_WITHIN_MS


def test_a_flag_that_was_set_before_gives_no_result(engine: str) -> None:
    stop = kernels.Stop()
    stop.set()

    with pytest.raises(kernels.StoppedError):
        a_history(1000, engine=engine).search(np.arange(16.0), 3, stop=stop)
    with pytest.raises(kernels.StoppedError):
        kernels.nearest(
            [kernels.Run(a_history(1000))], np.arange(16.0), 3, engine=engine, stop=stop
        )


@pytest.mark.parametrize("measure", ["dtw", "lcss"])
def test_the_search_after_a_stopped_one_is_as_ever(engine: str, measure: str) -> None:
    history, query = a_history(3000, engine=engine), np.random.default_rng(3).standard_normal(40)
    expected = history.search(query, 9, measure=measure, epsilon=0.2, band=5)
    stop = kernels.Stop()
    stop.set()
    with pytest.raises(kernels.StoppedError):
        history.search(query, 9, measure=measure, epsilon=0.2, band=5, stop=stop)

    found = history.search(query, 9, measure=measure, epsilon=0.2, band=5, stop=kernels.Stop())

    assert found.index.tobytes() == expected.index.tobytes()
    assert found.distance.tobytes() == expected.distance.tobytes()


def test_statistics_stopped_half_way_are_finished_by_the_next_search(engine: str) -> None:
    walk, query = np.random.default_rng(4).standard_normal(100_000).cumsum(), np.arange(2048.0)
    run, stop = kernels.Run(kernels.History(walk, dtype="float64")), kernels.Stop()
    stop.set()
    with pytest.raises(kernels.StoppedError):
        kernels.nearest([run], query, 4, band=0, engine=engine, stop=stop)

    found = kernels.nearest([run], query, 4, band=0, engine=engine)

    fresh = kernels.Run(kernels.History(walk, dtype="float64"))
    expected = kernels.nearest([fresh], query, 4, band=0, engine=engine)
    assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]
