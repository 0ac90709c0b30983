"""Uses that were counted elsewhere, on their way to the log."""

import json
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from gateway.catalogue.subscriptions import Subscriptions
from gateway.metering.batch import encoded
from gateway.metering.cloudevent import (
    MOST_AHEAD_NS,
    Reported,
    Unusable,
    moment_ns,
    reported,
)
from gateway.usage import LOG
from wherry.model.world import World
from wherry.store import Store

MOST_EVENTS = 1000
"""Most events in one request."""


class Taken(NamedTuple):
    """What became of a request's events.

    Attributes:
        new: How many the log did not have.
        known: How many it had; they count once.
    """

    new: int
    known: int


class Placed(NamedTuple):
    """An event and where it stood.

    Attributes:
        place: JSON pointer into what was sent.
    """

    place: str
    event: Reported


def parsed(body: bytes) -> Sequence[Placed]:
    """Return the events of one CloudEvent or a batch of them, in JSON.

    Raises:
        Unusable: The body or one of its events is not of that form.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unusable("", str(error)[:80] or "deep nesting", "JSON") from None
    if isinstance(given, list):
        if not 0 < len(given) <= MOST_EVENTS:
            raise Unusable("", f"{len(given)} events", f"1 to {MOST_EVENTS}")
        places = (f"/{number}" for number in range(len(given)))
        return [
            Placed(place, reported(each, place)) for place, each in zip(places, given, strict=True)
        ]
    return [Placed("", reported(given, ""))]


async def ingest(store: Store, world: World, events: Sequence[Placed], now_ns: int) -> Taken:
    """Write events to the log, all or none; each counts once, however often it is sent.

    Args:
        store: Holds the log.
        world: Says who there is, and under which plan.
        events: At most `MOST_EVENTS`.
        now_ns: Unix nanoseconds.

    Raises:
        Unusable: An event names someone or something that is not there, or a time ahead.
    """
    rows = []
    held = _subscriptions(world, {event.data.consumer for _, event in events})
    for at, event in events:
        use = event.usage(_plan(world, held, event, at, now_ns), now_ns)
        if use.at_ns > now_ns + MOST_AHEAD_NS:
            raise Unusable(f"{at}/time", repr(event.time), "a time that is not ahead")
        (body,) = encoded([use])
        rows.append((event.key, body))
    new = await store.append(LOG, rows)
    return Taken(new, len(rows) - new)


def _subscriptions(world: World, consumers: Set[str]) -> Subscriptions[None]:
    """Return what these consumers are subscribed to; whose limits they are is nobody's business."""
    few = replace(
        world,
        consumers={name: world.consumers[name] for name in consumers & world.consumers.keys()},
        subscriptions={
            name: each
            for name, each in world.subscriptions.items()
            if each.spec.consumer in consumers
        },
    )
    return Subscriptions(few, lambda plan, zone, begins: None)


def _plan(world: World, held: Subscriptions[None], event: Reported, at: str, now_ns: int) -> str:
    """Return the plan that an event counts under: as it says, or as it was held at its time."""
    data = event.data
    if data.consumer not in world.consumers:
        raise Unusable(f"{at}/data/consumer", repr(data.consumer), "a consumer that there is")
    if data.product not in world.products:
        raise Unusable(f"{at}/data/product", repr(data.product), "a product that there is")
    if data.plan is not None:
        if data.plan not in world.plans:
            raise Unusable(f"{at}/data/plan", repr(data.plan), "a plan that there is")
        return data.plan
    at_ns = now_ns if event.time is None else moment_ns(event.time)
    terms = held.of(data.consumer, data.app, data.product, at_ns)
    if terms is None:
        expected = "one that the consumer was subscribed to at that time"
        raise Unusable(f"{at}/data/product", repr(data.product), expected)
    return terms.plan
