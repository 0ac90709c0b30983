"""Money through whole processes: kills, restarts, reports that come twice, credit that runs out."""

import asyncio
import json
import os
import signal
from collections import Counter
from decimal import Decimal

import aiohttp
import pytest
from support.crew import crew
from support.gateway_site import recorded

from gateway.billing.desk import Desk
from gateway.billing.source import Metered
from gateway.metering.cloudevent import written
from wherry.clock import SystemClock
from wherry.store import opened

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

OVERDRAFT_SECONDS = 10
"""At the rate of the plan; half a second of flush and two between looks, on a busy machine."""

CATALOGUE = """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec: PLAN
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: store}
spec:
  plans: [basic]
  traffic: {meters: [{meter: pages, header: x-pages}]}
  routes: [{path: /items, cost: 3, to: {service: shop}}]
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: store, plan: basic}]}
"""


def selling(price, **limits):
    return CATALOGUE.replace("PLAN", json.dumps({"price": price, **limits}))


async def until(check, *, within=30.0):
    async with asyncio.timeout(within):
        while not (found := await check()):
            await asyncio.sleep(0.02)
        return found


def reported(name, amounts, **more):
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/elsewhere",
        "type": "dev.wherry.usage.v1",
        "time": written(SystemClock().unix_ns()),
        "data": {"consumer": "alice", "product": "store", "amounts": amounts, **more},
    }


async def test_after_kills_and_reports_that_come_twice_the_bill_is_what_the_log_holds(tmp_path):
    tiers = [{"upTo": 100, "unit": "0.015"}, {"upTo": 1000, "unit": "0.003"}, {"unit": "0.0007"}]
    price = {
        "currency": "EUR",
        "usage": [
            {"meter": "requests", "model": "graduated", "included": 10, "tiers": tiers},
            {
                "meter": "pages",
                "model": "volume",
                "tiers": [{"upTo": 99, "unit": "2"}, {"unit": "1"}],
            },
        ],
    }
    async with crew(tmp_path, catalogue=selling(price)) as gateways:
        token = (gateways.state / "admin-token").read_text().strip()
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        events = [reported(f"page-{n}", {"pages": 40}) for n in range(3)]
        async with aiohttp.ClientSession(gateways.admin, headers=headers) as admin:
            async with gateways.calling(4):
                for round_ in range(3):
                    before = len(gateways.answered)
                    await until(lambda before=before: _more(gateways, before + 150))
                    async with admin.post("/v1/usage", data=json.dumps(events)) as answer:
                        assert (await answer.json())["new"] == (3 if not round_ else 0)
                    os.kill(gateways.gateway.workers()[round_ % 2], signal.SIGKILL)
            for wrong in (-1, 0.5, "1", 10**16, None):
                async with admin.post(
                    "/v1/usage", data=json.dumps([reported("wrong", {"pages": wrong})])
                ) as answer:
                    assert answer.status == 422
                    assert (await answer.json())["errors"][0]["pointer"]
    async with opened(gateways.kept_in) as store:
        uses = await recorded(store)
        [draft] = await Desk(store, SystemClock(), Metered(store)).draft("alice")
    assert len({use.id for use in uses}) == len(uses)
    units = Counter()
    for use in uses:
        assert use.billed
        units.update(use.amounts)
    assert units["pages"] == 120
    requests, cents = units["requests"], Decimal("0.01")
    assert requests == 3 * (len(uses) - 3)
    assert requests > 1000
    # ten are included, then 90 at 0.015, 900 at 0.003, and all beyond at 0.0007
    lines = [Decimal("1.35"), Decimal("2.70"), (requests - 1000) * Decimal("0.0007")]
    expected = sum(line.quantize(cents, "ROUND_HALF_UP") for line in lines) + 120
    assert Decimal(draft.total) / 100 == expected


async def _more(gateways, count):
    return len(gateways.answered) >= count


async def test_credit_that_runs_out_stops_four_gateways_and_a_payment_lets_them_go_on(tmp_path):
    price = {"currency": "EUR", "prepaid": True, "usage": [{"model": "perUnit", "unit": "0.10"}]}
    limited = selling(price, rate={"requests": 12, "per": "1s", "burst": 12})
    async with crew(tmp_path, workers=4, catalogue=limited) as gateways:
        desk = Desk(gateways.store, SystemClock(), Metered(gateways.store))

        async def pay(amount, name):
            await desk.add_credit("alice", amount, "EUR", reason="Paid", by="test", each=name)

        async def known():
            return await gateways.store.get("billing/account/alice")

        async def stopped():
            return any(text.startswith("402") for _, text in gateways.failed[-8:])

        async with gateways.calling(4, keep=False):
            await until(stopped)  # nothing is paid yet
            await until(known)
            first = len(gateways.answered)
            async with asyncio.TaskGroup() as group:
                for _ in range(4):  # one payment, told four times
                    group.create_task(pay("6.00", "one"))
            gateways.failed.clear()
            await until(lambda: _more(gateways, first + 3))
            gateways.failed.clear()
            await until(stopped)
            await pay("20.00", "two")  # while calls go on
            gateways.failed.clear()
            second = len(gateways.answered)
            await until(lambda: _more(gateways, second + 1))
            gateways.failed.clear()
            await until(stopped)
        assert not {text[:3] for _, text in gateways.failed} & {"401", "500"}
        credit = await desk.credit("alice")
        assert credit.balances == {"EUR": 2600}
    async with opened(gateways.kept_in) as store:
        uses = await recorded(store)
        [draft] = await Desk(store, SystemClock(), Metered(store)).draft("alice")
    assert len(uses) == len(gateways.answered)
    assert draft.total == 30 * len(uses)
    overdrawn = draft.total - 2600
    assert 0 <= overdrawn < 120 * OVERDRAFT_SECONDS


async def test_a_quota_outlives_the_restart_of_all_gateways(tmp_path):
    limit = 120
    async with crew(tmp_path, limit=limit) as gateways:
        async with gateways.calling(2, keep=False):
            await until(lambda: _more(gateways, 50))
        before = len(gateways.answered)
        assert not gateways.failed
    async with crew(tmp_path, limit=limit) as again:
        async with again.calling(4, keep=False):
            await until(lambda: _refused(again))
        passed = before + len(again.answered)
    assert limit <= passed <= limit * 1.01
    assert {text[:3] for _, text in again.failed} == {"429"}


async def _refused(gateways):
    return len(gateways.failed) >= 30
