"""The workers on real processes: who is started, restored, retried and ended."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from faas.backends.process import ProcessBackend
from faas.lambda_errors import ServiceFailure, TooManyRequests
from faas.running.workers import Limits, Workers
from faas.telemetry.logs import Ring
from faas.vm import BootFailed, Call, Launch
from wherry.clock import SystemClock

pytestmark = pytest.mark.e2e

ECHO = "def handler(event, context): return event"
SLOW = "import time\ndef handler(event, context): time.sleep(event); return event"


@dataclass
class Image:
    """What a saved VM would be: here only its launch."""

    launch: Launch
    owner: "Saving"

    def discard(self):
        self.owner.did.append("discard")
        self.owner.images.remove(self)


class Saving(ProcessBackend):
    """Real sandboxes behind the scheduling of a backend with snapshots: clones boot anew."""

    def __init__(self, cache):
        super().__init__(cache)
        self.did, self.torn, self.launches, self.images = [], 0, {}, []

    def saves(self, launch):
        return True

    @asynccontextmanager
    async def boot(self, launch, logs):
        self.did.append("boot")
        async with super().boot(launch, logs) as vm:
            self.launches[vm.id] = launch
            yield vm

    async def snapshot(self, vm):
        self.did.append("snapshot")
        self.images.append(Image(self.launches[vm.id], self))
        return self.images[-1]

    def kept(self, launch):
        return next((image for image in self.images if image.launch == launch), None)

    def forget(self, function, version, *, but):
        for image in [each for each in self.images if each not in but]:
            if image.launch.function == function and version in (None, image.launch.version):
                image.discard()

    @asynccontextmanager
    async def restore(self, image, logs):
        if self.torn:
            self.torn -= 1
            self.did.append("torn")
            raise BootFailed("clone", "a torn image")
        self.did.append("restore")
        async with super().boot(image.launch, logs) as vm:
            yield vm


def launch(tmp_path, source, name="f", **fields):
    code = tmp_path / f"code-{abs(hash(source))}"
    code.mkdir(exist_ok=True)
    (code / "app.py").write_text(source)
    given = {
        "function": name,
        "version": "$LATEST",
        "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "code": code,
        "digest": "0" * 64,
        "handler": "app.handler",
        "runtime": "python3.11",
        "memory_mib": 128,
        "timeout": 10.0,
        "init_timeout": 10.0,
        "environment": {},
        "egress": None,
    }
    return Launch(**given | fields)


@asynccontextmanager
async def working(backend, **limits):
    async with asyncio.TaskGroup() as tasks:
        workers = Workers(backend, Limits(**{"keep_idle": 60.0} | limits), SystemClock(), tasks)
        try:
            yield workers
        finally:
            await workers.stop()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


numbers = iter(range(10_000))


async def call(workers, what, event=None):
    request = Call(f"r{next(numbers)}", json.dumps(event).encode(), 0, what.arn)
    outcome = await workers.invoke(what, request, Ring(lines=100))
    return json.loads(outcome.payload), outcome.error, outcome.kind


async def test_one_boot_makes_the_snapshot_that_every_instance_is_restored_from(tmp_path):
    backend = Saving(tmp_path / "cache")
    what = launch(tmp_path, SLOW)
    async with working(backend, freeze_after=0) as workers:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call(workers, what, 3)) for _ in range(3)]
        assert [done.result()[:2] for done in calls] == [(3, None)] * 3
        assert sorted(done.result()[2] for done in calls) == ["cold", "restored", "restored"]
        assert backend.did[:2] == ["boot", "snapshot"]
        assert backend.did.count("boot") == 1
        assert backend.did.count("restore") == 3
    assert "discard" not in backend.did


async def test_an_image_of_an_earlier_process_is_adopted_and_goes_with_its_version(tmp_path):
    backend = Saving(tmp_path / "cache")
    what = launch(tmp_path, ECHO, version="7")
    async with working(backend) as workers:
        assert (await call(workers, what, 1))[2] == "cold"
    async with working(backend) as workers:
        assert (await call(workers, what, 1))[2] == "restored"
        assert backend.did == ["boot", "snapshot", "restore", "restore"]
        workers.retire("f", "7")
        await until(lambda: not workers.seen().pools)
        assert backend.did[-1] == "discard"
        assert backend.kept(what) is None


async def test_several_versions_serve_at_once_and_one_goes_alone(tmp_path):
    backend = Saving(tmp_path / "cache")
    one, two = (
        launch(tmp_path, f"def handler(event, context): return {number}", version=str(number))
        for number in (1, 2)
    )
    async with working(backend) as workers:
        for _ in range(3):
            assert (await call(workers, one))[0] == 1
            assert (await call(workers, two))[0] == 2
        assert backend.did.count("boot") == 2
        workers.retire("f", "1")
        await until(lambda: len(workers.seen().pools) == 1)
        assert backend.did.count("discard") == 1
        assert (await call(workers, two))[2] in ("warm", "frozen")


async def test_back_at_the_old_launch_its_instances_and_its_image_serve_again(tmp_path):
    backend = Saving(tmp_path / "cache")
    old, new = launch(tmp_path, SLOW), launch(tmp_path, ECHO)
    async with working(backend) as workers:
        await workers.ready(old, Ring(lines=10))
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(call(workers, old, 4))
            await until(lambda: any(pool.busy for pool in workers.seen().pools.values()))
            assert (await call(workers, new, 2))[0] == 2
            assert (await call(workers, old, 0.1))[0] == 0.1
        assert slow.result()[0] == 4
        assert backend.did.count("boot") == 2


async def test_an_image_that_no_clone_comes_up_from_is_made_anew_and_the_call_succeeds(tmp_path):
    backend = Saving(tmp_path / "cache")
    what = launch(tmp_path, ECHO)
    async with working(backend, keep_idle=0) as workers:
        assert (await call(workers, what, 1))[0] == 1
        backend.torn = 1
        assert (await call(workers, what, 2))[0] == 2
        assert backend.did == [
            *("boot", "snapshot", "restore"),
            *("torn", "discard", "boot", "snapshot", "restore"),
        ]


async def test_a_platform_that_never_comes_up_fails_the_call_after_two_tries(tmp_path):
    backend = Saving(tmp_path / "cache")
    backend.torn = 2
    async with working(backend) as workers:
        what = launch(tmp_path, ECHO)
        with pytest.raises(ServiceFailure, match="a torn image"):
            await call(workers, what, 1)
        assert (await call(workers, what, 2))[0] == 2


async def test_a_snapshot_that_fails_to_load_gives_every_waiting_call_the_error_once(tmp_path):
    backend = Saving(tmp_path / "cache")
    what = launch(tmp_path, "1 / 0")
    async with working(backend) as workers:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call(workers, what)) for _ in range(4)]
        assert {done.result()[0]["errorType"] for done in calls} == {"ZeroDivisionError"}
        assert backend.did == ["boot"]


async def test_a_newer_version_takes_over_when_it_is_ready_and_the_old_image_goes(tmp_path):
    backend = Saving(tmp_path / "cache")
    old, new = launch(tmp_path, ECHO), launch(tmp_path, "def handler(event, context): return 'n'")
    async with working(backend) as workers:
        assert (await call(workers, old, 1))[0] == 1
        async with asyncio.TaskGroup() as group:
            ready = group.create_task(workers.ready(new, Ring(lines=10)))
            await asyncio.sleep(0)
            assert (await call(workers, new, 2))[0] == 2
        assert ready.done()
        assert (await call(workers, new, 3))[0] == "n"
        await until(lambda: len(workers.seen().pools) == 1)
        assert backend.did.count("discard") == 1


async def test_a_call_that_waits_too_long_is_throttled_and_leaves_no_trace(tmp_path):
    backend = ProcessBackend(tmp_path / "cache")
    what = launch(tmp_path, SLOW)
    async with working(backend, concurrency=1, queue_wait=0.6) as workers:
        await workers.ready(what, Ring(lines=10))
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(call(workers, what, 2))
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await call(workers, what, 0)
        assert slow.result()[0] == 2
        [pool] = workers.seen().pools.values()
        assert pool.waiting == 0


async def test_a_caller_that_goes_away_does_not_spoil_the_instance(tmp_path):
    backend = ProcessBackend(tmp_path / "cache")
    what = launch(tmp_path, SLOW)
    async with working(backend, concurrency=1) as workers:
        await workers.ready(what, Ring(lines=10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call(workers, what, 0.5)
        assert (await call(workers, what, 0))[:2] == (0, None)
        assert workers.seen().pools["f#1"].size == 1


async def test_after_the_drain_time_a_call_in_flight_is_cut_short_and_told_so(tmp_path):
    backend = ProcessBackend(tmp_path / "cache")
    what = launch(tmp_path, SLOW)
    async with asyncio.TaskGroup() as group:
        async with working(backend, drain=0.2) as workers:
            await workers.ready(what, Ring(lines=10))
            slow = group.create_task(cut(workers, what))
            await asyncio.sleep(0)
        assert "stopping" in await slow
        with pytest.raises(ServiceFailure):
            await call(workers, what, 0)


async def cut(workers, what):
    with pytest.raises(ServiceFailure) as failure:
        await call(workers, what, 8)
    return str(failure.value)


async def test_a_payload_over_the_limit_is_an_error_of_the_function(tmp_path):
    what = launch(tmp_path, "def handler(event, context): return 'x' * event")
    async with working(ProcessBackend(tmp_path / "cache")) as workers:
        payload, error, _ = await call(workers, what, 7 << 20)
        assert error == "Unhandled"
        assert payload["errorType"] == "Function.ResponseSizeTooLarge"
        assert len((await call(workers, what, 5 << 20))[0]) == 5 << 20
