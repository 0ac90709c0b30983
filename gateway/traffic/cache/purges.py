"""Orders to forget kept answers, which reach every process of the gateway by way of the Store."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from gateway.traffic.cache.kept import Cache
from wherry.store import Conflict, Record, Store, View
from wherry.store.follow import follow

RECORD = "cache/purges"
"""Key of the record that holds the last orders."""

MAX_ORDERS = 256
"""Orders that the record holds; who missed more than these forgets everything."""

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be forgotten: all that fits everything given; nothing given: all there is.

    Attributes:
        product: Of this product only.
        path_prefix: Whose path begins so, by whole segments.
        tag: Which the upstream gave this tag in ``Surrogate-Key`` or ``Cache-Tag``.
    """

    product: str | None = None
    path_prefix: str | None = None
    tag: str | None = None


async def order(store: Store, what: Order) -> int:
    """Write down that answers are to be forgotten; return the order's number.

    Raises:
        Conflict: Too many others write orders at the same time.
    """
    for _ in range(_TRIES - 1):
        try:
            return await _append(store, what)
        except Conflict:
            continue
    return await _append(store, what)


async def _append(store: Store, what: Order) -> int:
    record = await store.get(RECORD)
    last, orders = _decoded(record)
    orders = [*orders, (last + 1, what)][-MAX_ORDERS:]
    body = json.dumps({"orders": [{"number": n, **asdict(each)} for n, each in orders]})
    await store.put(RECORD, body.encode(), expect=record.revision if record else 0)
    return last + 1


def _decoded(record: Record | None) -> tuple[int, list[tuple[int, Order]]]:
    """Return the number of the last order, and the orders with theirs."""
    if record is None:
        return 0, []
    orders = [_order(each) for each in json.loads(record.body)["orders"]]
    return max((number for number, _ in orders), default=0), orders


def _order(fields: dict[str, Any]) -> tuple[int, Order]:
    return fields["number"], Order(fields["product"], fields["path_prefix"], fields["tag"])


class Purger:
    """Carries out the orders of the Store in one process.

    Args:
        store: Where orders are written.
        cache: What this process keeps.

    Attributes:
        done: Number of the last order that was carried out; None before the first look.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self._store, self._cache = store, cache
        self.done: int | None = None

    async def follow(self) -> None:
        """Carry out orders until cancelled; while the Store fails, they wait for it."""
        await follow(self._store, RECORD, self._look, what="purges")

    async def _look(self, view: View) -> None:
        self.take(view.get(RECORD))

    def take(self, record: Record | None) -> None:
        """Carry out the orders of ``record`` that are new since the last look.

        At the first look nothing is: what this process keeps is no older than itself.
        """
        last, orders = _decoded(record)
        done, self.done = self.done, last
        if done is None or last == done:
            return
        if last < done or orders[0][0] > done + 1:
            self._cache.purge()
            return
        for number, what in orders:
            if number > done:
                self._cache.purge(product=what.product, path_prefix=what.path_prefix, tag=what.tag)
