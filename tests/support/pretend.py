"""A backend without VMs and a loop without waiting: what schedules is real, time and guests not.

The guests are strict: a call on one that is busy or frozen, one that is taken down in the middle
of a call, or one that outlives its context is written down as wrong.
"""

import asyncio
import json
import selectors
from contextlib import asynccontextmanager
from pathlib import Path

from faas.running.memory import Host
from faas.running.pool import Memory
from faas.vm import Answer, BootFailed, Crashed, InitFailed, Launch, NotAtRestorePoint


class Warp(selectors.DefaultSelector):
    """Lets the loop's time jump to the next timer instead of waiting for it."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout:
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on `Warp`'s time; threads do not go with it."""

    def __init__(self):
        self.warp = Warp()
        super().__init__(self.warp)

    def time(self):
        return self.warp.now


class LoopClock:
    """A loop's time."""

    def __init__(self, loop):
        self._loop = loop

    def now(self):
        return self._loop.time()

    def unix_ns(self):
        return round(self._loop.time() * 1e9)


class PretendHost(Host):
    """A host whose memory the test sets; what guests use comes off it."""

    def __init__(self, backend=None):
        super().__init__()
        object.__setattr__(self, "state", {"mib": 1 << 20, "stalled": 0.0, "backend": backend})

    def memory(self):
        backend = self.state["backend"]
        used = 0 if backend is None else len(backend.guests) * backend.guest_mib
        return Memory(self.state["mib"] - used, 100, self.state["stalled"])


class Image:
    def __init__(self, launch, owner):
        self.launch, self.owner = launch, owner

    def discard(self):
        assert self in self.owner.images
        self.owner.images.remove(self)


class Guest:
    """Sleeps ``event["seconds"]`` and echoes; dies when ``event["die"]``."""

    def __init__(self, owner, launch, id_):
        self.id, self.launch, self.owner = id_, launch, owner
        self.busy = self.frozen = self.spent = False
        self.dead = asyncio.Event()
        self.calls = 0

    @property
    def state(self):
        raise NotImplementedError

    async def invoke(self, call, stream=None):
        if self.busy or self.frozen or self.spent:
            self.owner.wrong.append(f"{call.request_id} given to {self.id} that cannot take it")
        self.owner.ran.append((call.request_id, self.launch))
        self.busy = True
        self.calls += 1
        event = json.loads(call.payload)
        try:
            await asyncio.sleep(event.get("seconds", 0))
        except asyncio.CancelledError:
            self.spent = True
            raise
        if event.get("die"):
            self.spent, self.busy = True, False
            self.dead.set()
            raise Crashed(self.id, exit_status=1)
        if stream is not None:
            await stream.begin("text/plain")
            for piece in event.get("pieces", ()):
                await stream.write(piece.encode())
        self.busy = False
        return Answer(call.payload if stream is None else b"", None, "application/json", 40)

    async def freeze(self):
        if self.busy or self.frozen:
            self.owner.wrong.append(f"{self.id} frozen while busy or frozen")
        self.frozen = True

    async def thaw(self):
        if self.dead.is_set():
            raise Crashed(self.id)
        self.frozen = False

    async def gone(self):
        await self.dead.wait()


class Pretend:
    """The backend."""

    name = "pretend"
    isolation = "none: nothing runs"

    def __init__(self, *, saves=True, boot=2.0, restore=0.2, guest_mib=64):
        self._saves, self.boot_seconds, self.restore_seconds = saves, boot, restore
        self.guest_mib = guest_mib
        self.guests, self.images, self.wrong, self.ran = {}, [], [], []
        self.boots = self.restores = self.most = 0
        self.fail_boots = self.fail_restores = self.fail_inits = 0
        self._numbers = iter(range(1_000_000))

    def saves(self, launch):
        return self._saves

    def kept(self, launch):
        return next((image for image in self.images if image.launch == launch), None)

    def forget(self, function, version, *, but):
        for image in [each for each in self.images if each not in but]:
            if image.launch.function == function and version in (None, image.launch.version):
                image.discard()

    @asynccontextmanager
    async def _guest(self, launch, seconds):
        guest = Guest(self, launch, f"vm{next(self._numbers)}")
        self.guests[guest.id] = guest
        self.most = max(self.most, len(self.guests))
        try:
            await asyncio.sleep(seconds)
            yield guest
            if guest.busy and not guest.spent:
                self.wrong.append(f"{guest.id} taken down in the middle of a call")
        finally:
            del self.guests[guest.id]

    @asynccontextmanager
    async def boot(self, launch, logs):
        self.boots += 1
        async with self._guest(launch, self.boot_seconds) as guest:
            if self.fail_boots:
                self.fail_boots -= 1
                raise BootFailed(guest.id, "nothing")
            if self.fail_inits:
                self.fail_inits -= 1
                raise InitFailed("ImportError", "no", b"{}")
            yield guest

    async def snapshot(self, vm):
        if vm.calls:
            raise NotAtRestorePoint(vm.id)
        self.images.append(Image(vm.launch, self))
        return self.images[-1]

    @asynccontextmanager
    async def restore(self, image, logs):
        self.restores += 1
        if image not in self.images:
            raise BootFailed("clone", "an image that is gone")
        async with self._guest(image.launch, self.restore_seconds) as guest:
            if self.fail_restores:
                self.fail_restores -= 1
                raise BootFailed(guest.id, "a torn image")
            yield guest


def launch(name="f", version="1", **fields):
    given = {
        "function": name,
        "version": version,
        "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "code": Path("code"),
        "digest": "0" * 64,
        "handler": "app.handler",
        "runtime": "python3.11",
        "memory_mib": 128,
        "timeout": 30.0,
        "init_timeout": 10.0,
        "environment": {},
        "egress": None,
    }
    return Launch(**given | fields)
