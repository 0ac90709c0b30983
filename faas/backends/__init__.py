"""The ways to run functions, and the choice between them."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faas.backends.accelerator import kvm_possible, tsc_khz
from faas.backends.process import ProcessBackend
from faas.backends.qemu import PATIENCE, QemuBackend
from faas.backends.qemu_command import Accelerator
from faas.image.built import QEMU, Image, built, find
from faas.vm import Backend, BootFailed
from wherry.errors import StartError

logger = logging.getLogger(__name__)

KINDS = ("auto", "qemu", "process")
_CPUINFO = Path("/proc/cpuinfo")
_MODULES = Path("/proc/modules")
_KVM = Path("/dev/kvm")
_KVM_PATIENCE = PATIENCE[:1]
_WAY_OUT = "run: wherry faas setup"


@asynccontextmanager
async def chosen(kind: str = "auto", *, cache: Path, run: Path) -> AsyncIterator[Backend]:
    """Yield a backend; afterwards nothing of it is left but the cache.

    Args:
        kind: ``qemu``, ``process``, or ``auto``: qemu where it is set up. A process backend that
            stands in says why in its ``isolation``.
        cache: Where images are kept.
        run: Folder for the files of this run.

    Raises:
        StartError: ``kind`` is unknown, or asks for what does not work here.
    """
    if kind not in KINDS:
        raise StartError(f"backend {kind!r}: unknown, expected {', '.join(KINDS)}")
    if kind == "process":
        yield ProcessBackend(cache)
        return
    folder = run / "qemu"
    found = await _found(cache, folder)
    if isinstance(found, QemuBackend):
        try:
            yield found
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    elif kind == "qemu":
        raise StartError(f"backend qemu: {found}, expected it set up; {_WAY_OUT}")
    else:
        yield ProcessBackend(cache, reason=f"{found}; {_WAY_OUT}")


async def _found(cache: Path, run: Path) -> QemuBackend | str:
    """Return a backend that has booted a guest on this host, or why there is none."""
    program = find(QEMU)
    if program is None:
        return f"{QEMU} is not installed"
    image = await asyncio.to_thread(built, cache)
    if image is None:
        return "the guest image is not built"
    try:
        return await _proven(program, image, cache, run)
    except BootFailed as error:
        return f"no microVM boots here ({error})"


async def _proven(program: str, image: Image, cache: Path, run: Path) -> QemuBackend:
    """Return a backend on KVM if a guest boots so, otherwise on emulation.

    Raises:
        BootFailed: It boots in neither way.
    """
    cpuinfo, modules, has_kvm = await asyncio.to_thread(_host)
    khz = tsc_khz(cpuinfo)
    refused = cache / f"kvm-refused-{image.key}"
    if has_kvm and kvm_possible(cpuinfo, modules) and not await asyncio.to_thread(refused.exists):
        kvm = Accelerator("kvm", khz)
        fast = QemuBackend(program, image, kvm, cache=cache, run=run, patience=_KVM_PATIENCE)
        try:
            await fast.prove()
        except BootFailed as error:
            logger.warning("KVM boots no guest here", extra={"why": str(error)})
            await asyncio.to_thread(refused.touch)
        else:
            return fast
    emulated = QemuBackend(program, image, Accelerator("tcg", khz), cache=cache, run=run)
    await emulated.prove()
    return emulated


def _host() -> tuple[str, str, bool]:
    """Return cpuinfo, the loaded modules, and whether there is a KVM device."""
    modules = _MODULES.read_text() if _MODULES.exists() else ""
    return _CPUINFO.read_text(), modules, _KVM.exists()
