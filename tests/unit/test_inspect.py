"""What operators see of a stream: rows, refusals with their places, and differences."""

import io
import json
from pathlib import Path
from types import MappingProxyType

import pytest
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wherry.cli import proxy
from wherry.cli.status import NOBODY, age, size, view
from wherry.config import assemble
from xds.encode import encode
from xds.load.status import ClusterLoad, PlaceLoad
from xds.node import Node
from xds.operators.changes import FieldChange, changes
from xds.operators.inspect import Standing, proxies, refusals, sources_of, standings
from xds.operators.metrics import MOST_CLIENTS, MOST_REFUSED, Seen, exposition
from xds.operators.report import REDACTED, configuration, difference
from xds.resource import CLUSTER, ENDPOINT, ROUTE, SECRET, Resource
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream
from xds.status import StreamStatus, types_of
from xds.subscription import Fault
from xds.tally import BOUNDS, Tally

WORLD = assemble(
    {
        Path("mesh.yaml"): """\
services: {one: {}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {type: RegularExpression, value: "/a{900}"}}]
    backendRefs: [{name: one}]
"""
    }
)
MADE_FROM = frozenset({("HTTPRoute", "good"), ("HTTPRoute", "bad")})
NODE = Node("edge~1", "edge", MappingProxyType({"role": "gateway"}), "envoy", "1.40.0")


def cluster(name, seconds=1):
    return Resource(CLUSTER, name, b"\x0a\x01" + name.encode() + b"\x22\x02\x08" + bytes([seconds]))


def talked(before, after, *, error=None):
    """Return the stream of a client that took ``before`` and answered ``after`` with ``error``."""
    stream = SotwStream()
    stream.receive(Request(CLUSTER))
    for snapshot, reason in ((before, None), (after, error)):
        for response in stream.publish(snapshot):
            if snapshot is before or reason:
                stream.receive(Request(CLUSTER, nonce=response.nonce, error=reason))
    return stream


def status(stream, node=NODE, **fields):
    types = types_of(stream.subscriptions, {CLUSTER: 5})
    given_ = {"scope": "s", "variant": "sotw", "since_unix_ns": 0, "settled": True, **fields}
    return StreamStatus(node, types=types, **given_)


def test_a_stream_that_took_everything_is_acked_with_a_version():
    snapshot = Snapshot.of([cluster("a"), cluster("b")])
    [shown] = proxies([status(talked(snapshot, snapshot), scope_size=2)])
    assert (shown.node, shown.role, shown.client_version) == ("edge~1", "gateway", "1.40.0")
    [[row]] = [stream.types for stream in shown.streams]
    assert (row.type, row.state, row.asked, row.held, row.refused) == ("cds", "ack", None, 2, 0)
    assert row.version == snapshot.version(CLUSTER)


def test_streams_of_a_node_are_one_proxy_sorted_by_service():
    snapshot = Snapshot.of([cluster("a")])
    stream = talked(snapshot, snapshot)
    found = proxies(
        [status(stream, service=s) for s in ("lds", "cds")] + [status(stream, Node("a"))]
    )
    assert [each.node for each in found] == ["a", "edge~1"]
    assert [each.service for each in found[1].streams] == ["cds", "lds"]


def test_an_answer_that_is_out_is_pending_and_a_refused_one_says_why():
    before, after = Snapshot.of([cluster("a")]), Snapshot.of([cluster("a", 2)])
    [shown] = proxies([status(talked(before, after))])
    assert shown.streams[0].types[0].state == "pending"
    refusing = status(talked(before, after, error="a: no"))
    [shown] = proxies([refusing])
    assert (shown.streams[0].types[0].state, shown.streams[0].types[0].refused) == ("nack", 1)
    [refusal] = refusals(refusing, after, WORLD)
    assert (refusal.node, refusal.type, refusal.resource) == ("edge~1", "cds", "a")
    assert (refusal.reason, refusal.version) == ("a: no", after.find(CLUSTER, "a").version)
    assert refusal.at_unix_ns == 5
    assert list(refusals(status(talked(before, before)), before, WORLD)) == []


def test_the_source_that_holds_what_the_reason_names_is_the_likely_one():
    route = Resource(ROUTE, "r", b"", sources=MADE_FROM)
    named = sources_of(route, WORLD, "route: invalid repetition size: {900}")
    assert [(s.name, s.where, s.likely) for s in named] == [
        ("bad", "mesh.yaml:13", True),
        ("good", "mesh.yaml:8", False),
    ]
    quoted = sources_of(route, WORLD, "regex '/a{900}' is no good: at all")
    assert [s.name for s in quoted if s.likely] == ["bad"]


