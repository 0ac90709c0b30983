"""What idle clones take, of one function and of many: memory, CPU, descriptors; and a restore.

Beside it, in the same run: a plain Python process that has loaded the same handler.

Run: python benchmarks/function_density.py [CLONES] [FUNCTIONS] [BACKEND]   (20 100 qemu)
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from parts.processes import closing
from parts.restores import medians, restored
from support.microvms import CODE, answered, kitchen

from faas.backends import chosen
from faas.backends.child import descendants
from faas.image.built import find
from faas.setup import setup
from faas.vm import Backend, Launch, VmImage
from wherry.cli.settings import cache_folder

CLONES = 20
FUNCTIONS = 100
QUIET = 3.0
"""Seconds over which the CPU of idle clones is counted."""
TARGET_MIB = 35
MANY_TARGET_MIB = 4096
"""For 100 functions."""
_TICK = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def pss_mib(pid: int) -> float:
    """Return a process's memory, what it shares counted in parts."""
    return rollup_mib(pid, "Pss:")


def rollup_mib(pid: int, field: str) -> float:
    """Return one sum over all of a process's memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def open_files() -> int:
    """Return how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def plain_mib() -> float:
    """Return what a bare interpreter with the handler takes, alone."""
    program = f"import sys, time\n{CODE}\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [find("python3.11") or sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return pss_mib(process.pid)


def available_mib() -> int:
    """Return what the host says is available."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    raise AssertionError


async def saved(backend: Backend, launch: Launch) -> VmImage:
    """Boot a function and save it."""
    async with backend.boot(launch, lambda _: None) as vm:
        return await backend.snapshot(vm)


async def clones(backend: Backend, folder: Path, count: int) -> dict[str, object]:
    """Start clones of one function, freeze them, and return what they take."""
    say("saving a function")
    image = await saved(backend, kitchen(folder / "code"))
    say(f"starting {count} clones")
    async with AsyncExitStack() as stack:
        vms, taken = await restored(backend, [image] * count, stack)
        pids = descendants(os.getpid())
        before = cpu_seconds(pids)
        await asyncio.sleep(QUIET)
        busy = (cpu_seconds(pids) - before) / QUIET
        sizes = [pss_mib(pid) for pid in pids]
        descriptors = open_files()
        thaws = []
        for _ in range(20):
            began = time.perf_counter()
            await vms[-1].thaw()
            await answered(vms[-1], do="echo")
            thaws.append(time.perf_counter() - began)
            await vms[-1].freeze()
    return {
        "clones": count,
        "pss_mib_each": round(sum(sizes) / count, 1),
        "cpu_percent_idle": round(busy * 100, 2),
        "descriptors_each": round(descriptors / count, 1),
        "frozen_ms": round(1000 * statistics.median(thaws), 1),
        "restored": medians(taken),
    }


async def different(backend: Backend, folder: Path, count: int) -> dict[str, object]:
    """Start ``count`` different functions, let each answer, freeze them, and return their memory.

    A page that is the disk's can be had again at any time, so what they really hold is what they
    have written: anonymous memory. ``available`` is how the host sees it.
    """
    say(f"saving {count} functions")
    launches = [
        kitchen(folder / "code", f"{CODE}\nNUMBER = {number}\n", function=f"kitchen{number}")
        for number in range(count)
    ]
    room = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(launch: Launch) -> VmImage:
        async with room:
            return await saved(backend, launch)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(launch)) for launch in launches]
    images = [task.result() for task in tasks]
    os.sync()
    before = available_mib()
    say(f"starting {count} functions")
    async with AsyncExitStack() as stack:
        await restored(backend, images, stack)
        pids = descendants(os.getpid())
        own = sum(rollup_mib(pid, "Anonymous:") for pid in pids)
        pss = sum(pss_mib(pid) for pid in pids)
        taken = before - available_mib()
    return {
        "functions": count,
        "own_mib": round(own),
        "pss_mib": round(pss),
        "available_mib": taken,
    }


async def measured(count: int, functions: int, kind: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="wherry-") as name:
        folder = Path(name)
        await setup(cache_folder(), progress=say)
        async with chosen(kind, cache=cache_folder(), run=folder) as backend:
            one = await clones(backend, folder, count)
            many = await different(backend, folder, functions)
    alone = plain_mib()
    for key, found in (one | many).items():
        print(f"{key:20} {found}")
    print(f"{'plain_interpreter':20} {alone:.1f}")
    share = functions / 100
    pss, taken = one["pss_mib_each"], many["available_mib"]
    assert isinstance(pss, float)
    assert isinstance(taken, int)
    ratios = {
        "a clone of its target": round(pss / TARGET_MIB, 2),
        "a clone of a plain interpreter": round(pss / alone, 1),
        "the functions of their target": round(taken / (MANY_TARGET_MIB * share), 2),
    }
    closing("function_density", {"one": one, "many": many}, "targets in MiB", ratios)


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    asyncio.run(
        measured(int(given.get(0, CLONES)), int(given.get(1, FUNCTIONS)), given.get(2, "qemu"))
    )
