"""Packages that nothing names go while functions run; what somebody may still need stays."""

import asyncio
import os

import pytest
from support.lambda_api import zipped
from support.pretend import launch

from faas.code.package import packages, remove, root_of, unpacked
from faas.functions.registry import Registry
from faas.functions.sweeper import Sweeper
from faas.model.function import LayerUse, Reference
from faas.model.layer import PREFIX as LAYER
from faas.model.layer import LayerVersion
from faas.place import Place
from faas.records import Records
from faas.vm import Container
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore


class Instances:
    """Workers, as far as a sweeper asks them."""

    def __init__(self):
        self.launched = []

    def launches(self):
        return self.launched


class Later(SystemClock):
    """A clock that a test moves on."""

    moved = 0.0

    def now(self):
        return super().now() + self.moved

    def unix_ns(self):
        return super().unix_ns() + int(self.moved * 1e9)


class World:
    def __init__(self, tmp_path):
        self.code_dir = tmp_path / "code"
        self.store, self.clock, self.instances = MemoryStore(), Later(), Instances()
        self.registry = Registry(self.store, self.code_dir, Place(), self.clock)
        self.sweeper = Sweeper(self.registry, self.instances, self.clock, asyncio.TaskGroup())

    def package(self, text):
        return unpacked(zipped(text), self.code_dir).digest

    async def function(self, name, digest, **more):
        fields = {"runtime": "python3.11", "handler": "a.b", "code_size": 1, "digest": digest}
        return await self.registry.create(name, fields | more, pending=False)

    async def after(self, seconds):
        self.clock.moved += seconds
        return await self.sweeper.sweep()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_a_package_goes_some_time_after_the_last_record_that_named_it(world):
    old, new, layer, used = (world.package(f"# {n}") for n in range(4))
    uses = (LayerUse("arn:x:1", used, 1),)
    await world.function("f", old, layers=uses)
    version = LayerVersion("l", "arn:l", 1, layer, 1, "now")
    await Records(world.store, LAYER, LayerVersion).put("l/0000000001", version)
    await world.registry.publish("f")
    await world.registry.update(Reference("f"), {"digest": new}, pending=False)
    assert await world.after(10_000) == []
    assert packages(world.code_dir) == {old, new, layer, used}
    await world.registry.delete(Reference("f", "1"))
    assert await world.after(10_000) == []
    assert await world.after(599) == []
    assert await world.after(2) == [old]
    assert packages(world.code_dir) == {new, layer, used}
    await world.registry.delete(Reference("f"))
    assert await world.after(0) == []
    assert sorted(await world.after(601)) == sorted([new, used])
    assert packages(world.code_dir) == {layer}


async def test_a_package_that_a_deploy_found_again_stays_until_it_is_recorded(world):
    digest = world.package("# one")
    assert await world.after(1) == []
    os.utime(world.code_dir / digest, ns=(0, 0))
    world.clock.moved += 10_000
    now = world.clock.unix_ns()
    assert world.package("# one") == digest
    os.utime(world.code_dir / digest, ns=(now, now))  # the deploy's own touch, on our clock
    assert await world.sweeper.sweep() == []
    await world.function("f", digest)
    assert await world.after(10_000) == []
    assert root_of(world.code_dir, digest).is_dir()


async def test_what_an_instance_runs_stays_though_no_record_names_it(world):
    code, layer, image = (world.package(f"# {n}") for n in range(3))
    roots = [root_of(world.code_dir, each) for each in (code, layer, image)]
    container = Container(roots[2], ("x",), {}, "/")
    world.instances.launched = [
        launch("f", "1", code=roots[0], layers=(roots[1],)),
        launch("g", "1", container=container),
    ]
    assert await world.after(0) == []
    assert await world.after(10_000) == []
    world.instances.launched = []
    assert sorted(await world.after(1)) == sorted([code, layer, image])


async def test_what_is_being_unpacked_is_no_package_yet(world):
    world.package("# one")
    (world.code_dir / ".unpacking-x").mkdir()
    await world.after(0)
    await world.after(10_000)
    assert (world.code_dir / ".unpacking-x").is_dir()


async def test_deploys_and_removals_side_by_side_disturb_each_other_in_nothing(world):
    stop = asyncio.Event()

    def deploys():
        for number in range(60):
            world.package(f"# {number % 3}")

    async def removes():
        while not stop.is_set():
            soon = world.clock.unix_ns() + 10**9
            there = packages(world.code_dir)
            await asyncio.to_thread(remove, world.code_dir, there, before_ns=soon)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(removes())
        async with asyncio.TaskGroup() as deployers:
            for _ in range(3):
                deployers.create_task(asyncio.to_thread(deploys))
        stop.set()
    digest = world.package("# 0")
    assert (root_of(world.code_dir, digest) / "app.py").read_text() == "# 0"
    left = {path.name for path in world.code_dir.iterdir()} - packages(world.code_dir)
    assert left <= {".files"}