def test_without_a_hint_every_source_is_likely_and_one_without_a_file_has_no_place():
    route = Resource(ROUTE, "r", b"", sources=MADE_FROM | {("Function", "f")})
    found = sources_of(route, WORLD, "no")
    assert all(source.likely for source in found)
    assert {source.name: source.where for source in found}["f"] is None


A1, A2 = cluster("a"), cluster("a", 2)
FAULT = Fault(A2.version, "no")


@pytest.mark.parametrize(
    ("held", "sent", "wanted", "fault", "state"),
    [
        (A1, None, A1, None, "held"),
        (A1, A2, A2, None, "sent"),
        (A1, None, A2, None, "older"),
        (None, None, A1, None, "missing"),
        (None, A1, A1, None, "sent"),
        (A1, None, None, None, "lingering"),
        (None, None, None, None, "unknown"),
        (A1, None, A2, FAULT, "refused"),
        (A1, None, A1, FAULT, "held"),
    ],
)
def test_how_a_resource_stands(held, sent, wanted, fault, state):
    assert Standing(CLUSTER, "a", held, sent, wanted, fault).state == state


def test_every_resource_that_is_wanted_sent_or_held_stands_somewhere():
    before = Snapshot.of([cluster("a"), cluster("b"), cluster("c")])
    after = Snapshot.of([cluster("a"), cluster("b", 2), cluster("d")])
    stream = talked(before, after)
    stream.receive(Request(ENDPOINT, frozenset({"none"})))
    found = {(s.type_url, s.name): s.state for s in standings(stream.subscriptions, after)}
    assert found == {
        (CLUSTER, "a"): "held",
        (CLUSTER, "b"): "sent",
        (CLUSTER, "c"): "lingering",
        (CLUSTER, "d"): "sent",
        (ENDPOINT, "none"): "unknown",
    }
    only = standings(stream.subscriptions, after, ENDPOINT)
    assert [each.name for each in only] == ["none"]


def test_the_configuration_has_what_was_acknowledged_and_what_is_out():
    before, after = Snapshot.of([cluster("a")]), Snapshot.of([cluster("a", 2)])
    found = [("ads", s) for s in standings(talked(before, after).subscriptions, after)]
    [row] = configuration(found, bodies=True)
    assert (row["service"], row["type"], row["name"], row["state"]) == ("ads", "cds", "a", "sent")
    assert (row["acknowledged"], row["sent"]) == (A1.version, A2.version)
    assert row["resource"]["connect_timeout"] == "1s"
    assert row["unanswered"]["connect_timeout"] == "2s"
    [bare] = configuration(found, bodies=False)
    assert "resource" not in bare
    json.dumps([row, bare])


def test_no_key_is_shown_to_operators():
    key = {"inline_string": "PRIVATE"}
    certificate = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": key}
    secret = Secret.from_dict({"name": "s", "tls_certificate": certificate})
    held = Resource(SECRET, "s", encode(secret))
    standing = Standing(SECRET, "s", held, None, held, None)
    [row] = configuration([("ads", standing)], bodies=True)
    shown_ = row["resource"]["tls_certificate"]
    assert shown_["private_key"] == REDACTED
    assert shown_["certificate_chain"] == {"inline_string": "CHAIN"}
    older = Resource(SECRET, "s", encode(Secret.from_dict({"name": "s"})))
    [row] = difference([("ads", Standing(SECRET, "s", older, None, held, None))], WORLD)
    assert "PRIVATE" not in json.dumps(row)


def test_a_difference_names_the_fields_and_the_reason():
    before, after = Snapshot.of([cluster("a")]), Snapshot.of([cluster("a", 2)])
    stream = talked(before, after, error="no")
    [row] = difference([("ads", s) for s in standings(stream.subscriptions, after)], WORLD)
    assert (row["state"], row["reason"]) == ("refused", "no")
    assert row["changes"] == [{"path": "connect_timeout", "before": "1s", "after": "2s"}]
    same = standings(talked(before, before).subscriptions, before)
    assert list(difference([("ads", s) for s in same], WORLD)) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, [("b", 2, 3), ("c", None, 4)]),
        ({"a": {"b": {"c": "x"}}}, {"a": {"b": {}}}, [("a.b.c", "x", None)]),
        (
            {"r": [{"name": "x", "n": 1}, {"name": "y"}]},
            {"r": [{"name": "y"}, {"name": "z"}]},
            [("r[x]", {"name": "x", "n": 1}, None), ("r[z]", None, {"name": "z"})],
        ),
        (
            [{"name": "x"}, {"name": "y"}],
            [{"name": "y"}, {"name": "x"}],
            [(" (order)", ["x", "y"], ["y", "x"])],
        ),
        ({"l": [1, 2, 3]}, {"l": [0, 1, 2, 3]}, [("l[0]", None, 0)]),
        ({"l": [1, 2, 3]}, {"l": [1, 9, 3]}, [("l[1]", 2, 9)]),
        ([{"name": "x"}, {"name": "x"}], [{"name": "x"}], [("[1]", {"name": "x"}, None)]),
    ],
)
def test_a_change_is_told_in_its_smallest_parts(before, after, found):
    assert list(changes(before, after)) == [FieldChange(*each) for each in found]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values, json_values)
