"""The outbox sends items in order and in batches until each is stored; none is lost or doubled."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.coordinator.outbox import (
    Answered,
    Effect,
    Failed,
    Limits,
    Offered,
    Outbox,
    Post,
    Reject,
    Settle,
    Tick,
)
from midstreamer.coordinator.outbox_writer import Writer
from midstreamer.coordinator.stored_items import Item, receipts_of
from midstreamer.domain import errors
from midstreamer.domain.series import Column, column
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Caller, PartRefused, Write, Written
from tests.support.fleet import a_decision


def ticks(*times: int, series: str = "u/s") -> Column:
    return column(series, times, [float(time) for time in times])


def an_item(
    *times: int, series: str = "u/s", deadline_s: float | None = None, of: str = ""
) -> Item:
    return Item((ticks(*times, series=series),), deadline_s=deadline_s, identity=of)


def post(effects: list[Effect]) -> Write:
    (effect,) = [effect for effect in effects if isinstance(effect, Post)]
    return effect.write


def written(write: Write, position: int = 7) -> Written:
    return Written(position=position, stored=sum(len(c) for c in write.columns))


def test_the_first_item_goes_at_once() -> None:
    write = post(Outbox().handle(Offered(1, an_item(1)), 0.0))
    assert write.sequence == 1
    assert [list(column.times_array()) for column in write.columns] == [[1]]


def test_what_waits_behind_a_write_is_packed_into_the_next() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    for key in range(1, 21):
        assert outbox.handle(Offered(key, an_item(1 + key)), 0.0) == []
    second = post(outbox.handle(Answered(first.sequence, written(first)), 0.1))
    assert len(second.columns) == 20
    assert second.sequence == 2


def test_a_batch_ends_at_so_many_columns() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    column = ticks(1)
    for key in range(1, 4):
        outbox.handle(Offered(key, Item((column,) * 400)), 0.0)
    second = post(outbox.handle(Answered(first.sequence, written(first)), 0.1))
    assert len(second.columns) == 800 <= frames.COLUMNS_MAX


def test_a_write_names_the_caller_of_each_part() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    decided = Item(decisions=(a_decision(),), identity="client/b")
    items = [replace(an_item(2), identity="client/b"), decided, an_item(3)]
    for key, item in enumerate(items, 1):
        outbox.handle(Offered(key, item), 0.0)
    second = post(outbox.handle(Answered(first.sequence, written(first)), 0.1))
    assert first.callers == (Caller("", 1, 0),)
    assert second.callers == (Caller("client/b", 1), Caller("", 1), Caller("client/b", 0, 1))


def test_an_item_that_sync_refuses_fails_alone_and_at_once() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    for key in range(1, 4):
        outbox.handle(Offered(key, an_item(1 + key)), 0.0)
    second = post(outbox.handle(Answered(first.sequence, written(first)), 0.1))
    answer = Written(position=8, stored=2, refused=(PartRefused(1, "quota_exceeded", "no"),))
    settled = outbox.handle(Answered(second.sequence, answer), 0.2)
    assert [(effect.key, type(effect)) for effect in settled if not isinstance(effect, Post)] == [
        (1, Settle), (2, Reject), (3, Settle)
    ]  # fmt: skip
    (error,) = [effect.error for effect in settled if isinstance(effect, Reject)]
    assert isinstance(error, errors.QuotaExceeded)
    assert outbox.depth == 0


def test_a_batch_ends_at_its_size() -> None:
    outbox = Outbox(Limits(batch_bytes_max=3 * an_item(1).size))
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    for key in range(1, 6):
        outbox.handle(Offered(key, an_item(1 + key)), 0.0)
    second = post(outbox.handle(Answered(1, written(first)), 0.1))
    assert len(second.columns) == 3


def test_an_item_beyond_the_size_goes_alone() -> None:
    outbox = Outbox(Limits(batch_bytes_max=10))
    assert len(post(outbox.handle(Offered(0, an_item(1)), 0.0)).columns) == 1


def test_a_decision_is_not_sent_twice_in_one_write() -> None:
    outbox, same = Outbox(), a_decision()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    outbox.handle(Offered(1, Item(decisions=(same,))), 0.0)
    outbox.handle(Offered(2, Item(decisions=(same,))), 0.0)
    assert len(post(outbox.handle(Answered(1, written(first)), 0.1)).decisions) == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreError("away", retry_after_s=0.5),
        errors.LinkClosed("cut"),
        errors.DeadlineExceeded("slow"),
    ],
)
def test_a_write_is_sent_again_unchanged_until_sync_is_back(
    error: errors.MidstreamerError,
) -> None:
    outbox = Outbox()
    write = post(outbox.handle(Offered(1, an_item(1)), 0.0))
    assert outbox.handle(Failed(write.sequence, error), 0.0) == []
    wakeup_s = outbox.next_wakeup_s()
    assert wakeup_s is not None
    assert wakeup_s > 0
    assert post(outbox.handle(Tick(), wakeup_s)) == write


def test_a_refused_item_does_not_fail_its_neighbours() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    for key in range(1, 6):
        outbox.handle(Offered(key, an_item(1 + key)), 0.0)
    effects = outbox.handle(Answered(first.sequence, written(first)), 0.0)
    settled: dict[int, str] = {}
    while any(isinstance(effect, Post) for effect in effects):
        write = post(effects)
        bad = any(4 in column.times_array() for column in write.columns)
        answer = errors.Conflict("the same key") if bad else None
        effects = outbox.handle(
            Failed(write.sequence, answer) if answer else Answered(write.sequence, written(write)),
            0.0,
        )
        settled |= {e.key: type(e).__name__ for e in effects if not isinstance(e, Post)}
    assert settled == {1: "Settle", 2: "Settle", 3: "Reject", 4: "Settle", 5: "Settle"}


@pytest.mark.parametrize(
    ("deadline_s", "error", "given_up"),
    [
        (None, errors.MidstreamerError("the write failed at sync"), False),
        (None, errors.RemoteProtocolError("what is this"), False),
        (None, errors.StaleTick("too old"), True),
        (None, errors.LocalProtocolError("too large for a frame"), True),
        (9.0, errors.MidstreamerError("the write failed at sync"), True),
    ],
)
def test_an_error_that_nobody_foresaw_refuses_nothing_that_was_promised(
    deadline_s: float | None, error: errors.MidstreamerError, given_up: bool
) -> None:
    outbox = Outbox()
    (post,) = outbox.handle(Offered(1, an_item(1, deadline_s=deadline_s)), 0.0)
    assert isinstance(post, Post)
    effects = outbox.handle(Failed(post.write.sequence, error), 0.0)
    assert effects == ([Reject(1, error)] if given_up else [])
    wakeup_s = outbox.next_wakeup_s()
    if given_up:
        assert (outbox.depth, wakeup_s) == (0, None)
    else:
        assert wakeup_s is not None
        assert outbox.handle(Tick(), wakeup_s) == [post]


def test_an_error_that_nobody_foresaw_still_parts_the_items_of_a_write() -> None:
    outbox = Outbox()
    (first,) = outbox.handle(Offered(1, an_item(1)), 0.0)
    for key in (2, 3):
        outbox.handle(Offered(key, an_item(key)), 0.0)
    assert isinstance(first, Post)
    (both,) = outbox.handle(Answered(first.write.sequence, written(first.write)), 0.0)[1:]
    assert isinstance(both, Post)
    (half,) = outbox.handle(Failed(both.write.sequence, errors.MidstreamerError("bug")), 0.0)
    assert isinstance(half, Post)
    assert half.write.columns == both.write.columns[:1]


def test_a_passed_deadline_gives_an_item_up_and_says_it_may_be_stored() -> None:
    outbox = Outbox()
    write = post(outbox.handle(Offered(1, an_item(1, deadline_s=1.0)), 0.0))
    outbox.handle(Failed(write.sequence, errors.StoreError("away", retry_after_s=0.5)), 0.9)
    (reject,) = outbox.handle(Tick(), 1.0)
    assert isinstance(reject, Reject)
    assert isinstance(reject.error, errors.DeadlineExceeded)
    assert "may be stored" in reject.error.message
    assert outbox.depth == 0


def test_an_item_given_up_tells_what_kept_it_from_being_stored() -> None:
    outbox = Outbox()
    write = post(outbox.handle(Offered(1, an_item(1, deadline_s=1.0)), 0.0))
    full = errors.StoreError("the disk is full", retry_after_s=5.0)
    outbox.handle(Failed(write.sequence, full), 0.5)
    (effect,) = outbox.handle(Tick(), 1.0)
    assert isinstance(effect, Reject)
    assert effect.error.message.endswith("error[store]: the disk is full")


def test_the_late_are_taken_out_of_a_write_that_is_then_another_write() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    outbox.handle(Offered(1, an_item(2, deadline_s=1.0)), 0.0)
    outbox.handle(Offered(2, an_item(3)), 0.0)
    both = post(outbox.handle(Answered(first.sequence, written(first)), 0.0))
    outbox.handle(Failed(both.sequence, errors.StoreError("", retry_after_s=1.0)), 0.5)
    effects = outbox.handle(Tick(), 1.5)
    left = post(effects)
    assert [list(column.times_array()) for column in left.columns] == [[3]]
    assert left.sequence > both.sequence


SIZE = an_item(1, of="client/greedy").size


@pytest.mark.parametrize("limits", [Limits(items_max=2), Limits(bytes_max=2 * SIZE)])
def test_a_full_outbox_refuses_with_a_time_to_come_back(limits: Limits) -> None:
    outbox = Outbox(limits)
    outbox.handle(Offered(1, an_item(1, of="client/u1")), 0.0)
    outbox.handle(Offered(2, an_item(2, of="client/u2")), 0.0)
    (reject,) = outbox.handle(Offered(3, an_item(3, of="client/u3")), 0.0)
    assert isinstance(reject, Reject)
    assert isinstance(reject.error, errors.Overloaded)
    assert reject.error.retry_after_s > 0


@pytest.mark.parametrize("limits", [Limits(items_max=4), Limits(bytes_max=4 * SIZE)])
def test_one_identity_has_at_most_half_of_the_outbox(limits: Limits) -> None:
    outbox = Outbox(limits)
    for key in range(2):
        outbox.handle(Offered(key, an_item(1 + key, of="client/greedy")), 0.0)
    (reject,) = outbox.handle(Offered(2, an_item(3, of="client/greedy")), 0.0)
    assert isinstance(reject, Reject)
    assert f"2 writes of {2 * SIZE} B of client/greedy" in str(reject.error)
    assert outbox.handle(Offered(3, an_item(1, series="u/t", of="client/good")), 0.0) == []


def test_identities_take_turns_in_a_write() -> None:
    outbox = Outbox(Limits(batch_bytes_max=2 * SIZE))
    first = post(outbox.handle(Offered(0, an_item(1, of="client/greedy")), 0.0))
    for key in range(1, 21):
        outbox.handle(Offered(key, an_item(1 + key, of="client/greedy")), 0.0)
    outbox.handle(Offered(21, an_item(1, series="u/t", of="client/good")), 0.0)
    second = post(outbox.handle(Answered(1, written(first)), 0.1))
    assert [column.series for column in second.columns] == ["u/s", "u/t"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(("u/x", "u/y"))), min_size=1, max_size=30
    ),
    st.integers(1, 4),
    st.data(),
)
def test_ticks_of_a_series_keep_their_order_with_any_senders(
    offers: list[tuple[str, str]], batch: int, data: st.DataObject
) -> None:
    outbox = Outbox(Limits(batch_bytes_max=batch * SIZE))
    effects: list[Effect] = []
    for time, (identity, series) in enumerate(offers):
        effects += outbox.handle(Offered(time, an_item(time, series=series, of=identity)), 0.0)
    stored: dict[str, list[int]] = {"u/x": [], "u/y": []}
    while posts := [effect for effect in effects if isinstance(effect, Post)]:
        (write,) = (effect.write for effect in posts)
        if len(write.columns) > 1 and data.draw(st.booleans()):
            effects = outbox.handle(Failed(write.sequence, errors.BadInput("somebody's")), 0.0)
            continue
        for part in write.columns:
            stored[part.series] += part.times_array().tolist()
        effects = outbox.handle(Answered(write.sequence, written(write)), 0.0)
    assert sum(map(len, stored.values())) == len(offers)
    assert all(times == sorted(times) for times in stored.values())


def test_bad_items_of_one_identity_do_not_delay_those_of_another() -> None:
    outbox, good = Outbox(), an_item(1, series="u/good", of="client/good")
    effects = outbox.handle(Offered(0, an_item(1, series="bad/0", of="client/greedy")), 0.0)
    for key in range(1, 101):
        outbox.handle(Offered(key, an_item(1, series=f"bad/{key}", of="client/greedy")), 0.0)
    writes = 0
    settled: list[int] = []
    while 1000 not in settled:
        write, writes = post(effects), writes + 1
        # At this time the outbox is still separating the bad items from the good ones.
        if writes == 3:
            outbox.handle(Offered(1000, good), 0.0)
        bad = any(column.series.startswith("bad") for column in write.columns)
        answer = Failed(write.sequence, errors.BadInput("bad"))
        effects = outbox.handle(answer if bad else Answered(write.sequence, written(write)), 0.0)
        settled += [effect.key for effect in effects if isinstance(effect, Settle)]
    assert writes <= 5


def test_each_item_gets_its_own_result() -> None:
    items = [an_item(1, 2), an_item(3, 4, series="u/t"), Item(decisions=(a_decision(),))]
    stored = a_decision()
    answer = Written(position=9, stored=2, repeated=3, column_repeats=(2, 0), decisions=(stored,))
    first, second, third = receipts_of(items, answer)
    assert (first.stored, first.repeated) == (0, 2)
    assert (second.stored, second.repeated) == (2, 0)
    assert (third.stored, third.repeated, third.decisions) == (0, 1, (stored,))
    assert {receipt.position for receipt in (first, second, third)} == {9}


# The tests below draw at random which Writes to the store fail.


class Store:
    """A stand-in for sync with natural keys: it stores a repeated tick only once."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def commit(self, write: Write) -> Written | errors.MidstreamerError:
        times = [int(time) for column in write.columns for time in column.times_array()]
        if any(time < 0 for time in times):
            return errors.BadInput("negative")
        repeats = tuple(
            sum(int(time) in self.times for time in column.times_array())
            for column in write.columns
        )
        self.times += [time for time in times if time not in self.times]
        return Written(position=len(self.times), repeated=sum(repeats), column_repeats=repeats)


