"""A fleet made of discovery streams: each subscription against what its scope should have."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Protocol

from xds.csds.fleet import Config, Proxy, Refusal, Sync, judged
from xds.node import Node
from xds.resource import SECRET, TypeUrl, in_order
from xds.snapshot import NONE, Snapshot
from xds.subscription import WILDCARD, Subscription


class Talking(Protocol):
    """One discovery stream; read only."""

    @property
    def node(self) -> Node:
        """Who is at the other end."""
        ...

    @property
    def label(self) -> str:
        """Which of its streams it is, e.g. ``ads delta``."""
        ...

    @property
    def snapshot(self) -> Snapshot | None:
        """What its scope should have; None before the first."""
        ...

    @property
    def subscriptions(self) -> Mapping[TypeUrl, Subscription]:
        """What it asked for and holds."""
        ...

    @property
    def nacked_at(self) -> Mapping[TypeUrl, int]:
        """When it last refused a response of a type: Unix nanoseconds."""
        ...


class Connected:
    """Every discovery stream as a `Fleet`; empty until `watch` says where they are."""

    def __init__(self) -> None:
        self._talks: Callable[[], Iterable[Talking]] = tuple

    def watch(self, talks: Callable[[], Iterable[Talking]]) -> None:
        """Take the streams from ``talks`` from now on."""
        self._talks = talks

    def proxies(self) -> Iterator[Proxy]:
        """Return every stream, sorted by node id."""
        for talk in sorted(self._talks(), key=lambda each: (each.node.id, each.label)):
            yield Proxy(talk.node, talk.label, partial(configs_of, talk))


def configs_of(talk: Talking) -> Iterator[Config]:
    """Yield every resource that the client wants, was sent or holds, types in their order."""
    subscriptions, snapshot = talk.subscriptions, talk.snapshot
    for type_url in in_order(subscriptions):
        refused_at = talk.nacked_at.get(type_url, 0)
        yield from _of_type(subscriptions[type_url], snapshot, refused_at)


def _of_type(sub: Subscription, snapshot: Snapshot | None, refused_at: int) -> Iterator[Config]:
    wanted = NONE if snapshot is None else sub.wanted.of(snapshot, sub.type_url)
    sent = NONE if sub.flight is None else sub.flight.changed
    names = {*wanted, *sub.held, *sub.parked, *sub.names} - {WILDCARD}
    for name in sorted(names):
        goal, held, fault = wanted.get(name), sub.held.get(name), sub.parked.get(name)
        out = sent.get(name)
        sync, client = judged(
            wanted=goal.version if goal else None,
            sent=out.version if out else None,
            held=held.version if held else None,
            refused=fault.version if fault else None,
        )
        shown = goal or held  # but never the content of a secret
        refusal = None
        if sync is Sync.ERROR and fault is not None:
            refusal = Refusal(fault.error, fault.version, refused_at)
        yield Config(
            type_url=sub.type_url,
            name=name,
            version=shown.version if shown else "",
            sync=sync,
            held=client,
            body=shown.body if shown and sub.type_url != SECRET else None,
            refusal=refusal,
        )
