"""``wherry faas setup``: finds or installs QEMU and builds what guests start from, once."""

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from faas.backends import chosen
from faas.image import debian
from faas.image.built import OFFER, QEMU, Image, base_folder, built, find, pruned
from faas.image.disk import ext4
from faas.image.kernel import elf_kernel
from faas.image.layout import laid_out
from faas.image.root import BUSYBOX, PACKAGES, Offer, boot_archive, offer, root
from faas.image.runtimes import runtime_root
from wherry.clock import SystemClock
from wherry.errors import StartError

TOOLS = ("qemu-system-x86", "bubblewrap", "e2fsprogs")
_DEBIAN_ONLY = "the guest image is built from Debian's packages, and this host has no apt-get"
_PROGRAMS = (QEMU, "mke2fs")
_BETTER = ("bwrap",)
_KERNEL = "linux-image-cloud-amd64"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SetupReport:
    """What a machine can do now.

    Attributes:
        backend: ``firecracker``, ``qemu`` or ``process``: the best that works here.
        image: What guests start from; None without QEMU.
        reason: Why it is no better; empty when it is a microVM.
        way_out: The command that makes it better; empty when there is none.
    """

    backend: str
    image: Image | None
    reason: str = ""
    way_out: str = ""

    def __str__(self) -> str:
        if self.image is not None:
            return f"functions run in microVMs ({self.backend})"
        out = f"; for microVMs run: {self.way_out}" if self.way_out else ""
        return f"functions run as sandboxed processes, no VM: {self.reason}{out}"


async def setup(
    cache: Path, *, runtimes: Sequence[str] = (), progress: Progress = lambda _: None
) -> SetupReport:
    """Make this machine ready for microVMs as far as it can be; quick when it is already.

    As root on Debian it installs what is missing; otherwise the report names the command to run,
    and the process backend serves meanwhile. Several callers at once are safe.

    Args:
        cache: Where images are kept.
        runtimes: Prepared now and not on first use, such as ``nodejs22.x``.
        progress: Told each step as it begins.

    Raises:
        StartError: A step failed; the message says which and the way out.
    """
    await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
    for runtime in runtimes:
        await asyncio.to_thread(partial(runtime_root, runtime, cache, progress=progress))
    async with _alone(cache):
        wanted = [program for program in (*_PROGRAMS, *_BETTER) if find(program) is None]
        if wanted and debian.available() and os.geteuid() == 0:
            progress(f"installing {', '.join(TOOLS)}")
            await asyncio.to_thread(debian.install, TOOLS)
        missing = [program for program in _PROGRAMS if find(program) is None]
        if missing:
            sudo = "" if os.geteuid() == 0 else "sudo "
            way_out = f"{sudo}apt-get install --no-install-recommends {' '.join(TOOLS)}"
            return SetupReport("process", None, f"{', '.join(missing)} is missing", way_out)
        image = await asyncio.to_thread(built, cache)
        if image is None and not debian.available():
            return SetupReport("process", None, _DEBIAN_ONLY)
        if image is None:
            image = await _build(cache, progress)
            now = SystemClock().unix_ns() / 1e9
            for name in await asyncio.to_thread(pruned, cache, now=now):
                progress(f"removed {name}: not used for long")
    return await _proven(cache, image, progress)


async def _proven(cache: Path, image: Image, progress: Progress) -> SetupReport:
    """Boot a VM once, or find that it was done before."""
    progress("seeing that a microVM boots")
    with tempfile.TemporaryDirectory(prefix="wherry-") as run:
        async with chosen("auto", cache=cache, run=Path(run)) as backend:
            if backend.name != "process":
                return SetupReport(backend.name, image)
            return SetupReport("process", None, backend.isolation)


async def _build(cache: Path, progress: Progress) -> Image:
    base = base_folder(cache)
    if not base.exists():
        scratch = Path(tempfile.mkdtemp(prefix="image-", suffix=".partial", dir=cache))
        try:
            await _build_base(scratch, progress)
            (scratch / "made").rename(base)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    layout = laid_out(cache)
    offered = Offer(**json.loads((base / OFFER).read_text()))
    await asyncio.to_thread(offered.check, layout / "runtime")
    progress("making the disk with the runtime and the agent")
    partial = base / f"{layout.name}.partial"
    await ext4(layout, partial)
    partial.rename(base / f"{layout.name}.ext4")
    image = built(cache)
    if image is None:
        raise StartError(f"setup: {base} is not whole, expected an image; remove it and run again")
    return image


async def _build_base(scratch: Path, progress: Progress) -> None:
    made = scratch / "made"
    made.mkdir()
    if os.geteuid() == 0:
        progress("reading Debian's package lists")
        await asyncio.to_thread(debian.refresh)
    progress("downloading Debian's cloud kernel and Python")
    package = await asyncio.to_thread(debian.dependency, _KERNEL, "linux-image-")
    release = package.removeprefix("linux-image-")
    unpacked = await asyncio.to_thread(
        debian.unpacked, [package, BUSYBOX, *PACKAGES], scratch / "debian"
    )
    progress("unpacking the kernel")
    packed = unpacked / f"boot/vmlinuz-{release}"
    kernel = await asyncio.to_thread(lambda: elf_kernel(packed.read_bytes()))
    (made / "vmlinux").write_bytes(kernel)
    (made / "boot.cpio").write_bytes(boot_archive(unpacked, release))
    progress("making the root file system: Python, its libraries, busybox")
    await asyncio.to_thread(root, unpacked, scratch / "root")
    await ext4(scratch / "root", made / "root.ext4")
    offered = await asyncio.to_thread(offer, scratch / "root", release)
    (made / OFFER).write_text(json.dumps(asdict(offered)))


@asynccontextmanager
async def _alone(cache: Path) -> AsyncIterator[None]:
    """Hold the cache's lock: other processes wait, and then find the work done."""
    with (cache / "lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
