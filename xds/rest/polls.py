"""Clients that poll: who they are, and what they were given last."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from wherry.clock import Clock
from xds.hub import Hub, Link
from xds.node import Node
from xds.resource import TypeUrl, in_order
from xds.sotw import Request
from xds.status import StreamStatus, TypeStatus

FORGOTTEN_AFTER = 60.0
"""Seconds after its last request until a client no longer counts as connected."""
MOST = 1_000
"""Most clients that are remembered; then those that asked least recently are forgotten."""


MOST_ASKED = 1_000
"""Most questions of a client that are remembered; an Envoy asks for each cluster by itself."""
MOST_NAMES = 20_000
"""Most names in those questions together, but for the last of them."""
REFUSED = "the client did not take it; one that polls gives no reason"

Question = tuple[TypeUrl, frozenset[str]]
"""A type, and the names that are asked for; none for everything."""


@dataclass(slots=True)
class _Asked:
    """One question.

    Attributes:
        accepted: Version that the client said it holds.
        given: Version of the last answer.
        answered: Whether there was an answer since the client last asked.
        error: Why it refuses what it was given; None unless it does.
        nacked_at: When it first did: Unix nanoseconds.
    """

    accepted: str = ""
    given: str = ""
    answered: bool = False
    error: str | None = None
    nacked_at: int | None = None


@dataclass(slots=True)
class _Client:
    link: Link[Any]
    leave: ExitStack
    since: int
    seen: float
    asked: OrderedDict[Question, _Asked] = field(default_factory=OrderedDict)
    names: int = 0
    sent: int = 0
    sent_bytes: int = 0

    def about(self, question: Question) -> _Asked:
        """Return what is known of a question, the newest now."""
        asked = self.asked.get(question)
        if asked is None:
            asked = self.asked[question] = _Asked()
            self.names += len(question[1])
        self.asked.move_to_end(question)
        while len(self.asked) > MOST_ASKED or (self.names > MOST_NAMES and len(self.asked) > 1):
            (_, names), _ = self.asked.popitem(last=False)
            self.names -= len(names)
        return asked


class Polls:
    """Every client that polled lately. It keeps their scopes ready between two requests.

    Args:
        hub: Says what each node gets.
        clock: Where times are read.
    """

    def __init__(self, hub: Hub[Any], clock: Clock) -> None:
        self._hub, self._clock = hub, clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def asked(self, node: Node, request: Request) -> bool:
        """Note a request; return whether it says for the first time that an answer was refused.

        A client asks again when it is done with the answer before: what it has not accepted by
        then, it has refused.

        Raises:
            WherryError: Nobody knows what the node gets.
        """
        client = self._clients.get(node.id)
        if client is None or client.link.node.metadata != node.metadata:
            self._forget(node.id)
            client = self._clients[node.id] = self._joined(node)
        client.seen = self._clock.now()
        self._clients.move_to_end(node.id)
        while len(self._clients) > MOST:
            self._forget(next(iter(self._clients)))
        return self._judged(client.about((request.type_url, request.names)), request)

    def _judged(self, asked: _Asked, request: Request) -> bool:
        asked.accepted = request.version
        refused = request.error is not None or (asked.answered and request.version != asked.given)
        asked.answered = False
        if not refused:
            if request.version == asked.given:
                asked.error = None
            return False
        first = asked.error is None
        asked.error = request.error or REFUSED
        if first:
            asked.nacked_at = self._clock.unix_ns()
        return first

    def answered(self, node: Node, request: Request, version: str, size: int) -> None:
        """Note that ``request`` was answered with ``version`` in ``size`` bytes."""
        client = self._clients.get(node.id)
        question = request.type_url, request.names
        if client is not None and (asked := client.asked.get(question)) is not None:
            if version != asked.given:
                asked.error = None
            asked.given, asked.answered = version, True
            client.sent += 1
            client.sent_bytes += size

    def sweep(self) -> None:
        """Forget who has not asked for `FORGOTTEN_AFTER` seconds."""
        oldest = self._clock.now() - FORGOTTEN_AFTER
        for node, client in list(self._clients.items()):
            if client.seen < oldest:
                self._forget(node)

    def close(self) -> None:
        """Forget everybody."""
        for node in list(self._clients):
            self._forget(node)

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of all of them."""
        return frozenset(self._clients)

    def status(self) -> tuple[StreamStatus, ...]:
        """Return every client as if it had a stream, sorted by node id."""
        return tuple(_status(self._clients[node]) for node in sorted(self._clients))

    def _joined(self, node: Node) -> _Client:
        leave = ExitStack()
        link = leave.enter_context(self._hub.joined(node))
        return _Client(link, leave, self._clock.unix_ns(), self._clock.now())

    def _forget(self, node: str) -> None:
        if (client := self._clients.pop(node, None)) is not None:
            client.leave.close()


def _status(client: _Client) -> StreamStatus:
    snapshot = client.link.snapshot
    by_type: dict[TypeUrl, list[tuple[frozenset[str], _Asked]]] = {}
    for (type_url, names), asked in client.asked.items():
        by_type.setdefault(type_url, []).append((names, asked))
    types = tuple(_type(type_url, by_type[type_url]) for type_url in in_order(by_type))
    return StreamStatus(
        client.link.node,
        client.link.scope,
        "rest",
        client.since,
        not any(each.awaiting or each.error for each in types),
        types,
        "rest",
        client.sent,
        client.sent_bytes,
        None if snapshot is None else snapshot.size,
    )


def _type(type_url: TypeUrl, questions: list[tuple[frozenset[str], _Asked]]) -> TypeStatus:
    refused = [(names, asked) for names, asked in questions if asked.error is not None]
    faults = sorted(
        (name, asked.given, asked.error or "") for names, asked in refused for name in names
    )
    accepted = {asked.accepted for _, asked in questions}
    return TypeStatus(
        type_url,
        any(not names for names, _ in questions),
        len(frozenset[str]().union(*(names for names, _ in questions))),
        (),
        any(asked.answered for _, asked in questions),
        refused[0][1].error if refused else None,
        tuple(name for name, _, _ in faults),
        accepted.pop() if len(accepted) == 1 else questions[-1][1].accepted,
        tuple(faults),
        max((asked.nacked_at or 0 for _, asked in refused), default=None),
    )
