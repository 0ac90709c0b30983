"""Many calls, deploys and failures, and what is left of them: descriptors, memory, files.

Run: python benchmarks/function_soak.py [BACKEND] [CALLS]   (process and 10000 without arguments)
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from parts.functions import Lambda, served
from parts.processes import closing

CALLERS = 8
ROUNDS = 10
SWEPT = {"sweep": 1.0, "sweep_grace": 1.0}
"""A package that nothing names goes within the pause between two rounds."""
SOURCE = """
import os, time

def handler(event, context):
    match event["do"]:
        case "fail":
            raise ValueError("as asked")
        case "exit":
            os._exit(1)
        case "print":
            print("x" * 1000)
        case "big":
            return "y" * 1_000_000
    return event
"""


def seen(pid: int, state: Path) -> Mapping[str, int]:
    """Return what the serving process and its children hold now."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    files = [path for path in state.rglob("*") if path.is_file()]
    return {
        "descriptors": entries(f"/proc/{pid}/fd"),
        "rss_mib": kib // 1024,
        "tasks": entries(f"/proc/{pid}/task"),
        "children": len(below(pid)),
        "files": len(files),
        "files_mib": sum(path.stat().st_blocks for path in files) * 512 >> 20,
    }


def entries(folder: str) -> int:
    """Return how many entries a folder has."""
    return sum(1 for _ in Path(folder).iterdir())


def below(pid: int) -> list[int]:
    """Return every process below ``pid``."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found[1:]


async def round_of(api: Lambda, calls: int, number: int) -> None:
    """Make ``calls`` calls of every kind, and one deploy."""
    await api.update("soak", SOURCE + f"\nROUND = {number}\n")
    path = "/2015-03-31/functions/soak/invocations"
    left = iter(range(calls))

    async def caller() -> None:
        for each in left:
            do = "exit" if each % 200 == 199 else "fail" if each % 20 == 7 else "echo"
            do = "print" if each % 10 == 3 else "big" if each % 100 == 51 else do
            await api.asked("POST", path, {"do": do})

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


async def main(kind: str, calls: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        state = Path(name)
        async with served(kind, state, concurrency=4, keep_idle=1.0, **SWEPT) as api:
            await api.create("soak", SOURCE, Timeout=20)
            rows = []
            for number in range(ROUNDS):
                await round_of(api, calls // ROUNDS, number)
                await asyncio.sleep(4.0)  # the idle instances end
                rows.append(seen(api.pid, state))
                print(f"  after {(number + 1) * calls // ROUNDS}: {rows[-1]}", file=sys.stderr)
    first, last = rows[0], rows[-1]
    ratios = {key: round(last[key] / max(1, first[key]), 2) for key in first}
    closing("function_soak", {"calls": calls, "first": first, "last": last}, "first round", ratios)


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:2] or ["process"]), int((sys.argv[2:] or ["10000"])[0])))
