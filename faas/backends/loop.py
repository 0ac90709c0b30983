"""Files as block devices, so that what is written to ``/tmp`` is on a disk and not in memory.

Source: https://man7.org/linux/man-pages/man4/loop.4.html
"""

import asyncio
import errno
import fcntl
import logging
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faas.backends.disks import Disks
from faas.backends.sparse import sparse_fill
from faas.vm import BootFailed

logger = logging.getLogger(__name__)

_CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_AUTOCLEAR, _DIRECT_IO = 4, 16
_CONFIG = struct.Struct("=II 52xI 176x 64x")
"""``struct loop_config``: descriptor, block size, and of its ``loop_info64`` the flags alone."""
_TRIES = 64
"""How often another may take a device that was free a moment ago."""


class Loops:
    """Gives each sandbox a disk of its own for ``/tmp``.

    The disk is a file without a name behind a loop device that clears itself, so that nothing
    is left once the last that has it mounted is gone, whatever ended it. Only root can do this;
    whether it works here is tried, once.

    Args:
        cache: Where empty disks are kept, and the files of those in use are.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._disks = Disks(cache)
        self._works = asyncio.Lock()
        self._possible: bool | None = None

    @asynccontextmanager
    async def tmp(self, mib: int) -> AsyncIterator[str | None]:
        """Enter with a device that holds an empty file system for ``/tmp``; None: not here.

        Whoever wants it mounts it within the block.
        """
        if not await self._can():
            yield None
            return
        blank = await self._disks.tmp(mib)
        device, path = await asyncio.to_thread(self._attached, blank)
        try:
            yield path
        finally:
            os.close(device)

    async def _can(self) -> bool:
        async with self._works:
            if self._possible is None:
                why = await self._tried()
                self._possible = not why
                if why:
                    logger.warning("sandboxes have /tmp in their memory", extra={"why": why})
            return self._possible

    async def _tried(self) -> str:
        """Mount a device where nobody sees it; return why it cannot be done, empty: it can."""
        if os.geteuid() != 0:
            return "not root"
        try:
            blank = await self._disks.tmp(1)
            device, path = await asyncio.to_thread(self._attached, blank)
        except (OSError, BootFailed) as error:
            return str(error)
        try:
            process = await asyncio.create_subprocess_exec(
                *mounted(path, ["true"]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await process.communicate()
            return said.decode(errors="replace")[-200:] if process.returncode else ""
        except OSError as error:
            return str(error)
        finally:
            os.close(device)

    def _attached(self, blank: Path) -> tuple[int, str]:
        """Return a descriptor and the path of a device over a copy of ``blank``."""
        file = os.open(self._cache, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            sparse_fill(blank, file)
            for _ in range(_TRIES):
                with open(_CONTROL, "rb", buffering=0) as control:  # noqa: PTH123
                    path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
                device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    config = _CONFIG.pack(file, 0, _AUTOCLEAR | _DIRECT_IO)
                    fcntl.ioctl(device, _CONFIGURE, config)
                except OSError as error:
                    os.close(device)
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return device, path
            raise BootFailed(str(self._cache), f"no free loop device in {_TRIES} tries", "one")
        finally:
            os.close(file)


MOUNT = "mount -n -t ext4 -o nosuid,nodev,noatime,noinit_itable"
PLACE = "/sys"
"""Where a sandbox's ``/tmp`` is mounted for bubblewrap to find: of ``/sys`` it shows nothing."""


def mounted(device: str, argv: list[str]) -> list[str]:
    """Return ``argv`` such that it sees what is on ``device`` at `PLACE`, and nobody else does."""
    return [
        *("unshare", "--mount", "--propagation", "private", "--"),
        *("sh", "-ec", f'{MOUNT} "$0" {PLACE}; exec "$@"', device, *argv),
    ]
