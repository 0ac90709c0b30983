"""Every client of one Pilot, on streams or polling, as operators ask about them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from wherry.errors import WherryError
from wherry.model.world import World
from xds.delta import DeltaStream
from xds.hub import Hub
from xds.operators.inspect import Proxy, Refusal, Standing, proxies, refusals, standings
from xds.operators.metrics import MOST_REFUSED, Seen
from xds.resource import TypeUrl
from xds.rest.polls import Polls
from xds.status import StreamStatus
from xds.streams import Streams
from xds.talk import Talk

MOST_SHOWN = 1_000
"""Most clients that one answer lists; those that refuse something come first."""
NEAR = 5
"""Names that are offered instead of one that nobody has."""

_SHARE = 64
"""Streams that are counted before others get their turn."""


class UnknownProxy(WherryError):
    """No client is named so, or several are.

    Attributes:
        near: Names that may be meant.
        several: Whether several clients are named so.
    """

    def __init__(self, node: str, found: str, near: list[str], *, several: bool = False) -> None:
        names = f"; near: {', '.join(near)}" if near else ""
        super().__init__(f"proxy {node!r}: {found}, expected a connected one{names}")
        self.near, self.several = tuple(near), several


class NoStream(WherryError):
    """A client polls: it says which versions it holds, and nothing about resources."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"proxy {node!r}: it polls, so that only its versions are known (wherry status), "
            "expected one with a stream"
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """Clients and what they refuse.

    Attributes:
        proxies: At most `MOST_SHOWN`, sorted by node id.
        refusals: Of those.
        omitted: How many others are connected.
    """

    proxies: tuple[Proxy, ...]
    refusals: tuple[Refusal, ...]
    omitted: int


class Fleet:
    """Looks at the clients of one Pilot; for its event loop.

    Args:
        streams: Those that have one.
        polls: Those that ask by single requests.
        hub: What each should have.
        world: Returns the World that is served.
    """

    def __init__(
        self, streams: Streams, polls: Polls, hub: Hub[Any], world: Callable[[], World]
    ) -> None:
        self._streams, self._polls, self._hub, self._world = streams, polls, hub, world

    def named(self, node: str) -> str:
        """Return the id that ``node`` is, begins, or is a part of between two ``~``.

        Raises:
            UnknownProxy: None is meant, or several are.
        """
        ids = self._ids()
        if node in ids:
            return node
        found = sorted(each for each in ids if each.startswith(node))
        found = found or sorted(
            each for each in ids if any(part.startswith(node) for part in each.split("~"))
        )
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownProxy(node, f"{len(found)} are named so", found[:NEAR], several=True)
        near = get_close_matches(node, ids, NEAR, 0.4) or sorted(ids)[:NEAR]
        raise UnknownProxy(node, "none is connected", near)

    async def listing(self) -> Listing:
        """Return the clients, those first that refuse something if there are too many."""
        ids = self._ids()
        refusing = {talk.node.id for talk in self._streams.talks() if talk.stream.nacks}
        shown = set(sorted(ids, key=lambda node: (node not in refusing, node))[:MOST_SHOWN])
        return await self._listed(shown, len(ids) - len(shown))

    async def one(self, node: str) -> Listing:
        """Return one client by its id; empty if it is gone."""
        return await self._listed({node}, 0)

    async def standings(self, node: str, only: TypeUrl | None) -> tuple[tuple[str, Standing], ...]:
        """Return the service and each resource of every stream of a client, by its id.

        Raises:
            NoStream: It polls.
        """
        found: list[tuple[str, Standing]] = []
        talks = tuple(self._talks({node}))
        if not talks and node in self._ids():
            raise NoStream(node)
        for talk in talks:
            snapshot = self._hub.current(talk.status().scope)
            for each in standings(talk.stream.subscriptions, snapshot, only):
                found.append((talk.service.short, each))  # noqa: PERF401 (one loop a stream)
            await asyncio.sleep(0)
        return tuple(found)

    async def seen(self) -> Seen:
        """Return what there is, in numbers."""
        streams: Counter[tuple[str, str]] = Counter()
        clients: dict[str, tuple[str, str]] = {}
        refusing: list[StreamStatus] = []
        refused = unsettled = 0
        for at, talk in enumerate(self._streams.talks()):
            variant = "delta" if isinstance(talk.stream, DeltaStream) else "sotw"
            streams[talk.service.short, variant] += 1
            clients[talk.node.id] = (talk.node.user_agent_name, talk.node.user_agent_version)
            unsettled += not talk.stream.settled
            if nacks := talk.stream.nacks:
                if len(refusing) < MOST_REFUSED:
                    refusing.append(talk.status())
                refused += sum(len(nack.names) or 1 for nack in nacks.values())
            if at % _SHARE == 0:
                await asyncio.sleep(0)
        for status in self._polls.status():
            streams[status.service, status.variant] += 1
            node = status.node
            clients[node.id] = (node.user_agent_name, node.user_agent_version)
            unsettled += not status.settled
            if any(each.error for each in status.types):
                refusing.append(status)
                refused += sum(len(each.faults) or 1 for each in status.types if each.error)
        return Seen(
            streams,
            unsettled,
            len(self._hub.scopes),
            Counter(clients.values()),
            refused,
            tuple(sorted(self._named(refusing))),
        )

    def _named(self, refusing: list[StreamStatus]) -> set[tuple[str, str, str, str]]:
        found: set[tuple[str, str, str, str]] = set()
        world = self._world()
        for status in refusing:
            if len(found) >= MOST_REFUSED:
                break
            for each in refusals(status, self._hub.current(status.scope), world):
                likely = (source.where for source in each.sources if source.likely)
                places = ", ".join(sorted(filter(None, likely)))
                found.add((each.node, each.type, each.resource, places))
        return found

    def _ids(self) -> set[str]:
        return {*self._polls.nodes, *(talk.node.id for talk in self._streams.talks())}

    def _talks(self, nodes: set[str]) -> Iterator[Talk]:
        return (talk for talk in self._streams.talks() if talk.node.id in nodes)

    async def _listed(self, nodes: set[str], omitted: int) -> Listing:
        statuses: list[StreamStatus] = []
        refused: list[Refusal] = []
        world = self._world()
        for talk in self._talks(nodes):
            statuses.append(status := talk.status())
            refused += refusals(status, self._hub.current(status.scope), world)
            await asyncio.sleep(0)  # others get their turn
        for status in self._polls.status():
            if status.node.id in nodes:
                statuses.append(status)
                refused += refusals(status, self._hub.current(status.scope), world)
        ordered = sorted(refused, key=lambda each: (each.node, each.type, each.resource))
        return Listing(proxies(statuses), tuple(ordered), omitted)
