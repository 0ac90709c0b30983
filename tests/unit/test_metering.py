"""Usage as values: batches, sums, the spans of a question, CloudEvents."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.days import written
from gateway.metering import cloudevent, sums
from gateway.metering.batch import MINUTE_NS, BadBatch, Key, Sum, counted, encoded, uses
from gateway.metering.cloudevent import Unusable, moment_ns, reported
from gateway.metering.ingest import parsed
from gateway.metering.sums import Bucket, Level, Rollup, apply, parted, spanned
from gateway.usage import Usage
from wherry.store import MAX_BODY

TEXT = st.text(max_size=20)
USES = st.builds(
    Usage,
    TEXT,
    st.integers(0, 2**62),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.integers(0, 599),
    st.dictionaries(st.sampled_from(["requests", "tokens", "bytes"]), st.integers(0, 10**15)),
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.booleans(),
)


def a_use(n=0, *, consumer="alice", status=200, refused=False, at_ns=0, **amounts):
    amounts = amounts or {"requests": 1}
    return Usage(
        *(f"use-{n}", at_ns, consumer, "default", "shop", "list", "basic", "ab12", status),
        *(amounts, {"method": "GET"}, refused),
    )


# Batches


@given(st.lists(USES, max_size=20))
def test_a_batch_holds_every_use_as_it_was(events):
    bodies = encoded(events)
    assert sorted(map(repr, (use for body in bodies for use in uses(body)))) == sorted(
        map(repr, events)
    )


@given(st.lists(USES, max_size=20))
def test_the_sums_of_a_batch_are_those_of_its_uses(events):
    expected = {}
    for use in events:
        for meter, amount in use.amounts.items():
            at = (
                use.at_ns // MINUTE_NS,
                Key(use.consumer, use.app, use.product, use.plan, use.operation, meter),
            )
            added = Sum(amount, amount if use.billed else 0, 1, int(use.status >= 400))
            expected[at] = expected.get(at, Sum()).plus(added)
    found = {
        (minute, key): value
        for body in encoded(events)
        for minute, values in counted(body)
        for key, value in values.items()
    }
    assert found == expected


def test_a_call_is_billed_unless_the_gateway_refused_it_or_the_upstream_failed():
    assert a_use(status=200).billed
    assert a_use(status=404).billed
    assert a_use(status=499).billed
    assert not a_use(status=500).billed
    assert not a_use(status=413, refused=True).billed


def test_a_batch_that_is_too_large_for_one_record_becomes_several():
    events = [a_use(n)._replace(labels={"noise": os.urandom(4000).hex()}) for n in range(600)]
    bodies = encoded(events)
    assert len(bodies) > 1
    assert all(len(body) <= MAX_BODY for body in bodies)
    assert {use.id for body in bodies for use in uses(body)} == {use.id for use in events}


def test_a_use_whose_labels_fill_a_record_loses_them_and_still_counts():
    huge = a_use()._replace(labels={"noise": os.urandom(2 * MAX_BODY).hex()})
    (body,) = encoded([huge])
    (kept,) = uses(body)
    assert (kept.id, kept.amounts, kept.labels) == (huge.id, {"requests": 1}, {})


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b"[[1]]", b'[["x",1,2,3,4,5,{}]]', b"nothing\n", b"[]\nxx"]
)
def test_what_is_no_batch_is_said(body):
    with pytest.raises(BadBatch, match=r"usage batch: .*, expected what the recorder writes"):
        list(uses(body) if b"\n" in body else counted(body))


# Sums


@given(st.integers(0, 10**7), st.integers(0, 10**5))
def test_the_spans_of_a_question_cover_each_minute_once(first, length):
    last = first + length
    at = first
    for level, begins, ends in spanned(first, last):
        assert begins == at
        assert begins % level.value == 0
        assert (ends - begins) % level.value == 0
        at = ends
    assert at == last


def test_a_question_for_a_month_in_a_zone_off_by_half_an_hour_reads_few_records():
    begins = 20_000 * 1440 + 18 * 60 + 30
    spans = list(spanned(begins, begins + 30 * 1440))
    assert sum((last - first) // level.value for level, first, last in spans) < 2 * (60 + 24) + 31


@given(st.integers(0, 50_000_000), st.sampled_from(Level), st.integers(0, sums.SHARDS - 1))
def test_a_record_is_found_by_the_folders_of_its_time(minute, level, shard):
    bucket = Bucket(level, minute - minute % level.value, shard)
    assert Bucket.of(bucket.key) == bucket
    asked = sums.folders(level, shard, bucket.start, bucket.start + level.value)
    assert any(bucket.key.startswith(folder) for folder in asked)


def test_folders_name_each_hour_day_or_month_once():
    day = 20_000 * 1440
    assert len(list(sums.folders(Level.MINUTE, 0, day + 59, day + 121))) == 3
    assert len(list(sums.folders(Level.HOUR, 0, day, day + 3 * 1440))) == 3
    assert len(list(sums.folders(Level.DAY, 0, day, day + 365 * 1440))) == 13


def test_a_batch_that_is_applied_again_adds_nothing():
    batch = counted(encoded([a_use(1, at_ns=90 * 10**9)])[0])
    added = parted(batch, [Level.DAY])
    ((bucket, values),) = added.items()
    once = apply(Rollup(), [(7, values)])
    assert apply(once, [(7, values)]) == once
    twice = apply(once, [(7, values), (9, values)])
    (total,) = twice.sums.values()
    assert (twice.offset, total.amount) == (9, 2)
    assert sums.read(bucket.key, sums.written(twice)) == twice


# CloudEvents


def an_event(**changes):
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/meters/tokens",
        "type": "dev.wherry.usage.v1",
        "time": "2026-11-30T12:00:00.5Z",
        "data": {"consumer": "alice", "product": "shop", "amounts": {"tokens": 5}},
    }
    event["data"] |= changes.pop("data", {})
    return {key: value for key, value in (event | changes).items() if value is not None}


def test_a_use_that_leaves_as_a_cloud_event_comes_back_the_same():
    use = a_use(3, at_ns=1_764_504_000_123_456_789, tokens=4)._replace(labels={"a": "b"})
    document = json.loads(json.dumps(cloudevent.document(use)))
    back = reported(document, "").usage("basic", 0)
    assert back._replace(labels={"a": "b"}) == use


def test_an_event_without_a_time_is_of_now():
    use = reported(an_event(time=None), "").usage("basic", 42)
    assert (use.at_ns, use.plan, use.amounts) == (42, "basic", {"tokens": 5})


def test_events_of_two_sources_with_one_id_are_two():
    one, other = (reported(an_event(source=source), "") for source in ("/a", "/b"))
    assert one.key != other.key
    assert one.key == reported(an_event(source="/a", time=None), "").key


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (an_event(data={"amounts": {"tokens": -1}}), "/data/amounts/tokens"),
        (an_event(data={"amounts": {"tokens": 0.5}}), "/data/amounts/tokens"),
        (an_event(data={"amounts": {"tokens": True}}), "/data/amounts/tokens"),
        (an_event(data={"amounts": {"tokens": "5"}}), "/data/amounts/tokens"),
        (an_event(data={"amounts": {"tokens": 10**16}}), "/data/amounts/tokens"),
        (an_event(data={"amounts": {}}), "/data/amounts"),
        (an_event(data={"amounts": {"No Meter": 1}}), "/data/amounts/No Meter/[key]"),
        (an_event(data={"consumer": "Not A Name"}), "/data/consumer"),
        (an_event(data={"colour": "red"}), "/data"),
        (an_event(type="other"), "/type"),
        (an_event(specversion="0.3"), "/specversion"),
        (an_event(id=""), "/id"),
        (an_event(id=None), "/id"),
        (an_event(time="yesterday"), "/time"),
        (an_event(time="1969-12-31T23:59:59Z"), "/time"),
        (an_event(time="2026-02-30T00:00:00Z"), "/time"),
        ([], ""),
        (None, ""),
    ],
)
def test_an_event_that_cannot_be_taken_is_refused_with_its_place(event, place):
    with pytest.raises(Unusable) as refused:
        reported(event, "/0")
    assert refused.value.place == f"/0{place}"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b"[{}]"])
def test_a_body_that_holds_no_events_is_refused(body):
    with pytest.raises(Unusable):
        parsed(body)


@given(st.integers(0, 2**61))
def test_a_time_is_written_and_read_exactly(at_ns):
    assert moment_ns(written(at_ns)) == at_ns


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T01:00:01+01:00", 1),
        ("1970-01-01t00:00:01.000000000z", 1),
    ],
)
def test_times_are_read_in_any_zone(text, seconds):
    assert moment_ns(text) == seconds * 10**9
