"""What guests start from: the pieces, and the whole as ``wherry faas setup`` makes it."""

import asyncio
import os
import shutil
import struct
import subprocess
from pathlib import Path

import lz4.block
import pytest

from faas.backends import chosen
from faas.backends.accelerator import kvm_possible, tsc_khz
from faas.backends.sparse import sparse_copy
from faas.image import cpio, elf
from faas.image.built import KEPT, built, find, pruned
from faas.image.disk import ext4
from faas.image.kernel import elf_kernel
from faas.image.layout import laid_out
from faas.image.root import Offer
from faas.setup import setup
from faas.vm import BootFailed
from wherry.errors import StartError

CI = os.environ.get("CI") == "true"
CPUINFO = "processor\t: 0\nflags\t\t: fpu vme {flag}\nbogomips\t: 4890.86\n"


@pytest.fixture(scope="session")
def cache() -> Path:
    """The machine's cache, set up."""
    given = os.environ.get("WHERRY_CACHE")
    folder = Path(given) if given else Path.home() / ".cache" / "wherry"
    report = asyncio.run(setup(folder))
    if report.backend != "qemu":
        pytest.fail(str(report)) if CI else pytest.skip(str(report))
    return folder


async def test_a_second_setup_finds_everything_done(cache):
    said: list[str] = []
    report = await setup(cache, progress=said.append)
    assert report.image == built(cache)
    assert not [line for line in said if "download" in line or "making" in line]


async def test_setups_at_the_same_time_agree(cache):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(setup(cache), name=f"setup {n}") for n in range(3)]
    assert len({task.result() for task in tasks}) == 1


async def test_an_empty_cache_has_no_image_and_says_how_to_make_one(tmp_path):
    assert built(tmp_path) is None
    with pytest.raises(StartError, match="run: wherry faas setup"):
        async with chosen("qemu", cache=tmp_path, run=tmp_path):
            pass
    async with chosen("auto", cache=tmp_path, run=tmp_path) as backend:
        assert backend.name == "process"
        assert "no VM" in backend.isolation
        assert "wherry faas setup" in backend.isolation


async def test_an_unknown_backend_is_refused(tmp_path):
    with pytest.raises(StartError, match="backend 'docker': unknown, expected auto, qemu"):
        async with chosen("docker", cache=tmp_path, run=tmp_path):
            pass


def test_the_layout_is_made_once_and_readable_by_all(tmp_path):
    previous = os.umask(0o077)
    try:
        layout = laid_out(tmp_path)
    finally:
        os.umask(previous)
    assert laid_out(tmp_path) == layout
    for path in (layout, *layout.rglob("*")):
        assert path.stat().st_mode & 0o444 == 0o444
    assert (layout / "agent/faas/guest/agent.py").exists()
    assert (layout / "runtime/awslambdaric/bootstrap.py").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_what_was_not_used_for_long_is_removed_from_the_cache(tmp_path):
    for name in ("image-old", "base-old", "image-new", "other"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0) if name != "image-new" else (KEPT, KEPT))
    assert pruned(tmp_path, now=KEPT + 1) == ["base-old", "image-old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image-new", "other"]


def test_a_kernel_is_taken_out_of_its_wrapping():
    kernel = b"\x7fELF" + bytes(range(256)) * 40_000
    blocks = [kernel[start : start + (8 << 20)] for start in range(0, len(kernel), 8 << 20)]
    packed = [lz4.block.compress(block, store_size=False) for block in blocks]
    image = b"MZ boot code \x02\x21\x4c\x18 noise" + b"\x02\x21\x4c\x18"
    image += b"".join(struct.pack("<I", len(block)) + block for block in packed)
    assert elf_kernel(image + struct.pack("<I", 0)) == kernel


def test_an_image_without_a_kernel_is_refused():
    with pytest.raises(StartError, match="no LZ4 payload"):
        elf_kernel(b"MZ" + bytes(1000))


def test_an_archive_is_what_cpio_readers_read(tmp_path):
    entries = [cpio.folder("bin"), cpio.program("bin/tool", b"abc"), cpio.device("null", 1, 3)]
    archive = cpio.archive(entries)
    assert len(archive) % 4 == 0
    names, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        names.append(archive[at + 110 : at + 110 + length - 1].decode())
        at += 110 + length
        at += -at % 4
        if names[-1] == "bin/tool":
            assert archive[at : at + size] == b"abc"
        at += size
        at += -at % 4
    assert names == ["bin", "bin/tool", "null", "TRAILER!!!"]


def test_what_a_program_links_to_is_read_from_its_headers():
    shell = Path("/bin/sh").read_bytes()
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    assert "libc.so.6" in elf.needed(shell)
    assert all(name in listed for name in elf.needed(shell))
    assert elf.needed(b"#!/bin/sh\n") == []
    assert elf.glibc(b"..GLIBC_2.4\0GLIBC_2.17\0") == 17


@pytest.mark.parametrize(
    ("name", "offered", "found"),
    [
        ("x.cpython-312-x.so", ("libc.so.6",), "another Python"),
        ("x.cpython-311-x.so", ("libm.so.6",), "needs libc.so.6"),
    ],
)
def test_compiled_code_that_does_not_fit_the_guest_is_refused(tmp_path, name, offered, found):
    shutil.copyfile("/bin/sh", tmp_path / name)
    with pytest.raises(StartError, match=found):
        Offer("6.1", 36, [*offered, "libselinux.so.1"]).check(tmp_path)


async def test_a_disk_holds_a_folder_and_shows_the_size_asked_for(tmp_path):
    source, target = tmp_path / "code", tmp_path / "disk"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "app.py").write_text("x" * 100_000)
    for number in range(300):
        (source / f"small-{number}.py").write_text("y")
    await ext4(source, target, capacity=64 << 20)
    assert target.stat().st_size == 64 << 20
    read = ["debugfs", "-R", "cat /deep/app.py", target]
    done = await asyncio.to_thread(
        subprocess.run,
        read,
        capture_output=True,
        check=True,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin"},
    )
    assert done.stdout == b"x" * 100_000
    listed = await asyncio.to_thread(
        subprocess.run,
        ["debugfs", "-R", "ls -p /", target],
        capture_output=True,
        check=True,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin"},
    )
    assert b"/deep/" in listed.stdout
    assert b"lost+found" not in listed.stdout


async def test_code_over_the_disks_size_is_refused(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "blob").write_bytes(bytes(2 << 20))
    with pytest.raises(BootFailed, match=f"at most {1 << 20}"):
        await ext4(tmp_path / "code", tmp_path / "disk", capacity=1 << 20)


def test_a_sparse_file_stays_sparse_when_copied(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"here")
    sparse_copy(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    ("flag", "modules", "possible"),
    [
        ("vmx", "kvm_intel 1 0 - Live 0x0\n", True),
        ("svm", "", True),
        ("vmx", "kvm_pvm 1 0 - Live 0x0\n", False),
        ("sse", "", False),
    ],
)
def test_kvm_is_tried_only_where_it_can_work(flag, modules, possible):
    assert kvm_possible(CPUINFO.format(flag=flag), modules) is possible


def test_the_counters_rate_comes_from_bogomips():
    assert tsc_khz(CPUINFO.format(flag="")) == 2_445_430


def test_programs_are_found_where_system_programs_are():
    assert find("sh") in ("/usr/bin/sh", "/bin/sh")
    assert find("no-such-program") is None
