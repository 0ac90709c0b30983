"""One name may ask for one resource, for a collection, or for everything."""

import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse

from xds.delta import DeltaRequest, DeltaStream
from xds.names import MOST_NAMES, Known, is_collection, wanted
from xds.resource import CLUSTER, ENDPOINT, ROUTE, VIRTUAL_HOST, Resource
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream

GLOB = "xdstp://mesh/envoy.config.cluster.v3.Cluster/shop/*"
INSIDE = GLOB[:-1] + "cart"
BESIDE = "xdstp://mesh/envoy.config.cluster.v3.Cluster/shopping/cart"


def names(*given):
    return frozenset(given)


def cluster(name, body=b"1"):
    return Resource(CLUSTER, name, body)


def hosts(*more):
    return Snapshot.of(
        [
            Resource(ROUTE, "in", b""),
            Resource(VIRTUAL_HOST, "in/a", b"a", aliases=("in/a.example",)),
            Resource(VIRTUAL_HOST, "in/b", b"b"),
            Resource(VIRTUAL_HOST, "out/c", b"c"),
            *more,
        ]
    )


def sent(response):
    return {r.name for r in response.resources}


def test_a_name_asks_for_itself_and_a_star_for_everything():
    one, everything = (
        wanted(CLUSTER, names("a"), wildcard=False),
        wanted(CLUSTER, names("*", "a"), wildcard=True),
    )
    assert (one.covers("a"), one.covers("b")) == (True, False)
    assert everything.covers("b")
    assert everything.names == names("a")


def test_a_glob_asks_for_all_below_its_path_and_nothing_beside_it():
    glob = wanted(CLUSTER, names(GLOB), wildcard=False)
    assert glob.covers(INSIDE)
    assert not glob.covers(BESIDE)
    assert not wanted(CLUSTER, names("plain/*"), wildcard=False).covers("plain/name")


def test_only_globs_and_existing_routes_stand_for_many():
    route = Resource(ROUTE, "in", b"")
    assert is_collection(CLUSTER, GLOB, None)
    assert not is_collection(CLUSTER, INSIDE, None)
    assert is_collection(VIRTUAL_HOST, "in", route)
    assert not is_collection(VIRTUAL_HOST, "in/a", None)


@pytest.mark.parametrize("again", [False, True])
def test_a_collection_in_a_glob_follows_what_is_in_it(again):
    stream = DeltaStream()
    stream.publish(Snapshot.of([cluster(INSIDE), cluster(BESIDE)]))
    (first,) = stream.receive(DeltaRequest(CLUSTER, names(GLOB)))
    assert (sent(first), first.removed) == ({INSIDE}, ())
    stream.receive(DeltaRequest(CLUSTER, nonce=first.nonce))
    if again:
        (second,) = stream.publish(Snapshot.of([cluster(INSIDE, b"2"), cluster(BESIDE, b"2")]))
        assert sent(second) == {INSIDE}
        stream.receive(DeltaRequest(CLUSTER, nonce=second.nonce))
    (gone,) = stream.publish(Snapshot.of([cluster(BESIDE)]))
    assert (sent(gone), gone.removed) == (set(), (INSIDE,))
    stream.receive(DeltaRequest(CLUSTER, nonce=gone.nonce))
    assert stream.settled


def test_an_empty_collection_is_answered_and_is_not_missing():
    stream = DeltaStream()
    stream.publish(Snapshot.of([cluster(BESIDE)]))
    (answer,) = stream.receive(DeltaRequest(CLUSTER, names(GLOB)))
    assert (answer.resources, answer.removed) == ((), ())
    stream.receive(DeltaRequest(CLUSTER, nonce=answer.nonce))
    assert stream.settled


def test_a_collection_works_in_the_state_of_the_world_too():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster(INSIDE), cluster(BESIDE)]))
    (answer,) = stream.receive(Request(CLUSTER, names(GLOB)))
    assert sent(answer) == {INSIDE}