def test_there_are_changes_exactly_where_two_values_differ(before, after):
    found = list(changes({"v": before}, {"v": after}))
    if before == after:
        assert found == []
    elif None not in _leaves(before) + _leaves(after):
        assert found
        assert all(change.before != change.after for change in found)


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


def shown(answer, width=100, of=view):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(of(answer) if of is not view else view(answer, width=width), soft_wrap=True)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def stream_of(state="ack", **fields):
    one = {"type": "cds", "state": state, "version": "0123456789abcdef"}
    given_ = {"service": "ads", "variant": "delta", "since_unix_ns": 0, "scope_size": 7}
    return {**given_, "sent_bytes": 2048, "types": [one], **fields}


def proxy_of(node, *streams):
    return {"node": node, "client": "envoy", "client_version": "1.40.0", "streams": list(streams)}


def answer_of(*listed, refused=(), omitted=0):
    return {
        "now_unix_ns": 90 * 10**9,
        "proxies": list(listed),
        "refusals": list(refused),
        "omitted": omitted,
    }


REFUSED = {
    "node": "edge~1",
    "type": "rds",
    "resource": "[red]r",
    "reason": "no: {900}",
    "sources": [
        {"kind": "HTTPRoute", "name": "bad", "where": "mesh.yaml:13", "likely": True},
        {"kind": "HTTPRoute", "name": "good", "where": "mesh.yaml:8", "likely": False},
    ],
}


def test_a_proxy_is_a_row_of_types_and_figures():
    assert shown(answer_of(proxy_of("edge~1", stream_of()))) == [
        "NODE    CLIENT        STREAMS    CDS         AGE  SCOPE  SENT",
        "edge~1  envoy 1.40.0  ads delta  ack 012345   2m      7  2.0K",
    ]


def test_versions_give_way_when_the_terminal_is_narrow_and_then_names():
    row = proxy_of("edge~" + "x" * 20, stream_of("nack"))
    assert "NACK 0123 " in shown(answer_of(row), width=79)[1]
    assert "NACK " in shown(answer_of(row), width=76)[1]
    narrow = shown(answer_of(row), width=60)
    assert all(len(line) <= 60 for line in narrow)
    assert "xx…" in narrow[1]


def test_streams_of_one_type_are_one_cell_with_the_worst_state():
    separate = [stream_of(state, service="eds", variant="sotw") for state in ("ack", "pending")]
    [_, line] = shown(answer_of(proxy_of("e", *separate)))
    assert "eds sotw" in line
    assert "pending 012345" in line


def test_below_the_rows_stands_what_is_refused_with_its_place():
    lines = shown(answer_of(proxy_of("edge~1", stream_of("nack")), refused=[REFUSED], omitted=3))
    assert lines[2:] == [
        "and 3 more",
        "",
        "REFUSED",
        "edge~1  rds [red]r",
        "  mesh.yaml:13: HTTPRoute bad",
        "  made with 1 more, which do not hold what the reason names",
        "  no: {900}",
    ]


def test_where_lines_are_few_what_is_refused_stands_first():
    listed = [proxy_of(f"a{n}", stream_of()) for n in range(30)] + [
        proxy_of("z", stream_of("nack"))
    ]
    refused = [{**REFUSED, "node": "z", "resource": f"r{n}"} for n in range(9)]
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(view(answer_of(*listed, refused=refused), width=100, rows=20))
    lines = console.file.getvalue().splitlines()
    assert lines[1].startswith("z ")
    assert "and 23 more" in lines
    assert lines[-1] == "and 7 more refused"
    assert len(lines) <= 21


