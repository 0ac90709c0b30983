"""What an idle clone takes: memory, CPU, descriptors; and where the time of a restore goes.

Beside it, in the same run: a plain Python process that has loaded the same handler.

Run: python benchmarks/function_density.py [CLONES] [BACKEND]   (20 and qemu without arguments)
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from faas.backends import chosen
from faas.backends.child import descendants
from faas.backends.guest import Guest
from faas.backends.qemu_vm import QemuVm
from faas.image.built import find

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.microvms import CODE, answered, cache, kitchen

CLONES = 20
QUIET = 3.0
"""Seconds over which the CPU of idle clones is counted."""
TARGET_MIB = 35
STEPS = ("start", "load", "agent", "hooks", "first")
_TICK = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def pss_mib(pid: int) -> float:
    """Return a process's memory, what it shares counted in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
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


@contextmanager
def split(taken: dict[str, list[float]]) -> Iterator[None]:
    """Note how long each step of a restore takes, for the length of the block."""
    steps = ((QemuVm, "load", "load"), (Guest, "restore", "agent"), (Guest, "proceed", "hooks"))
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in steps]

    def timed(original: object, step: str) -> object:
        async def run(*arguments: object, **named: object) -> object:
            began = time.perf_counter()
            result = await original(*arguments, **named)  # type: ignore[operator]
            taken[step].append(time.perf_counter() - began)
            return result

        return run

    for (owner, name, step), (_, _, original) in zip(steps, originals, strict=True):
        setattr(owner, name, timed(original, step))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


async def measured(clones: int, kind: str) -> None:
    """Start clones, freeze them, and print what they take."""
    taken: dict[str, list[float]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
        async with (
            chosen(kind, cache=cache(), run=Path(folder)) as backend,
            AsyncExitStack() as stack,
        ):
            launch = kitchen(Path(folder) / "code")
            say("saving a function")
            async with backend.boot(launch, lambda _: None) as vm:
                image = await backend.snapshot(vm)
            say(f"starting {clones} clones")
            totals, thaws = [], []
            with split(taken):
                for _ in range(clones):
                    began = time.perf_counter()
                    vm = await stack.enter_async_context(backend.restore(image, lambda _: None))
                    there = time.perf_counter()
                    await answered(vm, do="echo")
                    totals.append(time.perf_counter() - began)
                    taken["first"].append(time.perf_counter() - there)
                    steps = sum(taken[step][-1] for step in ("load", "agent", "hooks"))
                    taken["start"].append(there - began - steps)
                    await vm.freeze()
            pids = descendants(os.getpid())
            before = cpu_seconds(pids)
            await asyncio.sleep(QUIET)
            busy = (cpu_seconds(pids) - before) / QUIET
            sizes = [pss_mib(pid) for pid in pids]
            descriptors = open_files()
            for _ in range(20):
                began = time.perf_counter()
                await vm.thaw()
                await answered(vm, do="echo")
                thaws.append(time.perf_counter() - began)
                await vm.freeze()
    report(clones, kind, sizes, busy, descriptors / clones)
    print(f"frozen to answer       {1000 * statistics.median(thaws):.1f} ms")
    print(f"restored to answer     {1000 * statistics.median(totals):.0f} ms, of which")
    for step in STEPS:
        print(f"  {step:20} {1000 * statistics.median(taken[step]):.1f} ms")


def report(clones: int, kind: str, sizes: list[float], busy: float, descriptors: float) -> None:
    """Print what idle clones take."""
    per_clone, alone = sum(sizes) / clones, plain_mib()
    print(f"clones                 {clones} on {kind}")
    print(f"memory of a clone      {per_clone:.1f} MiB (target {TARGET_MIB})")
    print(f"  a plain interpreter  {alone:.1f} MiB, ratio {per_clone / alone:.1f}")
    print(f"CPU of all, idle       {busy * 100:.2f} %")
    print(f"our descriptors        {descriptors:.1f} for each")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CLONES
    asyncio.run(measured(count, sys.argv[2] if len(sys.argv) > 2 else "qemu"))
