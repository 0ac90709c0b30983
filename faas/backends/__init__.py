"""The ways to run functions, and the choice between them."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faas.backends.accelerator import kvm_possible, tsc_khz
from faas.backends.cgroup import Hierarchy, hierarchy, home, reap
from faas.backends.confined import Confinement, possible
from faas.backends.engine import Engine
from faas.backends.firecracker import Firecracker
from faas.backends.kept import LIMIT
from faas.backends.maker import swept
from faas.backends.micro import PATIENCE, Language, MicroBackend, Places
from faas.backends.process import ProcessBackend
from faas.backends.qemu import Qemu
from faas.backends.qemu_command import Accelerator
from faas.image.built import QEMU, Image, built, find
from faas.image.runtimes import runtime_root
from faas.vm import Backend, BootFailed
from wherry.errors import StartError

logger = logging.getLogger(__name__)

KINDS = ("auto", "qemu", "firecracker", "process")
FIRECRACKER = "firecracker"
_CPUINFO = Path("/proc/cpuinfo")
_MODULES = Path("/proc/modules")
_KVM = Path("/dev/kvm")
_KVM_PATIENCE = PATIENCE[:1]
_WAY_OUT = "run: wherry faas setup"


@asynccontextmanager
async def chosen(
    kind: str = "auto",
    *,
    cache: Path,
    run: Path,
    kept: Path | None = None,
    kept_bytes: int = LIMIT,
) -> AsyncIterator[Backend]:
    """Yield a backend; afterwards nothing of it is left but the cache and what it keeps.

    What an earlier process left here when it was killed is removed first.

    Args:
        kind: ``qemu``, ``firecracker``, ``process``, or ``auto``: the best that is set up. A
            process backend that stands in says why in its ``isolation``.
        cache: Where images and disks are kept.
        run: Folder for the files of this run.
        kept: Folder for saved functions that the next run takes over; None: they end with this.
        kept_bytes: Most bytes on the disk that saved functions take together.

    Raises:
        StartError: ``kind`` is unknown, or asks for what does not work here.
    """
    if kind not in KINDS:
        raise StartError(f"backend {kind!r}: unknown, expected {', '.join(KINDS)}")
    async with home(await asyncio.to_thread(_reaped, cache, run)) as groups:
        if kind == "process":
            yield ProcessBackend(cache, groups=groups)
            return
        places = Places(cache, run / "vms", kept, kept_bytes)
        found = await _found(kind, places, groups)
        if isinstance(found, MicroBackend):
            await asyncio.to_thread(found.sweep)
            try:
                yield found
            finally:
                await asyncio.to_thread(shutil.rmtree, places.run, ignore_errors=True)
        elif kind == "auto":
            yield ProcessBackend(cache, reason=f"{found}; {_WAY_OUT}", groups=groups)
        else:
            raise StartError(_refusal(kind, found))


def _refusal(kind: str, found: str) -> str:
    if kind == "qemu":
        return f"backend qemu: {found}, expected it set up; {_WAY_OUT}"
    return (
        f"backend firecracker: {found}, expected Firecracker on PATH, a KVM that boots guests, "
        f"and the guest image; for the image {_WAY_OUT}"
    )


def _reaped(cache: Path, run: Path) -> Hierarchy | None:
    """Remove what processes that are gone left; return where cgroups can be made."""
    groups = hierarchy()
    for name in [*reap(groups), *swept(cache), *swept(run / "vms")]:
        logger.info("removed what an earlier run left", extra={"what": name})
    return groups


async def _found(kind: str, places: Places, groups: Hierarchy | None) -> MicroBackend | str:
    """Return a backend that has booted a guest on this host, or why there is none."""
    image = await asyncio.to_thread(built, places.cache)
    if image is None:
        return "the guest image is not built"
    held = await possible(groups)
    ways = {"qemu": _qemu, "firecracker": _firecracker}
    reasons = []
    for name in ("firecracker", "qemu") if kind == "auto" else (kind,):
        found = await ways[name](image, places, held)
        if isinstance(found, MicroBackend):
            return found
        reasons.append(found)
    return reasons[-1]


async def _firecracker(image: Image, places: Places, held: Confinement) -> MicroBackend | str:
    program = find(FIRECRACKER)
    if program is None:
        return f"{FIRECRACKER} is not installed"
    if not await _kvm_may_work():
        return "there is no KVM that works"
    return await _tried(Firecracker(program, image, held), places)


async def _qemu(image: Image, places: Places, held: Confinement) -> MicroBackend | str:
    """Return a backend on KVM if a guest boots so, otherwise on emulation."""
    program = find(QEMU)
    if program is None:
        return f"{QEMU} is not installed"
    khz = tsc_khz(await asyncio.to_thread(_CPUINFO.read_text))
    if await _kvm_may_work():
        found = await _tried(Qemu(program, image, Accelerator("kvm", khz), held), places)
        if isinstance(found, MicroBackend):
            return found
    engine = Qemu(program, image, Accelerator("tcg", khz), held)
    emulated = MicroBackend(engine, places, language=_language(places.cache))
    try:
        await emulated.prove()
    except BootFailed as error:
        return f"no microVM boots here ({error})"
    return emulated


async def _tried(engine: Engine, places: Places) -> MicroBackend | str:
    """Return a backend that boots a guest on KVM; a refusal is remembered and not tried again."""
    refused = places.cache / f"kvm-refused-{engine.key()}"
    if await asyncio.to_thread(refused.exists):
        return "KVM booted no guest here before"
    language = _language(places.cache)
    backend = MicroBackend(engine, places, language=language, patience=_KVM_PATIENCE)
    try:
        await backend.prove()
    except BootFailed as error:
        logger.warning("KVM boots no guest here", extra={"why": str(error)})
        await asyncio.to_thread(refused.touch)
        return f"KVM boots no guest here ({error})"
    return backend


async def _kvm_may_work() -> bool:
    """Return whether it is worth a try; only a boot proves it."""
    cpuinfo, modules, there = await asyncio.to_thread(_host)
    return there and kvm_possible(cpuinfo, modules)


def _language(cache: Path) -> Language:
    async def root(runtime: str) -> Path | None:
        if not runtime:
            return None
        return await asyncio.to_thread(runtime_root, runtime, cache, progress=logger.warning)

    return root


def _host() -> tuple[str, str, bool]:
    """Return cpuinfo, the loaded modules, and whether there is a KVM device."""
    modules = _MODULES.read_text() if _MODULES.exists() else ""
    return _CPUINFO.read_text(), modules, _KVM.exists()
