"""What stands between a function and the host: groups with bounds, a filter of system calls."""

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.microvms import answered, kitchen, ready

from faas.backends import cgroup, chosen, seccomp
from faas.backends.cgroup import Hierarchy, group, hierarchy, home, reap, share, vcpus
from faas.backends.child import descendants
from faas.image.built import find

MACHINE = os.uname().machine


@pytest.fixture
def where() -> Hierarchy:
    found = hierarchy()
    if found is None:
        pytest.skip("cgroups cannot be made here")
    return found


async def run(*argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_a_member_over_its_memory_is_killed_and_the_group_says_so(where):
    eat = "kept = [bytearray(1 << 20) for _ in range(200)]"
    async with group("eater", memory_mib=64, pids=64, cpu=1.0, where=where) as made:
        status, _ = await run(*made.entering([sys.executable, "-c", eat]))
        assert status == -signal.SIGKILL
        assert made.oom_killed() == 1
        assert made.peak() >= 60 << 20
    assert not any(folder.exists() for folder in made.folders.values())


async def test_a_fork_bomb_hits_the_bound_on_processes(where):
    bomb = (
        "import os, signal\n"
        "for n in range(100):\n"
        "    try:\n"
        "        if not os.fork(): os.close(1); os.close(2); signal.pause()\n"
        "    except BlockingIOError:\n"
        "        print(n); os._exit(0)\n"
    )
    async with group("bomb", memory_mib=256, pids=10, cpu=None, where=where) as made:
        assert await run(*made.entering([sys.executable, "-u", "-c", bomb])) == (0, "9\n")


async def test_what_still_runs_in_a_group_ends_with_it(where):
    async with group("sleeper", memory_mib=None, pids=None, cpu=0.1, where=where) as made:
        sleeper = await asyncio.create_subprocess_exec("sleep", "600")
        made.add(sleeper.pid)
    async with asyncio.timeout(5):
        assert await sleeper.wait() == -signal.SIGKILL
    assert not any(folder.exists() for folder in made.folders.values())


ORPHAN = """
import asyncio, os, signal, sys
from faas.backends.cgroup import group, hierarchy, home

async def main(name):
    async with (
        home(hierarchy()) as inner,
        group(name, memory_mib=64, pids=None, cpu=None, where=inner) as made,
    ):
        away = asyncio.subprocess.DEVNULL
        child = await asyncio.create_subprocess_exec("sleep", "600", stdout=away, stderr=away)
        made.add(child.pid)
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_groups_of_a_dead_maker_are_reaped_and_others_stay(where):
    name = f"orphan{os.getpid()}"
    async with group("living", memory_mib=None, pids=None, cpu=None, where=where) as living:
        status, said = await run(sys.executable, "-c", ORPHAN, name)
        assert status == -signal.SIGKILL
        sleeper = Path("/proc", said.strip())
        assert [each for each in groups_of(sleeper) if each.endswith(name)]
        reaped = await asyncio.to_thread(reap, where)
        assert [each for each in reaped if each.endswith(name)]
        assert not [each for each in groups_of(sleeper) if each.endswith(name)]
        assert all(folder.exists() for folder in living.folders.values())


def groups_of(process: Path) -> list[str]:
    try:
        return (process / "cgroup").read_text().splitlines()
    except OSError:
        return []


async def test_without_cgroups_a_block_gets_none():
    async with group("none", memory_mib=1, pids=1, cpu=1.0, where=None) as made:
        assert made is None


@contextmanager
def second_version(folder: Path, members: str, handed: str = ""):
    """A hierarchy of version 2 as files; the kernel's own would take what is written."""
    own = folder / "service"
    own.mkdir()
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (folder / "membership").write_text("0::/service\n")
    for name, text in (
        ("cgroup.controllers", "cpuset cpu memory pids\n"),
        ("cgroup.subtree_control", handed),
        ("cgroup.procs", members),
    ):
        (own / name).write_text(text)
    yield own


def test_a_delegated_group_of_version_2_is_handed_down_after_we_stepped_aside(tmp_path):
    with second_version(tmp_path, f"{os.getpid()}\n") as own:
        (own / "wherry-control").mkdir()
        found = hierarchy(tmp_path, tmp_path / "membership")
        assert found == Hierarchy(2, dict.fromkeys(("memory", "pids", "cpu"), own))
        assert (own / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
        assert (own / "wherry-control/cgroup.procs").read_text() == str(os.getpid())


def test_a_group_of_version_2_with_others_in_it_is_left_alone(tmp_path):
    with second_version(tmp_path, f"{os.getpid()}\n1\n") as own:
        assert hierarchy(tmp_path, tmp_path / "membership") is None
        assert (own / "cgroup.subtree_control").read_text() == ""


async def test_bounds_of_version_2_are_its_own_files(tmp_path, monkeypatch):
    with second_version(tmp_path, "", handed="cpu memory pids") as own:
        where = hierarchy(tmp_path, tmp_path / "membership")
        written = cgroup._bounds(where.version, 128, 20, 0.5)
        assert where.folders["cpu"] == own
        assert {file: text for _, file, text in written} == {
            "memory.max": str(128 << 20),
            "memory.swap.max": "0",
            "pids.max": "20",
            "cpu.weight": "50",
            "cpu.max": "100000 100000",
        }


async def test_all_groups_of_one_process_go_into_one_that_weighs_as_the_host_does(where):
    async with (
        home(where) as inner,
        group("one", memory_mib=64, pids=5, cpu=share(128), where=inner) as made,
    ):
        assert made.folders["cpu"].parent == inner.folders["cpu"]
        if made.version == 1:
            weight = (made.folders["cpu"] / "cpu.shares").read_text()
            assert int(weight) == round(128 / 1769 * 1024)
            total = (inner.folders["cpu"] / "cpu.shares").read_text()
            assert int(total) == 1024 * os.cpu_count()
        assert await run(*made.entering(["echo", "in"])) == (0, "in\n")
    assert not any(folder.exists() for folder in inner.folders.values())


def test_cpu_comes_in_lambdas_proportion():
    assert share(1769) == 1.0
    assert [vcpus(size) for size in (128, 1769, 1770, 3008, 10240)] == [1, 1, 2, 2, 6]


FILTERED = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def number(*arguments):
    return 0 if libc.syscall(*arguments) >= 0 else ctypes.get_errno()
def family(which):
    try:
        socket.socket(which, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno
    return 0
print([number(int(each), -1, -1, -1, -1, -1) for each in sys.argv[1:]])
print(number(CLONE, 0x10000000 | 17, 0, 0, 0, 0), number(CLONE3, 0, 0))
print([family(each) for each in (1, 2, 10, 38, 40)])
print(number(IOCTL, 0, 0x5412, 0), number(IOCTL, 0, 0x100005412, 0))
print(number(PERSONALITY, 0xFFFFFFFF), number(PERSONALITY, 0x20000))
import threading, subprocess
threads = [threading.Thread(target=print, args=("thread",)) for _ in range(1)]
[each.start() for each in threads]; [each.join() for each in threads]
print(subprocess.run(["/bin/true"]).returncode)
"""


async def test_dangerous_calls_are_refused_and_ordinary_ones_work():
    bwrap = find("bwrap")
    if bwrap is None:
        pytest.skip("bwrap is not installed")
    column = {"x86_64": 0, "aarch64": 1}[MACHINE]
    source = FILTERED
    for name in ("CLONE3", "CLONE", "IOCTL", "PERSONALITY"):
        source = re.sub(rf"\b{name}\b", str(getattr(seccomp, f"_{name}")[column]), source)
    denied = [pair[column] for pair in seccomp._DENIED.values() if pair[column] is not None]
    fd = os.memfd_create("filter")
    os.write(fd, seccomp.program(MACHINE))
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [
                *(bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--seccomp", str(fd), "--"),
                *(sys.executable, "-c", source, *map(str, denied)),
            ],
            pass_fds=[fd],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(fd)
    calls, clones, families, typing, personality, thread, status = done.stdout.splitlines()
    assert calls == str([errno.EPERM] * len(denied))
    assert clones == f"{errno.EPERM} {errno.ENOSYS}"
    refused = errno.EAFNOSUPPORT
    assert families == str([0, 0, 0, refused, refused])
    assert typing == f"{errno.EPERM} {errno.EPERM}"
    assert personality == f"0 {errno.EPERM}"
    assert (thread, status) == ("thread", "0")


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", sorted(HEADERS))
def test_the_numbers_of_calls_are_the_kernels(machine):
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    kernel = {name: int(number) for name, number in found}
    column = sorted(HEADERS, reverse=True).index(machine)
    ours = {name: pair[column] for name, pair in seccomp._DENIED.items()}
    for name in ("clone", "clone3", "ioctl", "socket", "personality"):
        ours[name] = getattr(seccomp, f"_{name.upper()}")[column]
    assert {name: kernel.get(name) for name in ours} == ours


def test_a_filter_is_made_for_known_machines_only():
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


@pytest.fixture(scope="module")
def cache() -> Path:
    return ready()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def network(process: Path) -> Path:
    return (process / "ns/net").readlink()


def said(file: Path) -> str:
    return file.read_text()


async def test_qemu_itself_is_held(cache, tmp_path):
    async with (
        chosen("qemu", cache=cache, run=tmp_path / "run") as backend,
        backend.boot(kitchen(tmp_path), lambda _: None) as vm,
    ):
        assert await answered(vm, do="echo") == {"do": "echo"}
        (pid,) = descendants(os.getpid())
        seen = status(pid)
        assert seen["Name"].startswith("qemu")
        assert seen["NoNewPrivs"] == "1"
        assert seen["Seccomp"] == "2"
        assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
        if os.geteuid() == 0:
            assert {int(uid) for uid in seen["Uid"].split()} & {0, os.getuid()} == set()
            assert seen["Groups"] == ""
        process = Path(f"/proc/{pid}")
        assert network(process) != network(Path("/proc/self"))
        assert re.search(r"Max open files\s+256\s+256", said(process / "limits"))
        if "no cgroup" not in backend.isolation:
            assert "/wherry-" in said(process / "cgroup")
    assert descendants(os.getpid()) == []


@pytest.mark.parametrize("memory_mib", [128, 2048])
async def test_a_guest_sees_processors_in_proportion_to_its_memory(cache, tmp_path, memory_mib):
    async with (
        chosen("qemu", cache=cache, run=tmp_path / "run") as backend,
        backend.boot(kitchen(tmp_path, memory_mib=memory_mib), lambda _: None) as vm,
    ):
        seen = await answered(vm, do="read", path="/proc/cpuinfo")
        assert seen.count("processor") == vcpus(memory_mib)
