"""Snapshots refuse to lie."""

import pytest

from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource, in_order
from xds.snapshot import DanglingReference, DuplicateResource, Snapshot

ADDED = "type.googleapis.com/example.v3.Added"


def refs(*pairs):
    return frozenset(pairs)


def mesh(body=b"1"):
    return [
        Resource(LISTENER, "l", b"", refs((ROUTE, "r"))),
        Resource(ROUTE, "r", b"", refs((CLUSTER, "c"))),
        Resource(CLUSTER, "c", body, refs((ENDPOINT, "c"))),
        Resource(ENDPOINT, "c", b""),
    ]


def test_a_listener_whose_cluster_is_missing_is_refused():
    listener = Resource(LISTENER, "l", b"", refs((CLUSTER, "gone")))
    with pytest.raises(DanglingReference, match="Listener 'l': refers to missing Cluster 'gone'"):
        Snapshot.of([listener])


def test_two_resources_of_one_name_are_refused_unless_they_are_the_same():
    one, other = Resource(CLUSTER, "c", b"1"), Resource(CLUSTER, "c", b"2")
    assert len(Snapshot.of([one, Resource(CLUSTER, "c", b"1")]).named(CLUSTER)) == 1
    with pytest.raises(DuplicateResource, match="Cluster 'c': given twice"):
        Snapshot.of([one, other])


def test_a_version_changes_exactly_with_the_content_of_its_type():
    before, same, after = (
        Snapshot.of(mesh()),
        Snapshot.of(reversed(mesh())),
        Snapshot.of(mesh(b"2")),
    )
    assert before == same
    assert before != after
    assert before.version(CLUSTER) != after.version(CLUSTER)
    assert before.version(ROUTE) == after.version(ROUTE)


def test_a_name_and_a_version_cannot_be_confused_with_another_pair():
    one = Snapshot.of([Resource(CLUSTER, "a", b"x"), Resource(CLUSTER, "b", b"y")])
    other = Snapshot.of([Resource(CLUSTER, "a", b"y"), Resource(CLUSTER, "b", b"x")])
    assert one.version(CLUSTER) != other.version(CLUSTER)


def test_what_is_reached_in_earlier_types_must_be_there_first():
    snapshot = Snapshot.of(mesh())
    listener, route, cluster, endpoint = mesh()
    assert snapshot.needs_of(listener) == {(CLUSTER, "c"), (ENDPOINT, "c")}
    assert snapshot.needs_of(route) == {(CLUSTER, "c"), (ENDPOINT, "c")}
    assert snapshot.needs_of(cluster) == snapshot.needs_of(endpoint) == frozenset()


def test_a_type_that_is_not_listed_goes_last_and_may_be_referred_to():
    secret = Resource(ADDED, "s", b"")
    listener = Resource(LISTENER, "l", b"", refs((ADDED, "s")))
    snapshot = Snapshot.of([secret, listener])
    assert snapshot.named(ADDED) == {"s": secret}
    assert in_order([ADDED, LISTENER, SECRET, CLUSTER]) == [SECRET, CLUSTER, LISTENER, ADDED]
    assert snapshot.needs_of(listener) == frozenset()


def test_a_type_without_resources_has_a_version_of_its_own():
    assert Snapshot.of([]).version(ADDED) == Snapshot.of([]).version(CLUSTER)
    assert Snapshot.of([]).named(ADDED) == {}


def test_a_snapshot_cannot_be_changed():
    with pytest.raises(TypeError):
        Snapshot.of(mesh()).by_type[CLUSTER]["d"] = Resource(CLUSTER, "d", b"")
