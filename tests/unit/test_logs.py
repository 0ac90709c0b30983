"""Functions' logs: order, bounds, what is dropped, and what a restart finds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from faas.telemetry import journal
from faas.telemetry.journal import Journal
from faas.telemetry.logs import MAX_LINE, MAX_RING, MAX_TAIL, Rate, Ring, Tail

SECOND = 1_000_000_000


def texts(lines):
    return [line.text for line in lines]


def test_lines_come_back_in_order_and_after_an_offset():
    ring = Ring(lines=10)
    for number in range(5):
        ring.append(f"line {number}", at_ns=number)
    assert [line.offset for line in ring.after(0)] == [1, 2, 3, 4, 5]
    assert texts(ring.after(3)) == ["line 3", "line 4"]
    assert texts(ring.after(0, limit=2)) == ["line 0", "line 1"]
    assert ring.after(5) == ()
    assert ring.after(99) == ()


def test_a_full_ring_drops_the_oldest_line_and_offsets_go_on():
    ring = Ring(lines=3)
    for number in range(5):
        ring.append(str(number), at_ns=0)
    assert [(line.offset, line.text) for line in ring.after(0)] == [(3, "2"), (4, "3"), (5, "4")]
    assert texts(ring.after(4)) == ["4"]


def test_long_lines_are_cut_and_many_of_them_stay_within_the_ring():
    ring = Ring(lines=10_000, rate=Rate(lines=10_000, characters=1 << 30))
    for _ in range(300):
        ring.append("x" * 100_000, at_ns=0)
    kept = ring.after(0)
    assert len(kept) == MAX_RING // MAX_LINE
    assert sum(len(line.text) for line in kept) <= MAX_RING


def test_lines_that_come_too_fast_are_dropped_counted_and_the_log_says_so():
    ring = Ring(lines=100, rate=Rate(lines=10, characters=1000, burst=1.0))
    assert [ring.append("spam", at_ns=0) for _ in range(50)].count(True) == 10
    assert ring.dropped == 40
    ring.note("END", at_ns=0)
    said = "WHERRY 40 lines (160 characters) dropped: over 10 lines or 1000 characters a second"
    assert texts(ring.after(10)) == [said, "END"]


def test_after_a_flood_lines_are_taken_again_once_a_quarter_of_the_room_is_back():
    ring = Ring(lines=100, rate=Rate(lines=8, characters=1000, burst=1.0))
    while ring.append("spam", at_ns=0):
        pass
    assert not ring.append("too early", at_ns=SECOND // 8)
    assert ring.append("later", at_ns=SECOND // 2)
    assert texts(ring.after(8))[0].startswith("WHERRY 2 lines")


def test_what_the_platform_says_is_never_dropped():
    ring = Ring(lines=1000, rate=Rate(lines=1, characters=10, burst=1.0))
    for number in range(200):
        ring.note(f"END RequestId: {number}", at_ns=0)
    assert len(ring.after(0)) == 200


@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(0, 30)), max_size=200))
def test_however_lines_come_no_second_and_burst_lets_more_through_than_the_rate(prints):
    rate = Rate(lines=10, characters=100, burst=2.0)
    ring, now, taken = Ring(lines=1000, rate=rate), 0, []
    for pause, size in prints:
        now += pause
        if ring.append("x" * size, at_ns=now):
            taken.append((now, size))
    for index, (start, _) in enumerate(taken):
        for end, _ in taken[index:]:
            within = [size for at, size in taken if start <= at <= end]
            seconds = (end - start) / SECOND
            assert len(within) <= rate.lines * (rate.burst + seconds) + 1e-6
            assert sum(within) <= rate.characters * (rate.burst + seconds) + 1e-6
    assert ring.dropped == len(prints) - len(taken)


def test_a_tail_is_the_last_bytes():
    tail = Tail()
    for number in range(5000):
        tail.append(f"line {number}")
    assert len(tail.text()) == MAX_TAIL
    assert tail.text().endswith(b"line 4998\nline 4999\n")


def test_a_line_that_is_no_unicode_does_not_break_a_tail():
    tail = Tail()
    tail.append("\udc80")
    assert tail.text() == b"?\n"


async def test_after_a_restart_lines_are_there_and_offsets_go_on(tmp_path):
    async with Journal.opened(tmp_path / "logs") as first:
        first.ring("f").append("one", at_ns=1)
        first.ring("f").note("two \n \udc80", at_ns=2)
        first.ring("g").append("other", at_ns=3)
    async with Journal.opened(tmp_path / "logs") as second:
        ring = second.ring("f")
        assert [(each.offset, each.at_ns, each.text) for each in ring.after(0)] == [
            (1, 1, "one"),
            (2, 2, "two \n \udc80"),
        ]
        ring.append("three", at_ns=3)
        assert [each.offset for each in ring.after(2)] == [3]
        assert texts(second.ring("g").after(0)) == ["other"]


async def test_after_a_kill_offsets_jump_over_what_followers_may_have_seen(tmp_path):
    async with Journal.opened(tmp_path) as first:
        first.ring("f").append("one", at_ns=1)
    (tmp_path / ".running").touch()
    async with Journal.opened(tmp_path) as second:
        second.ring("f").append("two", at_ns=2)
        [one, two] = second.ring("f").after(0)
        assert one.offset == 1
        assert two.offset > 1000
    async with Journal.opened(tmp_path) as third:
        third.ring("f").append("three", at_ns=3)
        assert third.ring("f").after(two.offset)[0].offset == two.offset + 1


async def test_torn_and_foreign_lines_in_a_file_are_left_out(tmp_path):
    async with Journal.opened(tmp_path) as first:
        first.ring("f").append("one", at_ns=1)
    with (tmp_path / "f.log").open("ab") as file:
        file.write(b'nonsense\n{"a": 1}\n[7]\n[2, 5, "two"]\n[3, 6, "thr')
    async with Journal.opened(tmp_path) as second:
        assert texts(second.ring("f").after(0)) == ["one", "two"]
        second.ring("f").append("four", at_ns=7)
    async with Journal.opened(tmp_path) as third:
        assert texts(third.ring("f").after(0)) == ["one", "two", "four"]


async def test_a_function_that_prints_without_end_costs_two_files(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FILE_BYTES", 10_000)
    rate = Rate(lines=1 << 20, characters=1 << 30)
    async with Journal.opened(tmp_path, rate) as log:
        for round_ in range(50):
            for number in range(20):
                log.ring("f").append(f"{round_}.{number} " + "x" * 80, at_ns=0)
            await log.flush()
        newest = log.ring("f").after(0)[-1]
    files = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(files) == {"f.log", "f.log.1"}
    assert all(size <= 10_000 for size in files.values())
    assert json.loads((tmp_path / "f.log").read_bytes().splitlines()[-1])[0] == newest.offset
    assert oct((tmp_path / "f.log").stat().st_mode & 0o777) == "0o600"


async def test_a_hundred_megabytes_of_prints_cost_bounded_disk_and_memory(tmp_path):
    async with Journal.opened(tmp_path) as log:
        ring, line = log.ring("f"), "x" * 1000
        for number in range(100_000):
            ring.append(line, at_ns=number * 10_000)
        ring.note("END", at_ns=SECOND)
        assert sum(len(each.text) for each in ring.after(0, limit=10_000)) <= MAX_RING
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10 << 20
    assert ring.dropped > 90_000


async def test_a_file_that_takes_nothing_costs_its_lines_and_nothing_else(tmp_path):
    async with Journal.opened(tmp_path) as log:
        one, other = log.ring("f"), log.ring("g")
        (tmp_path / "f.log").mkdir()
        one.append("lost", at_ns=1)
        other.append("kept", at_ns=1)
        await log.flush()
        assert log.lost == 1
        assert texts(one.after(0)) == ["lost"]
        (tmp_path / "f.log").rmdir()
        one.append("after", at_ns=2)
    async with Journal.opened(tmp_path) as second:
        assert texts(second.ring("f").after(0)) == ["after"]
        assert texts(second.ring("g").after(0)) == ["kept"]


async def test_lines_that_wait_too_many_at_once_miss_the_file_and_are_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "MOST_PENDING", 10)
    async with Journal.opened(tmp_path) as log:
        ring = log.ring("f")
        for text in ("0123456789", "more"):
            ring.append(text, at_ns=1)
        assert (log.lost, texts(ring.after(0))) == (1, ["0123456789", "more"])
    async with Journal.opened(tmp_path) as second:
        assert texts(second.ring("f").after(0)) == ["0123456789"]


async def test_the_log_of_a_deleted_function_is_gone(tmp_path):
    async with Journal.opened(tmp_path) as log:
        old = log.ring("f")
        old.append("secret", at_ns=1)
        await log.flush()
        log.forget("f")
        old.append("late", at_ns=2)
        assert log.ring("f").after(0) == ()
    assert list(tmp_path.iterdir()) == []


async def test_without_a_folder_logs_are_in_memory_only():
    async with Journal.opened(None) as log:
        log.ring("f").append("one", at_ns=1)
        assert texts(log.ring("f").after(0)) == ["one"]
