"""Snapshots refuse to lie."""

import pytest

from xds.hub import REMEMBERED_SECONDS, Hub
from xds.node import Node
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource, in_order
from xds.snapshot import DanglingReference, DuplicateResource, Layer, Snapshot

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


def test_a_layer_that_is_not_changed_stays_the_same_object():
    layer = Layer.of(mesh())
    assert layer.changed(mesh(), [(CLUSTER, "never there")]) is layer
    assert layer.changed([Resource(CLUSTER, "c", b"2")]) is not layer


def test_a_changed_layer_is_the_layer_that_one_would_build_from_nothing():
    layer = Layer.of(mesh())
    put = [Resource(CLUSTER, "c", b"2"), Resource(ENDPOINT, "d", b"")]
    changed = layer.changed(put, [(LISTENER, "l"), (ROUTE, "r"), (ENDPOINT, "c")])
    fresh = Layer.of(put)
    assert Snapshot.stacked(changed) == Snapshot.stacked(fresh)
    assert changed.by_type == fresh.by_type
    assert layer.by_type[LISTENER].keys() == {"l"}


def test_what_is_put_and_gone_at_once_is_there():
    changed = Layer.of(mesh()).changed([Resource(CLUSTER, "c", b"2")], [(CLUSTER, "c")])
    assert changed.by_type[CLUSTER]["c"].body == b"2"


def test_a_difference_is_the_same_whether_it_is_remembered_or_found():
    before = Layer.of(mesh())
    after = before.changed([Resource(CLUSTER, "c", b"2")], [(LISTENER, "l")])
    again = Layer.of([r for named in after.by_type.values() for r in named.values()])
    for newer in (after, again):
        changes = Snapshot.stacked(newer).since(Snapshot.stacked(before))
        assert {t: (dict(c.put), c.gone) for t, c in changes.items()} == {
            CLUSTER: ({"c": Resource(CLUSTER, "c", b"2")}, frozenset()),
            LISTENER: ({}, frozenset({"l"})),
        }


def test_layers_may_refer_to_each_other_but_not_share_a_name():
    listener, route, *rest = mesh()
    snapshot = Snapshot.stacked(Layer.of([listener]), Layer.of([route]), Layer.of(rest))
    assert snapshot == Snapshot.of(mesh())
    assert snapshot.needs_of(listener) == {(CLUSTER, "c"), (ENDPOINT, "c")}
    with pytest.raises(DanglingReference, match="refers to missing Route"):
        Snapshot.stacked(Layer.of([listener]), Layer.of(rest))
    with pytest.raises(DuplicateResource, match="Cluster 'c': given twice"):
        Snapshot.stacked(Layer.of(mesh()), Layer.of(rest))


def test_a_reference_that_a_change_cuts_is_found():
    layer = Layer.of(mesh())
    with pytest.raises(DanglingReference, match="refers to missing Cluster 'c'"):
        Snapshot.stacked(layer.changed(gone=[(CLUSTER, "c")]))
    elsewhere = layer.changed([Resource(ROUTE, "r", b"", refs((CLUSTER, "d")))])
    with pytest.raises(DanglingReference, match="refers to missing Cluster 'd'"):
        Snapshot.stacked(elsewhere)


def test_what_is_there_on_demand_is_found_but_not_listed_and_that_is_another_version():
    listed, later = Layer.of([Resource(CLUSTER, "a", b"")]), Layer.of([Resource(CLUSTER, "b", b"")])
    apart, together = Snapshot.stacked(listed, on_demand=later), Snapshot.stacked(listed, later)
    assert (apart.named(CLUSTER).keys(), together.named(CLUSTER).keys()) == ({"a"}, {"a", "b"})
    assert apart.find(CLUSTER, "b") == together.find(CLUSTER, "b")
    assert apart.version(CLUSTER) != together.version(CLUSTER)
    assert apart.size == together.size == 2


@pytest.mark.parametrize("without", [None, Layer.of([])])
def test_a_resource_that_changes_between_listed_and_on_demand_is_both_gone_and_put(without):
    listed, later = Layer.of([Resource(CLUSTER, "a", b"")]), Layer.of([Resource(CLUSTER, "b", b"")])
    apart = Snapshot.stacked(listed, on_demand=later)
    together = Snapshot.stacked(listed.changed(later.by_type[CLUSTER].values()), on_demand=without)
    for newer, older in ((apart, together), (together, apart)):
        change = newer.since(older)[CLUSTER]
        assert (set(change.put), change.gone) == ({"b"}, {"b"})


def test_a_resource_that_moves_from_layer_to_layer_is_not_gone():
    a, b = Resource(CLUSTER, "a", b""), Resource(CLUSTER, "b", b"")
    older = Snapshot.stacked(Layer.of([a, b]), Layer.of([]))
    newer = Snapshot.stacked(Layer.of([a]), Layer.of([b]))
    assert newer.version(CLUSTER) == older.version(CLUSTER)
    assert newer.since(older)[CLUSTER].gone == frozenset()


def test_a_scope_that_everybody_left_is_forgotten_after_a_while():
    at = [0.0]
    hub = Hub(lambda node: node.id, lambda scope, node: hub.publish(scope, goal), now=lambda: at[0])
    goal = Snapshot.of(mesh())
    with hub.joined(Node("one")):
        pass
    assert list(hub.past("one")) == [goal]
    at[0] = REMEMBERED_SECONDS + 1
    with hub.joined(Node("two")):
        pass
    assert (list(hub.past("one")), list(hub.past("two"))) == ([], [goal])
