"""A process that accepts one event and is killed with SIGKILL at its n-th write.

``python -m support.dying_events STORE RAN WRITES`` prints ``accepted`` once the event is, and
``over`` when nothing is left to do. Each run of the function is a line in the file RAN.
"""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from faas.events.event import Event
from faas.events.service import Events, Host, Limits
from faas.place import Place
from faas.queues.service import Limits as QueueLimits
from faas.queues.service import Queues
from faas.running.outcome import Kind, Outcome
from support.mortal import Mortal
from wherry.clock import SystemClock
from wherry.store.sqlite import SqliteStore

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
DEAD = "arn:aws:sqs:us-east-1:000000000000:dead"
EVENT = Event("e-1", "f", "$LATEST", ARN, b'{"n": 1}')


@asynccontextmanager
async def living(store, ran):
    """Run events of a function that fails, with a queue for its dead letters."""

    async def invoke(_event):
        with ran.open("a") as lines:
            lines.write("ran\n")
        return Outcome(b'{"errorMessage": "boom"}', "Unhandled", Kind.WARM)

    async def dead_letter(_reference):
        return DEAD

    clock = SystemClock()
    queues = Queues(store, Place(), clock, QueueLimits())
    await queues.open()
    async with asyncio.TaskGroup() as tasks:
        host = Host(invoke, dead_letter, queues)
        limits = Limits(retries=(0.0,))
        events = Events(store, host, clock=clock, limits=limits, tasks=tasks)
        try:
            yield queues, events
        finally:
            events.stop()
            queues.stop()


async def over(events):
    """Return when no event is left."""
    async with asyncio.timeout(20):
        while events.pending:
            await asyncio.sleep(0.005)


def die():
    """End this process as an operator with no patience does."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(path, ran, writes):
    async with (
        SqliteStore.open(Path(path)) as store,
        living(Mortal(store, int(writes), die), Path(ran)) as (_, events),
    ):
        await events.accept(EVENT)
        print("accepted", flush=True)
        await over(events)
        print("over", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
