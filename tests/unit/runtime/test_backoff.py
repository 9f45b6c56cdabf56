"""`Backoff`: the pauses between retries double up to a bound; half of each pause is random."""

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.runtime.backoff import Backoff

BACKOFF = Backoff(first_s=0.1, most_s=2.0)


def test_pauses_double_up_to_the_bound() -> None:
    assert [BACKOFF.after(failures) for failures in range(1, 8)] == [
        *(0.1, 0.2, 0.4, 0.8, 1.6),
        *(2.0, 2.0),
    ]


@given(failures=st.integers(-5, 10**9), dice=st.floats(0, 1))
def test_half_of_a_pause_is_diced_and_none_is_beyond_the_bound(failures: int, dice: float) -> None:
    whole_s = BACKOFF.after(failures)
    assert whole_s / 2 <= BACKOFF.after(failures, dice=dice) <= whole_s <= BACKOFF.most_s