@given(data=st.data())
def test_whatever_fails_every_item_is_settled_once_and_stored_once(data: st.DataObject) -> None:
    store, outbox, now_s = Store(), Outbox(Limits(batch_bytes_max=1000)), 0.0
    posts: list[Write] = []
    ends: dict[int, list[Effect]] = {}

    def take(effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Post):
                posts.append(effect.write)
            else:
                ends.setdefault(effect.key, []).append(effect)

    count = data.draw(st.integers(1, 8))
    bad = data.draw(st.sets(st.integers(1, count)))
    for key in range(1, count + 1):
        take(outbox.handle(Offered(key, an_item(-key if key in bad else key)), now_s))
    for _ in range(200):
        if not posts:
            wakeup_s = outbox.next_wakeup_s()
            if wakeup_s is None:
                break
            now_s = wakeup_s
            take(outbox.handle(Tick(), now_s))
            continue
        write = posts.pop()
        fate = data.draw(st.sampled_from(["lost before", "lost after", "fine"]))
        outcome = store.commit(write) if fate != "lost before" else None
        if fate != "fine" or outcome is None:
            outcome = errors.LinkClosed("cut")
        take(
            outbox.handle(
                Answered(write.sequence, outcome)
                if isinstance(outcome, Written)
                else Failed(write.sequence, outcome),
                now_s,
            )
        )
    else:
        return  # every drawn outcome is a failure, so nothing is stored
    good = set(range(1, count + 1)) - bad
    assert sorted(store.times) == sorted(good)
    assert {key for key, (end,) in ends.items() if isinstance(end, Settle)} == good
    assert {key for key, (end,) in ends.items() if isinstance(end, Reject)} == bad
    assert outbox.depth == 0


