"""Functions in microVMs: no network card, snapshots after init, clones from them."""

import asyncio
import hashlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faas.backends import maker
from faas.backends.bases import Bases
from faas.backends.confined import Users
from faas.backends.disks import Content, Disks, contents, tmp_copy
from faas.backends.engine import DISKS, MEMORY, TMP, Engine, Plan, Running
from faas.backends.kept import LIMIT, Kept, owner
from faas.backends.machine import Machine
from faas.backends.order import kind, order
from faas.vm import (
    MEMORY_MIB,
    BootFailed,
    Crashed,
    InitTimeout,
    Launch,
    Logs,
    Move,
    NotAtRestorePoint,
    Vm,
    VmImage,
)
from wherry.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

PATIENCE = (15.0, 30.0, 60.0)
Language = Callable[[str], Awaitable[Path | None]]
_RESTORED = 20.0
"""Seconds for a restored guest to be there."""
_ENTROPY = 32
_SANDBOX_USER = 65534


async def no_language(_runtime: str) -> Path | None:
    """Give no runtime a language of its own."""
    return None


@dataclass(frozen=True, slots=True)
class MicroImage:
    """A saved VM: memory, devices and disks in a folder of their own.

    Attributes:
        launch: What runs in it.
        folder: Holds them.
    """

    launch: Launch
    folder: Path

    def discard(self) -> None:
        """See `faas.vm.VmImage`."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Places:
    """Where files go.

    Attributes:
        cache: Saved VMs without a function, and disks; shared by all.
        run: All that ends with this run.
        kept: Saved functions that outlive it; None: they do not.
        limit: Bytes that saved functions may take together.
    """

    cache: Path
    run: Path
    kept: Path | None = None
    limit: int = LIMIT


class MicroBackend:
    """Runs each function in microVMs.

    A VM without a function is booted once for each size of memory and kept in the cache; every
    other start is a restore: of that one to load a function, or of a function's own snapshot.

    Args:
        engine: Starts VMs.
        places: Where files go.
        language: Returns the folder with a runtime's language, None where the guest has it.
        patience: Seconds that each try at a boot may take; an emulated one sometimes hangs.
        clock: What guests' clocks are set to; None: the system's.
    """

    def __init__(
        self,
        engine: Engine,
        places: Places,
        *,
        language: Language = no_language,
        patience: Sequence[float] = PATIENCE,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._key = engine.key()
        self._language = language
        self._patience = patience
        self._clock = clock or SystemClock()
        self._bases = Bases(places.cache, self._make_base, key=self._key)
        self._disks = Disks(places.cache)
        kept = places.kept or places.run / "images"
        self._kept = Kept(kept, base=self._key, limit=places.limit)
        self._users = Users()
        self._numbers = itertools.count(1)
        self._loaded: dict[str, tuple[Running, Launch, Path]] = {}

    @property
    def name(self) -> str:
        """See `faas.vm.Backend`."""
        return self._engine.name

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        return self._engine.isolation

    def saves(self, launch: Launch) -> bool:
        """See `faas.vm.Backend`: only Python's runtime has a restore point."""
        return kind(launch) == "python"

    def kept(self, launch: Launch) -> VmImage | None:
        """See `faas.vm.Backend`."""
        if not self.saves(launch):
            return None
        folder = self._kept.find(self._content(launch))
        return MicroImage(launch, folder) if folder else None

    def forget(self, function: str, version: str | None, *, but: Collection[VmImage]) -> None:
        """See `faas.vm.Backend`."""
        stay = {image.folder for image in but if isinstance(image, MicroImage)}
        self._kept.forget(owner(function, version), but=stay)

    @asynccontextmanager
    async def boot(self, launch: Launch, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        id_ = f"{launch.function}-v{next(self._numbers)}"
        base = await self._bases.of(launch.memory_mib)
        wanted = contents(launch, await self._language(launch.runtime))
        async with self._folder(self._kept.scratch, id_) as folder:
            user = self._users.next()
            await self._disks.put(wanted, folder)
            blank = await self._disks.tmp(launch.tmp_mib)
            await asyncio.to_thread(tmp_copy, blank, folder / TMP, user)
            await self._engine.seed(base, folder, user)
            async with self._restored(id_, launch, folder, user=user, logs=logs, shared=True) as vm:
                await _load(launch, vm, parks=self.saves(launch))
                self._loaded[id_] = vm, launch, folder
                try:
                    machine = Machine(id_, vm.guest, vm.brake(self._clock), fresh=vm.guest.parked)
                    async with machine.lasting():
                        yield machine
                finally:
                    del self._loaded[id_]

    async def snapshot(self, vm: Vm) -> VmImage:
        """See `faas.vm.Backend`."""
        if vm.id not in self._loaded or not isinstance(vm, Machine) or not vm.fresh:
            raise NotAtRestorePoint(vm.id)
        running, launch, folder = self._loaded[vm.id]
        vm.move(Move.SAVE)
        await running.save()
        key = await asyncio.to_thread(self._content, launch)
        return MicroImage(launch, await asyncio.to_thread(self._kept.keep, folder, key))

    @asynccontextmanager
    async def restore(self, image: VmImage, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        assert isinstance(image, MicroImage)  # noqa: S101
        launch = image.launch
        id_ = f"{launch.function}-v{next(self._numbers)}"
        user = _owner(id_, image.folder / MEMORY)
        async with self._restored(
            id_, launch, image.folder, user=user, logs=logs, shared=False
        ) as vm:
            try:
                async with asyncio.timeout(launch.init_timeout):
                    await vm.guest.proceeded()
            except TimeoutError:
                raise InitTimeout(launch.function, launch.init_timeout) from None
            machine = Machine(id_, vm.guest, vm.brake(self._clock), fresh=False)
            async with machine.lasting():
                yield machine

    async def prove(self) -> None:
        """Boot once, or find that it was done before.

        Raises:
            BootFailed: No guest comes up on this host in this way.
        """
        await self._bases.of(MEMORY_MIB.start)

    def sweep(self) -> None:
        """Remove what earlier runs left and nobody can use. Blocks on the disk."""
        for name in self._kept.swept():
            logger.info("removed what an earlier run left", extra={"folder": name})

    def _content(self, launch: Launch) -> str:
        """Return a name for all that the image of ``launch`` depends on. Blocks on the disk."""
        told = order(launch, devices=True, snap_start=True, uid=_SANDBOX_USER)
        disks = self._disks.key(contents(launch, None))
        sizes = (launch.memory_mib, launch.tmp_mib)
        parts = (self._key, *sizes, json.dumps(told, sort_keys=True), disks)
        content = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return owner(launch.function, launch.version) + content

    @asynccontextmanager
    async def _folder(self, make: Callable[[str], Path], name: str) -> AsyncIterator[Path]:
        folder = make(name)
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @asynccontextmanager
    async def _restored(
        self,
        id_: str,
        launch: Launch,
        folder: Path,
        *,
        user: int | None,
        logs: Logs,
        shared: bool,
    ) -> AsyncIterator[Running]:
        """Enter with a VM that goes on from ``folder`` with a clock and entropy of its own."""
        async with self._folder(partial(maker.scratch, folder.parent), f"{id_}-files") as scratch:
            plan = Plan(
                id_,
                folder,
                scratch,
                launch.memory_mib,
                user,
                shared,
                restored=True,
                egress=launch.egress,
                logs=logs,
            )
            if not shared:
                await self._own_tmp(id_, folder / TMP, plan.tmp, user)
            async with self._engine.started(plan) as vm:
                try:
                    async with asyncio.timeout(_RESTORED):
                        await vm.load()
                        await vm.guest.restore(
                            self._clock.unix_ns(), os.urandom(_ENTROPY), proceed=not shared
                        )
                        await vm.guest.set_clock(self._clock.unix_ns())
                except (Crashed, ConnectionError):
                    raise vm.ended() from None
                except TimeoutError:
                    raise BootFailed(id_, f"no sign of life in {_RESTORED:g} s") from None
                yield vm

    @staticmethod
    async def _own_tmp(id_: str, saved: Path, own: Path, user: int | None) -> None:
        """Give a clone a disk with what init left on the one that was saved."""
        try:
            await asyncio.to_thread(tmp_copy, saved, own, user)
        except OSError as error:
            raise BootFailed(id_, f"{TMP}: {error.strerror}", "a disk to start from") from None

    async def _make_base(self, folder: Path, memory_mib: int) -> None:
        """Boot a VM without a function and save it in ``folder``."""
        await self._disks.put([Content(name, ()) for name in DISKS], folder)
        failure: BootFailed | None = None
        for patience in self._patience:
            try:
                await self._boot_base(folder, memory_mib, patience)
            except BootFailed as error:
                logger.warning("guest did not boot", extra={"why": str(error)})
                failure = error
            else:
                return
        assert failure is not None  # noqa: S101
        raise failure

    async def _boot_base(self, folder: Path, memory_mib: int, patience: float) -> None:
        name, user = f"base-{memory_mib}", self._users.next()
        await asyncio.to_thread(tmp_copy, None, folder / TMP, user)
        async with self._folder(partial(maker.scratch, folder.parent), name) as scratch:
            plan = Plan(
                name,
                folder,
                scratch,
                memory_mib,
                user,
                shared=True,
                restored=False,
                egress=None,
                logs=logger.debug,
            )
            async with self._engine.started(plan) as vm:
                try:
                    async with asyncio.timeout(patience):
                        await vm.up()
                    await vm.save()
                except (Crashed, ConnectionError):
                    raise vm.ended() from None
                except TimeoutError:
                    console = await vm.console()
                    said = f"silent for {patience:g} s after {console!r}"
                    raise BootFailed(vm.id, said) from None


def _owner(id_: str, memory: Path) -> int | None:
    """Return the user whose memory it is: all clones of one image run as the same."""
    try:
        owner = memory.stat().st_uid
    except OSError as error:
        raise BootFailed(id_, f"image: {error.strerror}", "its memory") from None
    return owner if os.geteuid() == 0 else None


async def _load(launch: Launch, vm: Running, *, parks: bool) -> None:
    told = order(launch, devices=True, snap_start=parks, uid=_SANDBOX_USER)
    try:
        async with asyncio.timeout(launch.init_timeout):
            await vm.guest.launch(told)
    except TimeoutError:
        raise InitTimeout(launch.function, launch.init_timeout) from None
