"""The rollup counts exactly, forgets on time and stays within its bounds."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import wire
from telemetry.edge import OVERFLOW, Edge, Entry
from telemetry.latency import Latencies
from telemetry.rollup import Rollup


def edge(code=200, *, source="web", version="v1", reporter="source", flags="-"):
    return Edge(reporter, source, "v1", "entries", version, code, "http", flags)


edges = st.builds(
    edge,
    st.sampled_from([200, 404, 503]),
    source=st.sampled_from(["web", "fn", "unknown"]),
    version=st.sampled_from(["v1", "v2"]),
    reporter=st.sampled_from(["source", "destination"]),
)


@given(st.lists(st.tuples(edges, st.floats(0, 5), st.floats(0, 9))), st.integers(1, 8))
def test_every_entry_is_counted_once_and_edges_stay_within_the_limit(entries, limit):
    rollup, now, counted = Rollup(max_edges=limit), 0.0, Counter()
    for each, took, pause in entries:
        now += pause
        counted[rollup.add(Entry(each, took), now=now)] += 1
    assert rollup.edges() == counted
    assert rollup.overflowed == counted[OVERFLOW]
    assert len(counted.keys() - {OVERFLOW}) <= limit
    assert all(rollup.edges()[e] == n for e, n in counted.items())


@given(st.lists(st.tuples(edges, st.floats(0, 3)), min_size=1))
def test_traffic_agrees_with_a_reading_of_the_entries_one_by_one(entries):
    rollup, now, seen = Rollup(), 100.0, []
    for each, pause in entries:
        now += pause
        seen.append((each, now))
        rollup.add(Entry(each, 1.0), now=now)
    for line in rollup.traffic(now=now):
        mine = [
            (e, at)
            for e, at in seen
            if (e.source, e.destination_version) == (line.source, line.destination_version)
        ]
        by_source = [(e, at) for e, at in mine if e.reporter == "source"]
        mine = by_source or mine
        assert line.reporter == ("source" if by_source else "destination")
        assert line.requests == len(mine)
        assert line.errors == sum(e.code == 503 for e, _ in mine)
        assert (line.rate > 0) == any(int(at) > int(now) - 10 for _, at in mine)


def test_a_steady_stream_shows_its_rate_from_its_first_seconds_on():
    rollup = Rollup()
    for tick in range(200):
        rollup.add(Entry(edge(503 if tick % 10 == 0 else 200), 2.0), now=50.05 + tick / 10)
        if tick > 50:
            [line] = rollup.traffic(now=50.05 + tick / 10)
            assert line.rate == pytest.approx(10, rel=0.1)
            assert line.error_rate == pytest.approx(1, rel=0.25)


def test_rates_and_latencies_end_with_the_traffic_and_totals_stay():
    rollup = Rollup()
    rollup.add(Entry(edge(503), 20.0), now=5.5)
    [line] = rollup.traffic(now=14.9)
    assert line.rate > 0
    [line] = rollup.traffic(now=15.1)
    assert (line.rate, line.error_rate) == (0, 0)
    assert line.p50 == pytest.approx(20, rel=0.05)
    [line] = rollup.traffic(now=66.0)
    assert (line.p50, line.requests, line.errors) == (None, 1, 1)


def test_where_both_envoys_report_the_callers_is_shown_and_nothing_twice():
    rollup = Rollup()
    for reporter in ("source", "destination"):
        rollup.add(Entry(edge(reporter=reporter), 1.0), now=0)
    rollup.add(Entry(edge(reporter="destination", source="unknown"), 1.0), now=0)
    shown = [(t.source, t.reporter, t.requests) for t in rollup.traffic(now=0)]
    assert sorted(shown) == [("unknown", "destination", 1), ("web", "source", 1)]


def test_the_busiest_line_comes_first():
    rollup = Rollup()
    for version, number in (("v1", 1), ("v2", 3), ("v3", 2)):
        for _ in range(number):
            rollup.add(Entry(edge(version=version), 1.0), now=0)
    assert [t.destination_version for t in rollup.traffic(now=0)] == ["v2", "v3", "v1"]


@given(st.lists(st.floats(0.01, 3_600_000), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_five_percent_of_the_sorted_value(values, q):
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[int(q * (len(values) - 1))]
    assert latencies.quantile(q) == pytest.approx(exact, rel=0.05)


@given(st.lists(st.floats(0, 10_000), min_size=1))
def test_quantiles_never_fall_and_parts_add_up(values):
    parts = [Latencies() for _ in range(3)]
    whole = Latencies()
    for n, value in enumerate(values):
        parts[n % 3].add(value)
        whole.add(value)
    quantiles = [whole.quantile(q / 10) for q in range(11)]
    assert all(a <= b for a, b in pairwise(quantiles))
    assert [Latencies.together(parts).quantile(q / 10) for q in range(11)] == quantiles


def message(**common):
    entry = {
        "common_properties": {
            "custom_tags": {"reporter": "source", "source": "web", "source_version": "v1"},
            "duration": {"seconds": 1, "nanos": 500_000},
            **common,
        },
        "response": {"response_code": {"value": 200}},
    }
    node = {"identifier": {"node": {"id": "sidecar~web"}}}
    return wire.MESSAGES["StreamAccessLogsMessage"](**node, http_logs={"log_entry": [entry]})


def test_a_log_entry_becomes_a_plain_value_with_unknown_where_a_tag_is_missing():
    batch = wire.batch(message().SerializeToString())
    unknown = Edge("source", "web", "v1", "unknown", "unknown", 200, "http", "-")
    assert batch == wire.Batch("sidecar~web", (Entry(unknown, 1000.5),), 0)


def test_response_flags_are_envoys_short_forms():
    flags = {"upstream_retry_limit_exceeded": True, "upstream_connection_failure": True}
    [entry] = wire.batch(message(response_flags=flags).SerializeToString()).entries
    assert entry.edge.flags == "UF,URX"
    [denied] = wire.batch(
        message(response_flags={"unauthorized_details": {"reason": 1}}).SerializeToString()
    ).entries
    assert denied.edge.flags == "UAEX"


def test_every_response_flag_has_a_short_form():
    shape = next(s for s in wire.MESSAGES.shapes if s.name == "ResponseFlags")
    assert {field.name for field in shape.fields} == set(wire.FLAGS)
    assert len(set(wire.FLAGS.values())) == len(wire.FLAGS)


def test_a_grpc_request_says_so():
    grpc = message()
    grpc.http_logs.log_entry[0].request.request_headers["content-type"] = "application/grpc+proto"
    [entry] = wire.batch(grpc.SerializeToString()).entries
    assert entry.edge.protocol == "grpc"


def test_a_tag_that_is_no_utf8_spoils_no_other_entry():
    good = message(custom_tags={"source": "goodgood"})
    bad = good.SerializeToString().replace(b"goodgood", b"\xff\xfe\x80bad.\xff")
    sources = [e.edge.source for e in wire.batch(good.SerializeToString() + bad).entries]
    assert sources == ["goodgood", "\ufffd\ufffd\ufffdbad.\ufffd"]


def test_a_tag_is_cut_at_its_limit_and_a_reporter_is_one_of_two():
    tags = {"source": "x" * 1000, "reporter": "me"}
    [entry] = wire.batch(message(custom_tags=tags).SerializeToString()).entries
    assert (len(entry.edge.source), entry.edge.reporter) == (wire.MAX_TAG, "unknown")


def test_requests_that_go_on_and_tcp_connections_are_skipped():
    going = wire.batch(message(intermediate_log_entry=True).SerializeToString())
    assert (going.entries, going.skipped) == ((), 1)
    tcp = wire.MESSAGES["StreamAccessLogsMessage"](tcp_logs={"log_entry": [{}, {}]})
    assert wire.batch(tcp.SerializeToString()).skipped == 2


def test_bytes_that_are_no_log_are_refused_with_a_reason():
    with pytest.raises(wire.MalformedLog, match="3 bytes that do not parse, expected protobuf"):
        wire.batch(b"\xff\xff\xff")