# --- the asynchronous writer --------------------------------------------------------------------


async def test_a_writer_settles_what_it_was_offered() -> None:
    async def ask(write: Write, budget_s: float) -> frames.Answer:
        return written(write)

    writer = Writer(ask)
    running = asyncio.ensure_future(writer.run())
    receipts = await asyncio.gather(*(writer.offer(an_item(time)) for time in range(1, 30)))
    assert [receipt.stored for receipt in receipts] == [1] * 29
    await writer.flushed()
    running.cancel()
    await asyncio.wait([running])


async def test_flushing_waits_for_items_that_nobody_awaits_any_more() -> None:
    up = asyncio.Event()

    async def ask(write: Write, budget_s: float) -> frames.Answer:
        await up.wait()
        return written(write)

    writer = Writer(ask)
    running = asyncio.ensure_future(writer.run())
    writer.offer(an_item(1)).cancel()
    flushing = asyncio.ensure_future(writer.flushed())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not flushing.done()
    up.set()
    await flushing
    assert writer.depth == 0
    running.cancel()
    await asyncio.wait([running])


async def test_a_writer_packs_at_least_ten_under_load() -> None:
    sizes: list[int] = []

    async def ask(write: Write, budget_s: float) -> frames.Answer:
        sizes.append(len(write.columns))
        await asyncio.sleep(0)
        return written(write)

    writer = Writer(ask)
    running = asyncio.ensure_future(writer.run())
    await asyncio.gather(*(writer.offer(an_item(time)) for time in range(1, 200)))
    assert len(sizes) <= 3
    running.cancel()
    await asyncio.wait([running])


