"""What a discovery stream knows of its client, told resource by resource."""

from dataclasses import dataclass, field

from xds.csds.fleet import Config, Held, Refusal, Sync
from xds.csds.view import Connected
from xds.node import Node
from xds.resource import CLUSTER, ROUTE, Resource
from xds.snapshot import Snapshot
from xds.subscription import Batch, Fault, Subscription, Wanted


@dataclass
class Talk:
    name: str
    snapshot: Snapshot | None
    subscriptions: dict
    label: str = "ads delta"
    nacked_at: dict = field(default_factory=dict)

    @property
    def node(self):
        return Node(self.name)


def named(*resources):
    return {each.name: each for each in resources}


def told(*talks):
    fleet = Connected()
    assert list(fleet.proxies()) == []
    fleet.watch(lambda: talks)
    return {proxy.node.id: list(proxy.configs()) for proxy in fleet.proxies()}


def short(configs):
    return [(c.name, c.sync, c.held) for c in configs]


OLD, NEW, BAD = (Resource(CLUSTER, name, b"1") for name in ("held", "new", "bad"))


def test_a_wildcard_tells_of_all_that_the_scope_has_and_of_what_lingers():
    gone = Resource(CLUSTER, "gone", b"1")
    sub = Subscription(CLUSTER, wanted=Wanted(wildcard=True), held=named(OLD, gone))
    snapshot = Snapshot.of([OLD, NEW])
    (configs,) = told(Talk("a", snapshot, {CLUSTER: sub})).values()
    assert short(configs) == [
        ("gone", Sync.NOT_SENT, Held.ACKED),
        ("held", Sync.SYNCED, Held.ACKED),
        ("new", Sync.NOT_SENT, Held.REQUESTED),
    ]
    assert configs[1] == Config(CLUSTER, "held", OLD.version, Sync.SYNCED, Held.ACKED, body=b"1")


def test_what_is_on_its_way_is_stale_and_what_is_parked_is_an_error():
    snapshot = Snapshot.of([OLD, NEW, BAD])
    flight = Batch(
        CLUSTER, "v", named(OLD, NEW), named(NEW), (), (), (), Wanted(wildcard=True), None, None,
        snapshot,
    )  # fmt: skip
    sub = Subscription(CLUSTER, wanted=Wanted(wildcard=True), held=named(OLD), flight=flight)
    sub.parked["bad"] = Fault(BAD.version, "no good")
    talk = Talk("a", snapshot, {CLUSTER: sub}, nacked_at={CLUSTER: 7})
    (configs,) = told(talk).values()
    assert short(configs) == [
        ("bad", Sync.ERROR, Held.NACKED),
        ("held", Sync.SYNCED, Held.ACKED),
        ("new", Sync.STALE, Held.REQUESTED),
    ]
    assert configs[0].refusal == Refusal("no good", BAD.version, 7)


def test_what_is_asked_for_by_name_and_is_not_there_does_not_exist():
    sub = Subscription(CLUSTER, wanted=Wanted(names=frozenset({"held", "none", "*"})))
    routes = Subscription(ROUTE, wanted=Wanted(names=frozenset({"r"})))
    talks = [
        Talk("b", Snapshot.of([OLD, NEW]), {ROUTE: routes, CLUSTER: sub}),
        Talk("a", None, {ROUTE: routes}),
    ]
    found = told(*talks)
    assert list(found) == ["a", "b"]
    assert short(found["a"]) == [("r", Sync.NOT_SENT, Held.DOES_NOT_EXIST)]
    assert short(found["b"]) == [
        ("held", Sync.NOT_SENT, Held.REQUESTED),
        ("none", Sync.NOT_SENT, Held.DOES_NOT_EXIST),
        ("r", Sync.NOT_SENT, Held.DOES_NOT_EXIST),
    ]
