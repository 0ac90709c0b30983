"""Groups of processes with a bound on memory, number and CPU: cgroups, where we may make them.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html
Source: https://docs.kernel.org/admin-guide/cgroup-v1/index.html
"""

import asyncio
import itertools
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from faas.backends import maker

logger = logging.getLogger(__name__)

VCPU_MIB = 1769
"""Memory that comes with one whole processor.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_SECOND = 2
_CONTROLLERS = ("memory", "pids", "cpu")
_OWN = "wherry-control"
_PERIOD_US = 100_000
_SHARES = 1024
"""What the kernel calls the weight of one processor in version 1; 100 in version 2."""
_ENDING = 5.0
"""Seconds for killed members to be gone."""
_LOOK_AGAIN = 0.005
_TRIES = round(_ENDING / _LOOK_AGAIN)
_DEPTH = 8
_PREFIX = "wherry-"
_ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"'
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be made.

    Attributes:
        version: 1 or 2.
        folders: For each controller the group under which new ones go; all the same in
            version 2.
    """

    version: int
    folders: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Group:
    """A group that exists for the length of a `group` block.

    Attributes:
        version: Of the hierarchy.
        folders: Its folder under each controller.
    """

    version: int
    folders: Mapping[str, Path]

    def add(self, pid: int) -> None:
        """Put a process in; what it starts from now on is in as well."""
        for folder in _each(self.folders):
            (folder / "cgroup.procs").write_text(str(pid))

    def entering(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return ``argv`` such that it is in the group before its first instruction.

        A shell enters, as root or whoever may write the group, and becomes ``argv``.
        """
        doors = [str(folder / "cgroup.procs") for folder in _each(self.folders)]
        return ("/bin/sh", "-ec", _ENTER, "enter", *doors, "--", *argv)

    def peak(self) -> int | None:
        """Return the most bytes that it has used, file pages included; None: not counted here."""
        name = "memory.peak" if self.version == _SECOND else "memory.max_usage_in_bytes"
        try:
            return int((self.folders["memory"] / name).read_text())
        except OSError:
            return None

    def oom_killed(self) -> int:
        """Return how many of its processes the kernel has killed for want of memory."""
        name = "memory.events" if self.version == _SECOND else "memory.oom_control"
        try:
            said = (self.folders["memory"] / name).read_text()
        except OSError:
            return 0
        counts = dict(line.split() for line in said.splitlines())
        return int(counts.get("oom_kill", 0))


def share(memory_mib: int) -> float:
    """Return how many processors come with ``memory_mib``, in Lambda's proportion."""
    return memory_mib / VCPU_MIB


def vcpus(memory_mib: int) -> int:
    """Return how many processors a function with ``memory_mib`` sees."""
    return -(-memory_mib // VCPU_MIB)


def hierarchy(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Hierarchy | None:
    """Return where this process may make groups; None where it may not.

    In version 2 a group that has members cannot hand its controllers down. So where the
    controllers are ours but not handed down yet, this process and its children move into a group
    of their own below.
    """
    try:
        said = membership.read_text()
    except OSError:
        return None
    own = {names: path for _, names, path in (line.split(":", 2) for line in said.splitlines())}
    if (root / "cgroup.controllers").exists():
        return _second(_within(root, own.get("", "/")))
    return _first(root, own)


@asynccontextmanager
async def group(
    name: str,
    *,
    memory_mib: int | None,
    pids: int | None,
    cpu: float | None,
    where: Hierarchy | None,
) -> AsyncIterator[Group | None]:
    """Make a group; at the end of the block kill its members and remove it.

    Args:
        name: Part of its name, for people.
        memory_mib: Most memory, file pages that cannot be dropped included; None: no bound.
        pids: Most processes and threads; None: no bound.
        cpu: Processors that it is entitled to. This is a weight among those who want to run at
            the same time; beyond it a group may use what is idle, up to the next whole
            processor. None: no bound.
        where: See `hierarchy`; None: nothing is made and the block gets None.
    """
    if where is None:
        yield None
        return
    folder_name = f"{_PREFIX}{maker.mark()}-{next(_numbers)}-{name}"
    folders = {key: folder / folder_name for key, folder in where.folders.items()}
    made = Group(where.version, folders)
    try:
        for folder in _each(folders):
            folder.mkdir()
        for controller, file, value in _bounds(where.version, memory_mib, pids, cpu):
            target = folders[controller] / file
            if target.exists() or not file.startswith("memory.memsw"):
                target.write_text(value)
        yield made
    finally:
        await _removed(list(_each(folders)))


@asynccontextmanager
async def home(where: Hierarchy | None) -> AsyncIterator[Hierarchy | None]:
    """Make a group in which all others of this process go; remove it at the end of the block.

    Weights are shares of their parent's time. Inside, functions have Lambda's proportion to each
    other; outside, all of them together weigh as much as there are processors, so that a small
    function does not starve beside an ordinary process.
    """
    async with group("functions", memory_mib=None, pids=None, cpu=None, where=where) as made:
        if made is None:
            yield None
            return
        processors = os.cpu_count() or 1
        cpu = made.folders["cpu"]
        if made.version == _SECOND:
            (cpu / "cgroup.subtree_control").write_text(_handed())
            (cpu / "cpu.weight").write_text(str(min(processors * 100, 10000)))
        else:
            (cpu / "cpu.shares").write_text(str(processors * _SHARES))
        yield Hierarchy(made.version, made.folders)


def reap(where: Hierarchy | None) -> list[str]:
    """Remove the groups that a process which is gone left, members killed; return their names.

    Only groups made in our own space of process ids are looked at: elsewhere a number says
    nothing. It blocks, for a moment.
    """
    folders = [
        path for folder in (_each(where.folders) if where else ()) for path in _abandoned(folder)
    ]
    names = {path.name for path in folders}
    for _ in range(_TRIES):
        folders = [folder for folder in folders if not _gone(folder)]
        if not folders:
            break
        _kill(folders)
        time.sleep(_LOOK_AGAIN)
    return sorted(names - {folder.name for folder in folders})


def _abandoned(folder: Path) -> list[Path]:
    """Return groups whose maker is gone, in any group beside or above ``folder``."""
    top = folder
    while (top.parent / "cgroup.procs").exists():
        top = top.parent
    pending, found = [(top, 0)], []
    while pending:
        at, depth = pending.pop()
        with suppress(OSError):
            for path in at.iterdir():
                if maker.gone(path.name.removeprefix(_PREFIX)):
                    found += [*(Path(below) for below, _, _ in os.walk(path, topdown=False))]
                elif depth < _DEPTH and path.is_dir():
                    pending.append((path, depth + 1))
    return found


def _within(mount: Path, path: str) -> Path:
    """Return a group's folder; a container may see its own group as the root."""
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount


def _first(root: Path, own: Mapping[str, str]) -> Hierarchy | None:
    paths = {name: path for names, path in own.items() for name in names.split(",")}
    if not all(name in paths and (root / name).is_dir() for name in _CONTROLLERS):
        return None
    folders = {name: _within(root / name, paths[name]) for name in _CONTROLLERS}
    return Hierarchy(1, folders) if all(map(_writable, folders.values())) else None


def _second(own: Path) -> Hierarchy | None:
    if not _writable(own) or not os.access(own / "cgroup.procs", os.W_OK):
        return None
    wanted = set(_CONTROLLERS)
    if own.name == _OWN and wanted <= _words(own.parent / "cgroup.subtree_control"):
        own = own.parent
    if not wanted <= _words(own / "cgroup.controllers"):
        return None
    try:
        if not wanted <= _words(own / "cgroup.subtree_control"):
            _step_down(own)
            (own / "cgroup.subtree_control").write_text(_handed())
    except OSError as error:
        logger.debug("no cgroups of our own", extra={"why": str(error)})
        return None
    return Hierarchy(2, dict.fromkeys(_CONTROLLERS, own))


def _handed() -> str:
    return " ".join(f"+{name}" for name in _CONTROLLERS)


def _step_down(own: Path) -> None:
    """Move the members of ``own`` one level down, if all of them are ours.

    Raises:
        PermissionError: Others are in it, who did not ask for this.
    """
    members = {int(pid) for pid in (own / "cgroup.procs").read_text().split()}
    ours = {pid for pid in members if os.getpid() in _line(pid)}
    if members - ours:
        raise PermissionError(f"cgroup {own}: {len(members - ours)} other members, expected none")
    below = own / _OWN
    below.mkdir(exist_ok=True)
    for pid in ours:
        with suppress(ProcessLookupError):
            (below / "cgroup.procs").write_text(str(pid))


def _line(pid: int) -> list[int]:
    """Return a process and its forebears."""
    line = []
    while pid > 0:
        line.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def _bounds(
    version: int, memory_mib: int | None, pids: int | None, cpu: float | None
) -> list[tuple[str, str, str]]:
    """Return controller, file and text of each bound."""
    bounds = []
    if memory_mib is not None:
        size = str(memory_mib << 20)
        bounds += (
            [("memory", "memory.max", size), ("memory", "memory.swap.max", "0")]
            if version == _SECOND
            else [
                ("memory", "memory.limit_in_bytes", size),
                ("memory", "memory.memsw.limit_in_bytes", size),
            ]
        )
    if pids is not None:
        bounds.append(("pids", "pids.max", str(pids)))
    if cpu is not None:
        quota = str(-int(-cpu // 1) * _PERIOD_US)
        if version == _SECOND:
            bounds.append(("cpu", "cpu.weight", str(min(max(round(cpu * 100), 1), 10000))))
            bounds.append(("cpu", "cpu.max", f"{quota} {_PERIOD_US}"))
        else:
            bounds.append(("cpu", "cpu.shares", str(max(round(cpu * _SHARES), 2))))
            bounds.append(("cpu", "cpu.cfs_period_us", str(_PERIOD_US)))
            bounds.append(("cpu", "cpu.cfs_quota_us", quota))
    return bounds


async def _removed(folders: Sequence[Path]) -> None:
    """Kill what is in the groups and remove them, also when this task is cancelled meanwhile."""
    cancelled = False
    tries = _TRIES
    while tries and (folders := [folder for folder in folders if not _gone(folder)]):
        _kill(folders)
        tries -= 1
        try:
            await asyncio.sleep(_LOOK_AGAIN)
        except asyncio.CancelledError:
            cancelled = True
    for folder in folders if not tries else ():
        logger.warning("a cgroup did not empty", extra={"group": folder.name})
    if cancelled:
        raise asyncio.CancelledError


def _gone(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _kill(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            for pid in map(int, (folder / "cgroup.procs").read_text().split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _each(folders: Mapping[str, Path]) -> list[Path]:
    """Return the folders, each once."""
    return list(dict.fromkeys(folders.values()))


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text().split())
    except OSError:
        return set()
