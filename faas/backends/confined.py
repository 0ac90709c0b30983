"""What a VM's own process is held by on the host, should a guest break out into it."""

import asyncio
import itertools
import os
import secrets
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faas.backends.cgroup import Group, Hierarchy
from faas.image.built import find

USERS = range(1_900_000_000, 2_000_000_000)
"""Host users that VMs and sandboxes become when root starts them; no distribution has such."""

KVM = Path("/dev/kvm")

FILES = 256
"""Most descriptors that a VM's process may have open."""
THREADS = 128
"""Most threads of a VM's process."""
_NAMESPACES = ("--net", "--ipc", "--uts")


@dataclass(frozen=True, slots=True)
class Confinement:
    """How VMs can be held on this host.

    Attributes:
        users: Whether each gets a user of its own: only root can give them.
        namespaces: Arguments for ``unshare`` before those for a network of its own; None: no
            namespace can be made.
        groups: Where cgroups can be made; None: nowhere.
    """

    users: bool
    namespaces: tuple[str, ...] | None
    groups: Hierarchy | None

    def __str__(self) -> str:
        """Return it in words."""
        parts = [
            "user of its own" if self.users else "your user",
            "own network namespace" if self.namespaces is not None else "the host's network",
            "cgroup" if self.groups else "no cgroup",
        ]
        return ", ".join(parts)

    def command(
        self,
        argv: Sequence[str],
        *,
        user: int | None,
        group: Group | None,
        devices: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        """Return ``argv`` so that it runs confined, and is killed when this process ends.

        The kernel forgets to kill a child whose user changes, and does not kill one whose parent
        has ended before it asked for that: so it is asked last, and then looked whether the
        parent is still there.

        Args:
            argv: Program and arguments.
            user: Whom it becomes; None: it stays who we are.
            group: Bounds; None: none.
            devices: What it must be able to open: it gets their groups where those may.
        """
        become = () if user is None else _become(user, devices)
        inside = _namespaces(self.namespaces)
        last = (
            f'[ "$PPID" = {os.getpid()} ] || exit 1; ulimit -c 0; ulimit -n {FILES}; exec "$@" >&2'
        )
        chain = (
            *inside,
            *("setpriv", "--no-new-privs", *become, "--pdeathsig", "KILL", "--"),
            *("/bin/sh", "-ec", last, "confined", *argv),
        )
        return chain if group is None else group.entering(chain)


def _become(user: int, devices: Sequence[Path]) -> tuple[str, ...]:
    known = [device.stat() for device in devices if device.exists()]
    groups = {state.st_gid for state in known if state.st_mode & stat.S_IWGRP} - {0}
    others = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    return (
        *("--reuid", str(user), "--regid", str(user), *others),
        *("--inh-caps=-all", "--bounding-set=-all"),
    )


def _namespaces(arguments: tuple[str, ...] | None) -> tuple[str, ...]:
    return () if arguments is None else ("unshare", *arguments, *_NAMESPACES, "--")


class Users:
    """Gives out users, each to one function at a time."""

    def __init__(self) -> None:
        self._users = itertools.cycle(USERS[secrets.randbelow(len(USERS)) :])

    def next(self) -> int | None:
        """Return a user of nobody's; None when we are not root."""
        return next(self._users) if os.geteuid() == 0 else None


async def possible(groups: Hierarchy | None) -> Confinement:
    """Return how VMs can be held here; namespaces are tried, not guessed."""
    root = os.geteuid() == 0
    ways = [()] if root else [("--user", "--map-current-user")]
    for way in ways:
        if find("unshare") and await _runs([*_namespaces(way), "true"]):
            return Confinement(root, way, groups)
    return Confinement(root, None, groups)


async def _runs(argv: Sequence[str]) -> bool:
    process = await asyncio.create_subprocess_shell(
        shlex.join(argv), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


def processor() -> str:
    """Return what guests see of the host's processor."""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(wanted))
