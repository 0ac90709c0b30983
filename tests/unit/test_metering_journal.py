"""The journal of usage: what a crash, a full disk or a damaged file leaves of it."""

import os
import subprocess
import sys

import pytest

from gateway.metering import journal as journals
from gateway.metering.journal import Journal
from wherry.errors import StartError


def ids(journal):
    return [held.id for held in journal.waiting(1 << 30)]


def bodies(journal):
    return [held.body for held in journal.waiting(1 << 30)]


def killed(journal):
    """End a journal as a kill does: descriptors are closed, nothing else happens."""
    if journal._file >= 0:
        os.close(journal._file)
    os.close(journal._lock)


@pytest.fixture
def journal(tmp_path):
    made = Journal.begun(tmp_path / "usage")
    yield made
    made.close()


def test_records_wait_in_order_until_they_are_sent(journal):
    journal.write([b"one", b"two"])
    journal.write([b"three"])
    assert bodies(journal) == [b"one", b"two", b"three"]
    journal.sent(2)
    assert bodies(journal) == [b"three"]
    journal.sent(1)
    assert (bodies(journal), journal.size) == ([], 0)


def test_no_more_than_asked_is_read_at_once_but_at_least_one(journal):
    journal.write([b"x" * 100] * 3)
    assert len(journal.waiting(250)) == 2
    assert len(journal.waiting(1)) == 1


def test_a_segment_that_was_sent_is_removed_and_the_folder_goes_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 50)
    made = Journal.begun(tmp_path / "usage")
    for n in range(6):
        made.write([b"%d" % n * 30])
    segments = list((tmp_path / "usage").rglob("*.usage"))
    assert len(segments) == 3
    made.sent(3)
    assert len(list((tmp_path / "usage").rglob("*.usage"))) == 2
    made.sent(3)
    made.close()
    assert list((tmp_path / "usage").iterdir()) == []


def test_what_a_killed_process_left_has_the_same_ids(tmp_path):
    made = Journal.begun(tmp_path)
    made.write([b"one", b"two"])
    before = ids(made)
    killed(made)
    (left,) = Journal.left(tmp_path)
    assert (ids(left), bodies(left)) == (before, [b"one", b"two"])
    left.sent(2)
    left.close()
    assert list(Journal.left(tmp_path)) == []


def test_the_journal_of_a_living_process_is_left_alone(tmp_path):
    made = Journal.begun(tmp_path)
    made.write([b"one"])
    assert list(Journal.left(tmp_path)) == []
    made.sent(1)
    made.close()


def test_a_record_that_was_cut_off_ends_its_segment(tmp_path, caplog):
    made = Journal.begun(tmp_path)
    made.write([b"one", b"two"])
    killed(made)
    (segment,) = tmp_path.rglob("*.usage")
    for cut in range(1, 20):
        segment.write_bytes(segment.read_bytes()[:-1])
        (left,) = Journal.left(tmp_path)
        expected = [b"one"] if cut < 19 else []
        assert bodies(left) == expected or cut == 19
        killed(left)
    assert "usage was cut off" in caplog.text


def test_a_damaged_record_is_kept_aside_and_those_before_it_count(tmp_path, caplog):
    made = Journal.begun(tmp_path)
    made.write([b"one", b"two", b"three"])
    killed(made)
    (segment,) = tmp_path.rglob("*.usage")
    data = bytearray(segment.read_bytes())
    data[data.index(b"two")] ^= 1
    segment.write_bytes(data)
    (left,) = Journal.left(tmp_path)
    assert bodies(left) == [b"one"]
    left.sent(1)
    left.close()
    assert "usage is damaged" in caplog.text
    (aside,) = tmp_path.rglob("*.damaged")
    assert b"three" in aside.read_bytes()


def test_a_write_that_failed_gets_the_same_ids_again(tmp_path, monkeypatch):
    made = Journal.begun(tmp_path)
    made.write([b"one"])
    with monkeypatch.context() as full:
        full.setattr(journals.os, "fdatasync", failing)
        with pytest.raises(OSError, match="No space left"):
            made.write([b"two"])
    made.write([b"two", b"three"])
    assert bodies(made) == [b"one", b"two", b"three"]
    before = ids(made)
    killed(made)
    (left,) = Journal.left(tmp_path)
    assert dict(zip(ids(left), bodies(left), strict=True)) == dict(
        zip(before, [b"one", b"two", b"three"], strict=True)
    )
    left.sent(len(ids(left)))
    left.close()
    assert list(tmp_path.iterdir()) == []


def failing(_):
    raise OSError(28, "No space left on device")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="expected a folder that we may write to"):
        Journal.begun(tmp_path / "file" / "usage")


def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_said_to_be_kept(tmp_path):
    program = """
import sys
from pathlib import Path
from gateway.metering.journal import Journal
journal = Journal.begun(Path(sys.argv[1]))
number = 0
while True:
    journal.write([b"%d" % number, b"x" * 5000])
    print(number, flush=True)
    number += 1
"""
    argv = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 50:
                process.kill()
                break
        said = [50, *map(int, process.stdout.read().split())]
    (left,) = Journal.left(tmp_path)
    kept = [int(body) for body in bodies(left) if len(body) < 5000]
    assert kept == list(range(len(kept)))
    assert kept[-1] >= said[-1]
    killed(left)
