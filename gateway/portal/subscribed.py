"""What a consumer is subscribed to, from wherever it is written."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wherry.model.world import World


@dataclass(frozen=True, slots=True)
class Held:
    """A subscription.

    Attributes:
        name: Of the Subscription; None when it stands in the Consumer.
        begins: First day, ``YYYY-MM-DD``; None is since ever.
        ends: First day that is no longer part of it; None is open.
    """

    product: str
    plan: str
    state: Literal["pending", "active", "suspended"]
    name: str | None = None
    begins: str | None = None
    ends: str | None = None


def held_on(subscriptions: Sequence[Held], today: str) -> Mapping[str, Held]:
    """Return by product the subscription that has not ended ``today``.

    Of several, an active one comes before a pending one, and that before a suspended one.
    """
    found: dict[str, Held] = {}
    for each in subscriptions:
        before = found.get(each.product)
        ended = each.ends is not None and each.ends <= today
        if not ended and (before is None or _RANK[each.state] < _RANK[before.state]):
            found[each.product] = each
    return found


_RANK = {"active": 0, "pending": 1, "suspended": 2}


class Index:
    """Subscriptions by consumer; made anew for each World, so that a page looks at its own only."""

    def __init__(self) -> None:
        self._world: World | None = None
        self._found: dict[str, list[Held]] = {}

    def of(self, world: World, consumer: str) -> Sequence[Held]:
        """Return every subscription of ``consumer``, past ones among them."""
        if world is not self._world:
            self._world, self._found = world, _by_consumer(world)
        return self._found.get(consumer, ())


def _by_consumer(world: World) -> dict[str, list[Held]]:
    found: dict[str, list[Held]] = defaultdict(list)
    for each in world.subscriptions.values():
        spec = each.spec
        found[spec.consumer].append(
            Held(spec.product, spec.plan, spec.state, each.name, spec.begins, spec.ends)
        )
    for consumer in world.consumers.values():
        for inline in consumer.spec.subscriptions:
            found[consumer.name].append(
                Held(inline.product, inline.plan, "active", None, inline.begins, inline.ends)
            )
    return dict(found)
