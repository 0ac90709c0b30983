"""One gateway worker's limits under fire: takes until the time is over and says what passed.

Run: python -m parts.limit_worker, with what to do as JSON on standard input.
"""

import asyncio
import json
import sys
import time
from typing import Any

from multidict import CIMultiDict

from gateway import path
from gateway.call import Caller, Head
from gateway.limits import Allowance, Limits
from gateway.problem import Refused
from wherry.clock import SystemClock
from wherry.model.plan import Plan
from wherry.store import Store, opened

CALLER = Caller("acme", "default", "ab12", "apiKey")
"""Who calls where there is only one."""

TASKS = 16


def head() -> Head:
    """Return the head of some request."""
    where, _ = path.split("/hello")
    return Head("GET", where, "", "localhost", CIMultiDict(), "127.0.0.1")


class Worker:
    """Calls of one caller, as fast as ``rate`` a second.

    Args:
        store: Where counts are kept.
        job: ``plan`` (its spec) and its ``name``, ``node``, ``seconds``, ``rate``, ``leased``.
        begins: Unix seconds of the first call.
    """

    def __init__(self, store: Store, job: dict[str, Any], begins: float) -> None:
        document = {"apiVersion": "wherry.dev/v1", "kind": "Plan", "spec": job["plan"]}
        self._plan = Plan.model_validate({**document, "metadata": {"name": job["name"]}})
        self._allowance = Allowance.of(self._plan)
        self._store, self._job = store, job
        self._caller = Caller(job["name"], "default", "ab12", "apiKey")
        self._limits = Limits(store, SystemClock(), node=job["node"], shared=True)
        self._begins, self._ends = begins, begins + job["seconds"]
        self._interval = TASKS / job["rate"]
        self.passed = self.refused = self.asked = 0
        self.first, self.last = float("inf"), 0.0

    async def run(self) -> dict[str, float]:
        """Call until the end; return what came of it."""
        async with asyncio.TaskGroup() as group:
            background = group.create_task(self._limits.run(), name="limits")
            await asyncio.sleep(self._begins - time.time())  # noqa: TID251
            used = time.process_time()
            async with asyncio.TaskGroup() as callers:
                for n in range(TASKS):
                    callers.create_task(self._calls(n), name=f"caller {n}")
            used = time.process_time() - used
            background.cancel()
        await self._limits.end()
        return {
            "passed": self.passed,
            "refused": self.refused,
            "asked": self.asked,
            "first": self.first,
            "last": self.last,
            "cpu": used,
        }

    async def _calls(self, n: int) -> None:
        at = self._begins + n * self._interval / TASKS
        one = self._leased if self._job["leased"] else self._asking
        while (now := time.time()) < self._ends:  # noqa: TID251
            if now < at:
                await asyncio.sleep(at - now)
            at = max(at + self._interval, now - 0.1)
            if await one():
                self.passed += 1
                self.first = min(self.first, now)
                self.last = time.time()  # noqa: TID251
            else:
                self.refused += 1

    async def _leased(self) -> bool:
        arguments = (self._allowance, self._caller, head(), "shop", "get", 1)
        try:
            if self._limits.take(*arguments) is None:
                self.asked += 1
                await self._limits.take_shared(*arguments)
        except Refused:
            return False
        return True

    async def _asking(self) -> bool:
        """Do what most gateways do: one script on the server for each request."""
        pace = self._allowance.paces[0]
        now = time.time_ns()
        self.asked += 1
        found = await self._store.advance(
            self._job["name"], pace.interval, floor=now, most=now + pace.room, seconds=60
        )
        return found.passed


async def main() -> None:
    """Do the job on standard input and print what came of it."""
    job = json.loads(sys.stdin.readline())
    async with opened(job["store"]) as store:
        await store.get("ready")
        print("ready", flush=True)
        begins = float(await asyncio.to_thread(sys.stdin.readline))
        print(json.dumps(await Worker(store, job, begins).run()))


if __name__ == "__main__":
    asyncio.run(main())
