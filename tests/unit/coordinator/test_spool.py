"""The spool keeps acknowledged writes through crashes and full disks, until stored or refused."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.coordinator.spool import Spool
from midstreamer.domain.errors import ConfigError, Overloaded, StoreError


@contextmanager
def started(folder: Path, **bounds: int) -> Iterator[tuple[Spool, list[bytes]]]:
    spool = Spool(folder, **{"bytes_max": 1 << 20, **bounds})
    left = [record.payload for record in spool.start()]
    try:
        yield spool, left
    finally:
        spool.close()


def left_in(folder: Path) -> list[bytes]:
    with started(folder) as (_, left):
        return left


def test_what_was_promised_is_played_again_in_order(tmp_path: Path) -> None:
    with started(tmp_path) as (spool, left):
        assert left == []
        spool.append([b"one", b"two"])
        spool.append([b"three"])
    assert left_in(tmp_path) == [b"one", b"two", b"three"]


def test_what_was_settled_is_gone_with_its_segment(tmp_path: Path) -> None:
    with started(tmp_path) as (spool, _):
        for place in spool.append([b"one", b"two"]):
            spool.settle(place)
        assert list(tmp_path.glob("spool-*")) == []
        spool.append([b"three"])
    assert left_in(tmp_path) == [b"three"]


def test_a_segment_stays_while_one_of_its_records_is_open(tmp_path: Path) -> None:
    with started(tmp_path, segment_bytes=16) as (spool, _):
        first = spool.append([b"one"])
        spool.append([b"a longer second"])
        spool.append([b"third"])
        spool.settle(first[0])
    assert left_in(tmp_path) == [b"one", b"a longer second", b"third"]


@given(cut=st.integers(1, 10))
def test_a_record_that_was_being_written_was_never_promised(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with started(folder) as (spool, _):
        spool.append([b"one"])
        spool.append([b"two"])
    (path,) = folder.glob("spool-*")
    path.write_bytes(path.read_bytes()[:-cut])
    with started(folder) as (spool, left):
        assert left == [b"one"]
        spool.append([b"three"])
    assert left_in(folder) == [b"one", b"three"]


def test_a_damaged_record_ends_its_segment(tmp_path: Path) -> None:
    with started(tmp_path) as (spool, _):
        spool.append([b"one", b"two"])
    (path,) = tmp_path.glob("spool-*")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert left_in(tmp_path) == [b"one"]


def test_a_tail_of_zeros_holds_no_records(tmp_path: Path) -> None:
    with started(tmp_path) as (spool, _):
        spool.append([b"one"])
    (path,) = tmp_path.glob("spool-*")
    path.write_bytes(path.read_bytes() + bytes(64))
    with started(tmp_path) as (spool, left):
        assert left == [b"one"]
        assert spool.unread_bytes == 64


def test_what_is_refused_is_set_aside_and_counts_towards_the_bound(tmp_path: Path) -> None:
    with started(tmp_path, bytes_max=200) as (spool, _):
        (place,) = spool.append([b"one"])
        spool.set_aside(place, b"one", "stale")
        (line,) = (tmp_path / "refused").read_bytes().splitlines()
        kept = {"segment": 1, "number": 0, "reason": "stale", "payload": "b25l"}
        assert msgspec.json.decode(line) == kept
        with pytest.raises(Overloaded, match="set aside in"):
            spool.append([bytes(180)])
    with started(tmp_path) as (spool, left):
        assert (left, spool.refused_bytes) == ([], len(line) + 1)


@contextmanager
def a_full_disk() -> Iterator[None]:
    """Limit the size of files to 100 kB, so that a write fails halfway, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("first", [b"one", b""])
def test_a_full_disk_promises_nothing_and_takes_no_room(tmp_path: Path, first: bytes) -> None:
    with started(tmp_path) as (spool, _):
        promised = spool.append([first]) if first else []
        with a_full_disk():
            for _ in range(3):
                with pytest.raises(StoreError, match="spool"):
                    spool.append([bytes(1000)] * 150)
        again = spool.append([b"two"])
        for place in [*promised, *again]:
            spool.settle(place)
        assert list(tmp_path.glob("spool-*")) == []
        spool.append([bytes(1000)] * 1000)  # the failed write must not count as used space


def test_what_was_promised_before_the_disk_was_full_is_kept(tmp_path: Path) -> None:
    with started(tmp_path) as (spool, _):
        spool.append([b"one"])
        with a_full_disk(), pytest.raises(StoreError):
            spool.append([bytes(1000)] * 150)
        spool.append([b"two"])
    assert left_in(tmp_path) == [b"one", b"two"]


def test_a_full_spool_refuses_with_a_time_to_come_back(tmp_path: Path) -> None:
    with started(tmp_path, bytes_max=20) as (spool, _):
        spool.append([b"one"])
        with pytest.raises(Overloaded, match="spool_bytes_max=20") as refused:
            spool.append([b"a longer second"])
    assert refused.value.retry_after_s > 0


def test_two_coordinators_cannot_share_a_spool(tmp_path: Path) -> None:
    with started(tmp_path), pytest.raises(ConfigError, match="no other coordinator"):
        Spool(tmp_path, bytes_max=100).start()
    assert left_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="file/spool"):
        Spool(tmp_path / "file" / "spool", bytes_max=100).start()