def test_a_place_is_never_broken_into_lines():
    where = "/a/very/long/folder" * 8 + "/mesh.yaml:13"
    source = {**REFUSED["sources"][0], "where": where}
    refused = {**REFUSED, "sources": [source]}
    lines = shown(answer_of(proxy_of("e", stream_of()), refused=[refused]), width=60)
    assert f"  {where}: HTTPRoute bad" in lines


def test_without_proxies_it_says_what_to_do():
    assert " ".join(shown(answer_of())) == NOBODY


def test_a_difference_is_shown_field_by_field():
    row = {
        "type": "cds",
        "name": "a",
        "state": "older",
        "acknowledged": "1" * 16,
        "wanted": "2" * 16,
        "reason": None,
        "sources": [],
        "changes": [{"path": "connect_timeout", "before": "1s", "after": "2s"}],
        "omitted": 4,
    }
    lines = shown({"node": "e", "held": 3, "resources": [row]}, of=proxy.view)
    assert lines == [
        "e: 1 differ, 3 are as they should be",
        "cds a  older, the newer one not sent yet",
        "  has 111111, should have 222222",
        "  - connect_timeout: 1s",
        "  + connect_timeout: 2s",
        "  and 4 more fields",
    ]
    same = {"node": "e", "held": 3, "resources": []}
    assert shown(same, of=proxy.view) == ["e holds what it should: 3 resources."]


def test_times_and_sizes_are_short():
    assert [age(s) for s in (-1, 0, 59, 60, 3600, 200_000)] == ["0s", "0s", "59s", "1m", "1h", "2d"]
    assert [size(n) for n in (0, 999, 2048, 20480, 5 << 20)] == ["0", "999", "2.0K", "20K", "5.0M"]
    assert size(5 << 40) == "5120G"


def text_of(tally, seen):
    content_type, text = exposition(tally, seen, "")
    assert content_type.startswith("text/plain")
    return text.decode().splitlines()


def test_metrics_count_by_the_short_names_of_types():
    tally = Tally()
    tally.pushes[CLUSTER] += 3
    tally.pushes["type.googleapis.com/no.Such"] += 1
    tally.refused["silent"] += 1
    tally.converge(0.003)
    tally.converge(1000.0)
    lines = text_of(tally, Seen({("ads", "delta"): 2}, 1, 1, {("envoy", "1.40.0"): 2}, 0, ()))
    for line in (
        'wherry_xds_pushes_total{type="cds"} 3.0',
        'wherry_xds_pushes_total{type="other"} 1.0',
        'wherry_xds_refused_total{reason="silent"} 1.0',
        'wherry_xds_streams{service="ads",variant="delta"} 2.0',
        'wherry_xds_convergence_seconds_bucket{le="0.0025"} 0.0',
        'wherry_xds_convergence_seconds_bucket{le="0.005"} 1.0',
        f'wherry_xds_convergence_seconds_bucket{{le="{BOUNDS[-1]:g}"}} 1.0',
        'wherry_xds_convergence_seconds_bucket{le="+Inf"} 2.0',
        "wherry_xds_convergence_seconds_count 2.0",
    ):
        assert line in lines


def test_the_load_of_each_cluster_and_place_is_told():
    places = (
        PlaceLoad(("eu", "a", ""), 10, 8, 2, 1, 2.5, 0.5),
        PlaceLoad(("eu", "b", ""), 1, 1, 0, 0, 0.1, 0.0),
    )
    loads = [ClusterLoad("web", "", 0, (), places)]
    _, text = exposition(Tally(), Seen({}, 0, 0, {}, 0, ()), "", loads)
    lines = text.decode().splitlines()
    labels = 'cluster="web",locality="eu/a/",service=""'
    assert f"wherry_xds_load_requests_per_second{{{labels}}} 2.5" in lines
    assert f"wherry_xds_load_errors_per_second{{{labels}}} 0.5" in lines
    assert f"wherry_xds_load_in_progress{{{labels}}} 1.0" in lines


def test_what_clients_say_cannot_make_metrics_grow_without_bound():
    clients = {(f"c{n}", "1"): 1 for n in range(MOST_CLIENTS + 20)}
    named = tuple((f"n{n}", "cds", "a", "") for n in range(MOST_REFUSED + 50))
    lines = text_of(Tally(), Seen({}, 0, 0, clients, len(named), named))
    assert 'wherry_xds_proxies{client="other",version="other"} 20.0' in lines
    assert sum(line.startswith("wherry_xds_proxies{") for line in lines) == MOST_CLIENTS + 1
    assert sum(line.startswith("wherry_xds_refused_resource{") for line in lines) == MOST_REFUSED
    assert f"wherry_xds_refused_resources {len(named)}.0" in lines
