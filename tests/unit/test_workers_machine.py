"""The workers under random calls, deployments, limits, failures and memory: a state machine.

Backend and time are pretended, see `support.pretend`; planner, queues, life and limits are real.
"""

import asyncio
import json
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.pretend import LoopClock, Pretend, PretendHost, VirtualLoop, launch

from faas.lambda_errors import ServiceFailure, TooManyRequests
from faas.running.workers import Limits, Workers
from faas.telemetry.logs import Ring
from faas.vm import Call

MOST, STARTS, QUEUE, ACCOUNT = 6, 3, 8, 20
KEEP_IDLE = 20.0
QUIET = 100.0
"""Seconds after which all that was put off has been tried again, and all that idled has gone."""


class Schedule(RuleBasedStateMachine):
    """Three versions of two functions under one set of limits."""

    saves = True

    def __init__(self):
        super().__init__()
        self.loop = VirtualLoop()
        self.backend = Pretend(saves=self.saves)
        self.host = PretendHost(self.backend)
        self.ring = Ring(lines=50)
        self.launches = {
            "f1": launch("f", "1"),
            "f2": launch("f", "2"),
            "g": launch("g", "$LATEST"),
        }
        self.calls, self.deploys, self.code = {}, [], 0
        self.reserved, self.provisioned = {}, {}
        self.numbers = 0
        self.run(self.open())

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def open(self):
        ready = asyncio.Event()
        self.closing = asyncio.Event()

        async def own():
            async with asyncio.TaskGroup() as tasks:
                self.workers = Workers(
                    self.backend,
                    Limits(
                        account=ACCOUNT,
                        instances=MOST,
                        starts=STARTS,
                        queue=QUEUE,
                        keep_idle=KEEP_IDLE,
                        queue_wait=20.0,
                    ),
                    LoopClock(self.loop),
                    tasks,
                    host=self.host,
                )
                ready.set()
                await self.closing.wait()
                await self.workers.stop()

        self.owner = self.loop.create_task(own())
        await ready.wait()

    def teardown(self):
        self.closing.set()
        try:
            everyone = [self.owner, *self.calls.values(), *self.deploys]
            _, left = self.run(asyncio.wait(everyone, timeout=600.0))
            assert not left, "the workers did not stop"
            self.owner.result()
            for name, task in self.calls.items():
                self.check(name, task)
            assert self.backend.wrong == []
            assert self.backend.guests == {}
        finally:
            self.loop.close()

    async def step(self, seconds=0.0):
        await asyncio.sleep(seconds)
        for _ in range(20):
            await asyncio.sleep(0)

    async def invoke(self, which, name, event):
        what = self.launches[which]
        call = Call(name, json.dumps(event).encode(), 0, what.arn)
        return await self.workers.invoke(what, call, self.ring)

    def check(self, name, task):
        """Hold a call that ended against what may become of calls."""
        if task.cancelled():
            return
        error = task.exception()
        times = [each for each, _ in self.backend.ran].count(name)
        assert times <= 1, f"{name} ran {times} times"
        if error is None:
            outcome = task.result()
            body = json.loads(outcome.payload)
            if outcome.error is None:
                assert times == 1
                assert body["name"] == name
            else:
                known = {"Sandbox.Timedout", "Runtime.ExitError", "ImportError"}
                assert body["errorType"] in known
        else:
            assert isinstance(error, TooManyRequests | ServiceFailure), error

    @rule(
        which=st.sampled_from(["f1", "f2", "g"]),
        count=st.integers(1, 6),
        seconds=st.sampled_from([0.0, 0.01, 0.5, 3.0, 40.0]),
        die=st.integers(0, 9),
    )
    def call(self, which, count, seconds, die):
        for _ in range(count):
            self.numbers += 1
            name = f"c{self.numbers}"
            event = {"name": name, "seconds": seconds, "die": die == 0}
            self.calls[name] = self.loop.create_task(self.invoke(which, name, event))
        self.run(self.step())

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.3, 1.0, 2.5, 10.0, 25.0]))
    def time_passes(self, seconds):
        self.run(self.step(seconds))

    @precondition(lambda self: any(not task.done() for task in self.calls.values()))
    @rule(data=st.data())
    def a_caller_goes_away(self, data):
        open_ = [name for name, task in self.calls.items() if not task.done()]
        self.calls[data.draw(st.sampled_from(open_))].cancel()
        self.run(self.step())

    @rule()
    def new_code_is_deployed(self):
        self.code += 1
        self.launches["g"] = launch("g", "$LATEST", digest=f"{self.code % 3:064d}")

        async def deploy(what):
            with suppress(TooManyRequests, ServiceFailure):
                await self.workers.ready(what, self.ring)

        self.deploys.append(self.loop.create_task(deploy(self.launches["g"])))
        self.run(self.step())

    @rule(count=st.sampled_from([None, 0, 1, 3]))
    def concurrency_is_reserved(self, count):
        self.workers.reserve("f", count)
        self.reserved = {} if count is None else {"f": count}

    @rule(count=st.integers(0, 2))
    def concurrency_is_provisioned(self, count):
        self.workers.provision(self.launches["f2"], self.ring, count)
        self.provisioned = {"f2": count} if count else {}
        self.run(self.step())

    @rule(version=st.sampled_from(["1", "2", None]))
    def a_version_is_deleted(self, version):
        self.workers.retire("f", version)
        if version != "1":
            self.provisioned = {}
        if version is None:
            self.reserved = {}
        self.run(self.step())

    @rule(kind=st.sampled_from(["fail_boots", "fail_restores", "fail_inits"]))
    def the_next_start_fails(self, kind):
        setattr(self.backend, kind, 1)

    @rule()
    def for_a_while_nothing_comes_up(self):
        """What no call waits for is tried ever less often."""
        backend = self.backend
        backend.fail_boots = backend.fail_restores = 1 << 30
        before = backend.boots + backend.restores
        self.run(self.step(QUIET))
        assert backend.boots + backend.restores - before < 100
        backend.fail_boots = backend.fail_restores = 0

    @precondition(lambda self: self.backend.guests)
    @rule(data=st.data())
    def an_idle_guest_dies(self, data):
        idle = [each for each in self.backend.guests.values() if not each.busy]
        if idle:
            data.draw(st.sampled_from(idle)).dead.set()
            self.run(self.step())

    @rule(mib=st.sampled_from([100, 200, 1 << 20]), stalled=st.sampled_from([0.0, 50.0]))
    def memory_changes(self, mib, stalled):
        self.host.state.update(mib=mib, stalled=stalled)

    @rule()
    def all_is_well_and_quiet(self):
        """Whatever was before: calls end, and of the instances only provisioned ones stay."""
        self.host.state.update(mib=1 << 20, stalled=0.0)
        self.backend.fail_boots = self.backend.fail_restores = self.backend.fail_inits = 0
        self.run(self.step(QUIET))
        assert all(task.done() for task in self.calls.values())
        wanted = sum(self.provisioned.values())
        assert len(self.backend.guests) == wanted
        for which, count in self.provisioned.items():
            what = self.launches[which]
            assert self.workers.provisioned(what.function, what.version) == (count, count)
        seen = self.workers.seen().pools.values()
        assert sum(pool.size for pool in seen) == wanted
        assert not self.workers.shares.running
        assert self.workers.queued_bytes == 0
        started = self.backend.boots + self.backend.restores
        self.run(self.step(QUIET / 2))
        assert self.backend.boots + self.backend.restores == started, "instances come and go"

    @invariant()
    def nothing_is_wrong(self):
        assert self.backend.wrong == []
        assert self.backend.most <= MOST
        starting = sum(pool.starting for pool in self.workers.seen().pools.values())
        assert starting <= STARTS
        assert sum(self.workers.shares.running.values()) <= ACCOUNT
        for pool in self.workers.seen().pools.values():
            assert pool.waiting <= QUEUE + 1

    @invariant()
    def every_call_that_ended_ended_well(self):
        for name, task in list(self.calls.items()):
            if task.done():
                self.check(name, task)
                del self.calls[name]

    @invariant()
    def the_workers_know_of_every_guest(self):
        seen = self.workers.seen().pools.values()
        assert len(self.backend.guests) <= sum(pool.size for pool in seen)

    @invariant()
    def no_image_is_left_behind(self):
        assert len(self.backend.images) <= len(self.workers.seen().pools)


class Booting(Schedule):
    """The same on a backend that saves nothing."""

    saves = False


Schedule.TestCase.settings = Booting.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)
TestSchedule = Schedule.TestCase
TestBooting = Booting.TestCase