@pytest.mark.parametrize("name", ["in/a", "in/a.example"])
def test_a_virtual_host_is_found_by_its_name_and_by_its_alias(name):
    stream = DeltaStream()
    stream.publish(hosts())
    (answer,) = stream.receive(DeltaRequest(VIRTUAL_HOST, names(name)))
    assert (sent(answer), answer.removed) == ({"in/a"}, ())
    parsed = DeltaDiscoveryResponse.FromString(answer.raw)
    (resource,) = parsed.resources
    assert (resource.name, resource.aliases) == ("in/a", ["in/a.example"])
    assert stream.receive(DeltaRequest(VIRTUAL_HOST, nonce=answer.nonce)) == []
    assert stream.settled


def test_a_virtual_host_that_was_asked_for_is_kept_up_to_date():
    stream = DeltaStream()
    stream.publish(hosts())
    (answer,) = stream.receive(DeltaRequest(VIRTUAL_HOST, names("in/a.example")))
    stream.receive(DeltaRequest(VIRTUAL_HOST, nonce=answer.nonce))
    changed = [
        Resource(ROUTE, "in", b""),
        Resource(VIRTUAL_HOST, "in/a", b"A", aliases=("in/a.example",)),
        Resource(VIRTUAL_HOST, "in/b", b"B"),
    ]
    (second,) = stream.publish(Snapshot.of(changed))
    assert sent(second) == {"in/a"}


def test_the_name_of_a_route_configuration_asks_for_all_of_its_virtual_hosts():
    stream = DeltaStream()
    stream.publish(hosts())
    (answer,) = stream.receive(DeltaRequest(VIRTUAL_HOST, names("in")))
    assert (sent(answer), answer.removed) == ({"in/a", "in/b"}, ())
    stream.receive(DeltaRequest(VIRTUAL_HOST, nonce=answer.nonce))
    (more,) = stream.publish(hosts(Resource(VIRTUAL_HOST, "in/new", b"n")))
    assert sent(more) == {"in/new"}


def test_a_virtual_host_that_does_not_exist_is_answered_without_a_body():
    stream = DeltaStream()
    stream.publish(hosts())
    (answer,) = stream.receive(DeltaRequest(VIRTUAL_HOST, names("in/ghost")))
    parsed = DeltaDiscoveryResponse.FromString(answer.raw)
    (resource,) = parsed.resources
    assert (resource.name, resource.aliases, resource.resource) == ("in/ghost", ["in/ghost"], None)
    assert parsed.removed_resources == []
    assert stream.receive(DeltaRequest(VIRTUAL_HOST, nonce=answer.nonce)) == []


def test_an_unlisted_resource_is_for_who_asks_for_it_by_name():
    later = Snapshot.of([Resource(ENDPOINT, "d", b"1")]).layers[0]
    snapshot = Snapshot.stacked(
        Snapshot.of([Resource(ENDPOINT, "a", b"1")]).layers[0], on_demand=later
    )
    for asked, expected in ((names(), {"a"}), (names("*", "d"), {"a", "d"}), (names("d"), {"d"})):
        for stream, request in (
            (SotwStream(), Request(ENDPOINT, asked)),
            (DeltaStream(), DeltaRequest(ENDPOINT, asked)),
        ):
            stream.publish(snapshot)
            (answer,) = stream.receive(request)
            assert sent(answer) == expected


def test_what_is_kept_of_questions_is_bounded_and_the_same_question_is_the_very_same():
    known = Known()
    alike = [known.wanted(CLUSTER, names("a", "b"), wildcard=False) for _ in range(2)]
    assert alike[0] is alike[1]
    for turn in range(50):
        many = frozenset(f"{turn}/{number}" for number in range(20_000))
        assert known.wanted(CLUSTER, many, wildcard=False).names == many
    assert 0 < known.kept <= MOST_NAMES
    assert known.wanted(CLUSTER, names("a", "b"), wildcard=False) == alike[0]
