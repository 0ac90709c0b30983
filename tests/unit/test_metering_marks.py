"""Marks tell how old the log's events are, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.marks import Marks
from wherry.store.memory import MemoryStore


def marked(*days):
    marks = Marks()
    for day, offset in days:
        marks = marks.noted(day, offset)
    return marks


def test_a_day_is_noted_once():
    assert marked((5, 10), (5, 20), (6, 30)).days == ((5, 10), (6, 30))


def test_an_offset_is_as_old_as_the_day_on_which_it_was_noted():
    marks = marked((5, 10), (6, 30))
    assert [marks.through(day) for day in (5, 6, 7)] == [0, 10, 30]


def test_a_clock_that_was_ahead_makes_nothing_old():
    marks = marked((5, 10), (400, 20), (6, 30))
    assert marks.days == ((5, 10), (6, 20))
    assert marks.noted(6, 40) == marks
    assert marks.noted(7, 40).days == ((5, 10), (6, 20), (7, 40))


def test_old_days_are_left_out_but_for_the_last_of_them():
    marks = marked((5, 10), (6, 30), (9, 40))
    assert marks.since(8).days == ((6, 30), (9, 40))
    assert marks.since(5) == marks
    assert marks.since(100).days == ((9, 40),)
    assert [marks.since(8).through(day) for day in (8, 9, 10)] == [30, 30, 40]


async def test_marks_read_back_as_they_are_written():
    store, marks = MemoryStore(), marked((5, 10), (6, 30))
    assert await Marks.of(store) == Marks()
    record = await store.put("usage/marks", marks.written())
    assert await Marks.of(store) == Marks(marks.days, record.revision)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 10))
def test_whatever_the_clock_does_days_and_offsets_rise_and_nothing_new_is_old(clock, kept):
    marks = Marks()
    for offset, day in enumerate(clock, 1):
        marks = marks.noted(day, offset).since(day - kept)
        days, offsets = [each for each, _ in marks.days], [each for _, each in marks.days]
        assert days == sorted(set(days))
        assert offsets == sorted(offsets)
        assert days[-1] <= day
        assert len(days) <= kept + 2
        if old := marks.through(day - kept):
            assert min(clock[old - 1 : offset]) < day - kept