async def test_a_writer_refuses_when_it_is_full() -> None:
    async def ask(write: Write, budget_s: float) -> frames.Answer:
        raise errors.StoreError("away")

    writer = Writer(ask, Limits(items_max=1))
    waiting = writer.offer(an_item(1))
    with pytest.raises(errors.Overloaded):
        writer.offer(an_item(2))
    waiting.cancel()


def test_items_without_anything_in_them_are_settled_together() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    for key in (1, 2):
        assert outbox.handle(Offered(key, Item(identity="client/u1")), 0.0) == []
    second = post(outbox.handle(Answered(first.sequence, written(first)), 0.0))
    settled = outbox.handle(Answered(second.sequence, written(second)), 0.0)
    assert [effect.key for effect in settled if isinstance(effect, Settle)] == [1, 2]
    assert outbox.depth == 0


def test_an_item_that_postgresql_objects_to_does_not_hold_up_its_neighbours() -> None:
    outbox = Outbox()
    first = post(outbox.handle(Offered(0, an_item(1)), 0.0))
    outbox.handle(Offered(1, an_item(2)), 0.0)
    outbox.handle(
        Offered(
            2,
            an_item(1, series="u/t"),
        ),
        0.0,
    )
    both = post(outbox.handle(Answered(first.sequence, written(first)), 0.0))
    alone = post(outbox.handle(Failed(both.sequence, errors.StoreError("23505: it refused")), 0.0))
    assert (len(both.columns), len(alone.columns)) == (2, 1)
