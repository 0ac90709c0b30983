"""What becomes of a stream's batch, and what an answer says of its records."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.mappings import batches
from faas.mappings.batches import EXHAUSTED, TOO_OLD, Batch
from faas.mappings.shapes import Entry, failures, packed
from faas.model.mapping import EventSourceMapping

ARN = "arn:aws:redis:us-east-1:000000000000:stream/s"


def mapping(**settings):
    return EventSourceMapping("u", ARN, "f", "$LATEST", "arn", 0.0, **settings)


def batch(count=4, **settings):
    entries = tuple(Entry(f"{1_000_000 + n * 1000}-0", {b"n": b"1"}) for n in range(count))
    return Batch(entries, **settings)


def test_an_error_is_tried_again_until_the_retries_are_used_up():
    now = batch()
    for tries in range(2):
        step = batches.failed(now, mapping(max_retries=2))
        (now,) = step.again
        assert (now.tries, step.lost) == (tries + 1, None)
    step = batches.failed(now, mapping(max_retries=2))
    assert (step.lost.entries, step.condition, step.again) == (now.entries, EXHAUSTED, ())


def test_a_batch_that_is_to_be_halved_is_halved_down_to_the_one_that_fails():
    poison = batch().entries[2]
    pending, done, lost = [batch()], [], []
    while pending:
        now = pending.pop(0)
        if poison in now.entries:
            step = batches.failed(now, mapping(bisect=True, max_retries=1))
        else:
            step = batches.succeeded(now, (), mapping())
        pending[:0] = step.again
        done += step.done
        lost += step.lost.entries if step.lost else ()
    assert lost == [poison]
    assert [each.id for each in done] == ["1000000-0", "1001000-0", "1003000-0"]


def test_all_before_the_first_reported_failure_is_done_with():
    step = batches.succeeded(batch(), {"1002000-0"}, mapping())
    assert [each.id for each in step.done] == ["1000000-0", "1001000-0"]
    assert [each.id for each in step.again[0].entries] == ["1002000-0", "1003000-0"]


def test_old_entries_are_given_up_and_the_rest_goes_on():
    step = batches.before(batch(), mapping(max_age=60), now=1061.5)
    assert [each.id for each in step.lost.entries] == ["1000000-0", "1001000-0"]
    assert (step.condition, len(step.again[0].entries)) == (TOO_OLD, 2)
    assert batches.before(batch(), mapping(max_age=60), now=1060.0) is None
    assert batches.before(batch(), mapping(), now=1e9) is None


def test_calls_that_could_not_be_made_are_waited_for_and_not_counted():
    now, waits = batch(), []
    for _ in range(9):
        step = batches.hindered(now)
        (now,) = step.again
        waits.append(step.wait)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert now.tries == 0


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"", set()),
        (b"null", set()),
        (b'"text"', set()),
        (b"{}", set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "a"}]}', {"a"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "x"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{}]}', {"a", "b"}),
        (b'{"batchItemFailures": ["a"]}', {"a", "b"}),
        (b'{"batchItemFailures": "a"}', {"a", "b"}),
        (b"not json", {"a", "b"}),
    ],
)
def test_an_answer_names_what_failed_and_one_without_sense_names_all(answer, failed):
    assert failures(answer, ["a", "b"]) == failed


@given(st.lists(st.integers(0, 50)), st.integers(10, 200))
def test_records_are_cut_in_order_into_calls_that_are_small_enough(sizes, limit):
    records = [{"x": "y" * size} for size in sizes]
    cuts = packed(records, limit)
    assert [each for cut in cuts for each in records[cut]] == records
    for cut in cuts:
        size = sum(len(json.dumps(each, separators=(",", ":"))) + 1 for each in records[cut])
        assert size <= limit or len(records[cut]) == 1
