"""Uses that were counted elsewhere count under the plan that was held when they were."""

import json
from pathlib import Path

import pytest

from gateway.metering.batch import uses
from gateway.metering.cloudevent import Unusable
from gateway.metering.ingest import ingest, parsed
from gateway.usage import LOG
from wherry.config import assemble
from wherry.store.memory import MemoryStore

NOON = 1_764_504_000 * 10**9  # 2025-11-30T12:00:00Z
WORLD = assemble(
    {
        Path("world.yaml"): """
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec: {plans: [old, new, own], reported: [tokens], routes: [{path: /a, to: {mock: {}}}]}
---
{apiVersion: wherry.dev/v1, kind: Plan, metadata: {name: old}}
---
{apiVersion: wherry.dev/v1, kind: Plan, metadata: {name: new}}
---
{apiVersion: wherry.dev/v1, kind: Plan, metadata: {name: own}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec:
  apps: [{name: web}]
  subscriptions:
  - {product: shop, plan: old, ends: "2025-11-15"}
  - {product: shop, plan: new, begins: "2025-11-15", ends: "2025-12-15"}
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: alices-web}
spec: {consumer: alice, app: web, product: shop, plan: own}
---
{apiVersion: wherry.dev/v1, kind: Consumer, metadata: {name: bob}}
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: bobs}
spec: {consumer: bob, product: shop, plan: new, state: pending}
"""
    }
)


def event(name, **data):
    time = data.pop("time", "2025-11-30T11:00:00Z")
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/elsewhere",
        "type": "dev.wherry.usage.v1",
        "time": time,
        "data": {"consumer": "alice", "product": "shop", "amounts": {"tokens": 1}, **data},
    }


async def taken(*events):
    store = MemoryStore()
    await ingest(store, WORLD, parsed(json.dumps(events).encode()), NOON)
    return [use.plan for row in await store.read(LOG) for use in uses(row.body)]


async def test_a_use_counts_under_the_plan_of_its_own_time_and_app():
    late = event("b", time="2025-11-02T00:00:00Z")
    assert await taken(event("a"), late, event("c", app="web")) == ["new", "old", "own"]
    assert await taken(event("a", plan="old")) == ["old"]


async def test_a_subscription_that_nobody_approved_yet_counts_nothing():
    with pytest.raises(Unusable, match="subscribed to at that time") as refused:
        await taken(event("a"), event("b", consumer="bob"))
    assert refused.value.place == "/1/data/product"
