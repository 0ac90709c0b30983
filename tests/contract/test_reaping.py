"""Whatever kills the control process, nothing of its VMs stays."""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from support.microvms import answered, kitchen, ready

from faas.backends import chosen, maker
from faas.backends.cgroup import ROOT
from faas.backends.child import descendants

CONTROL = """
import asyncio, os, signal, sys
from pathlib import Path
from faas.backends import chosen
from faas.backends.disks import Disks
from faas.backends.kept import Kept
from faas.backends.qemu_vm import QemuVm
from support.microvms import kitchen

point, cache, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

def reached(name):
    if name == point:
        print("reached", flush=True)
        signal.pause()

def stop_after(owner, method, name):
    original = getattr(owner, method)
    async def run(*arguments, **named):
        result = await original(*arguments, **named)
        reached(name)
        return result
    setattr(owner, method, run)

stop_after(Disks, "_write", "a disk half made")
stop_after(QemuVm, "load", "a guest that has just come up")
keep = Kept.keep
Kept.keep = lambda *arguments: (reached("an image not kept yet"), keep(*arguments))[1]

async def main():
    async with chosen("qemu", cache=cache, run=folder / "run", kept=folder / "kept") as backend:
        launch = kitchen(folder / "code", "VALUE = %r\\n" % str(folder) + CODE)
        async with backend.boot(launch, lambda _: None) as vm:
            reached("a function that is loaded")
            image = await backend.snapshot(vm)
        async with backend.restore(image, lambda _: None):
            reached("a clone")

from support.microvms import CODE
asyncio.run(main())
"""
POINTS = [
    "a disk half made",
    "a guest that has just come up",
    "a function that is loaded",
    "an image not kept yet",
    "a clone",
]


@pytest.fixture(scope="module")
def cache() -> Path:
    return ready()


@pytest.fixture
def microvms(cache):
    return partial(chosen, "qemu", cache=cache)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def traces(control: int, *folders: Path) -> list[str]:
    """Return what bears the mark of a control process: groups, folders half made."""
    places = [*folders, *(folder for folder, _, _ in os.walk(ROOT))]
    return [
        path.name
        for place in places
        if Path(place).is_dir()
        for path in Path(place).iterdir()
        if f"-{control}-" in path.name and path.name.startswith(("made-", "wherry-"))
    ]


async def killed_at(point: str, cache: Path, folder: Path) -> tuple[int, list[int]]:
    """Kill a control process at ``point``; return its number and those of its children."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    control = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONTROL, point, cache, folder),
        env={**os.environ, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    assert await control.stdout.readline() == b"reached\n"
    children = await asyncio.to_thread(descendants, control.pid)
    control.send_signal(signal.SIGKILL)
    await control.communicate()
    return control.pid, children


@pytest.mark.parametrize("point", POINTS)
async def test_after_a_kill_nothing_runs_and_the_next_start_removes_the_rest(
    point, cache, microvms, tmp_path
):
    control, children = await killed_at(point, cache, tmp_path)
    assert bool(children) is (point != "a disk half made")
    async with asyncio.timeout(10):
        while any(map(alive, children)):
            await asyncio.sleep(0)
    run, kept = tmp_path / "run", tmp_path / "kept"
    assert await asyncio.to_thread(traces, control, cache, kept, run / "vms")
    async with microvms(run=run, kept=kept) as backend:
        left = [path.name for path in kept.iterdir()]
        assert await asyncio.to_thread(traces, control, cache, kept, run / "vms") == []
        assert [name for name in left if not name.startswith("image-")] == []
        assert len(left) == (point == "a clone")
        async with backend.boot(kitchen(tmp_path), lambda _: None) as vm:
            assert await answered(vm, do="echo") == {"do": "echo"}
    assert list(run.glob("*")) == []


def test_only_what_bears_the_mark_of_a_dead_process_is_swept(tmp_path):
    ours = maker.scratch(tmp_path, "ours")
    space, _, start = maker.mark().split("-")
    dead = tmp_path / f"made-{space}-{os.getpid()}-{int(start) + 1}-dead"
    elsewhere = tmp_path / f"made-1{space}-{os.getpid()}-1-elsewhere"
    other = tmp_path / "image-1-2-3"
    for folder in (dead, elsewhere, other):
        folder.mkdir()
    assert maker.swept(tmp_path) == [dead.name]
    assert [folder.is_dir() for folder in (ours, dead, elsewhere, other)] == [
        True,
        False,
        True,
        True,
    ]
