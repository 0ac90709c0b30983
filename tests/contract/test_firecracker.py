"""Firecracker under the contract of every backend, against a faithful fake and the real one."""

import asyncio
import os
import shutil
import stat
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from support.microvms import answered, call, kitchen, ready

from faas.backends import chosen
from faas.backends.cgroup import hierarchy
from faas.backends.child import descendants
from faas.backends.confined import possible
from faas.backends.firecracker import Firecracker
from faas.backends.micro import MicroBackend, Places
from faas.image.built import built, find
from faas.image.layout import laid_out
from faas.vm import BootFailed, Crashed, IllegalMove, InitFailed, NotAtRestorePoint, VmState
from wherry.errors import StartError

FAKE = Path(__file__).parents[1] / "support" / "firecracker.py"


@pytest.fixture(scope="module")
def cache() -> Path:
    for program in ("bwrap", "debugfs", "python3.11"):
        if find(program) is None:
            pytest.skip(f"{program} is not installed")
    return ready()


@pytest.fixture(scope="module")
def program(cache):
    """The fake, where any user may run it."""
    with tempfile.TemporaryDirectory(prefix="wherry-fc-") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(laid_out(cache), Path(folder, "layout"))
        target = Path(folder, "firecracker")
        shutil.copyfile(FAKE, target)
        target.chmod(0o755)
        yield target


@pytest.fixture
async def backend(cache, program, tmp_path):
    image = await asyncio.to_thread(built, cache)
    assert image is not None, "the guest changed while its tests ran"
    engine = Firecracker(str(program), image, await possible(hierarchy()))
    own = tmp_path / "cache"
    own.mkdir()
    yield MicroBackend(engine, Places(own, tmp_path / "run", tmp_path / "kept"))
    assert descendants(os.getpid()) == []
    for left in (own, tmp_path / "run", tmp_path / "kept"):
        assert not list(left.glob("made-*"))


@asynccontextmanager
async def cloned(backend, folder):
    async with backend.boot(kitchen(folder), lambda _: None) as vm:
        image = await backend.snapshot(vm)
    async with backend.restore(image, lambda _: None) as clone:
        yield clone


async def test_a_function_boots_and_answers_and_remembers(backend, tmp_path):
    async with backend.boot(kitchen(tmp_path), lambda _: None) as vm:
        assert vm.state is VmState.IDLE
        assert await answered(vm, do="echo", text="é") == {"do": "echo", "text": "é"}
        assert await answered(vm, do="born") == await answered(vm, do="born")
        with pytest.raises(NotAtRestorePoint):
            await backend.snapshot(vm)


async def test_clones_start_from_a_snapshot_and_share_no_random_number(backend, tmp_path):
    async with AsyncExitStack() as stack:
        async with backend.boot(kitchen(tmp_path), lambda _: None) as vm:
            image = await backend.snapshot(vm)
            assert vm.state is VmState.SAVED
            with pytest.raises(IllegalMove):
                await vm.invoke(call(do="echo"))
        clones = [
            await stack.enter_async_context(backend.restore(image, lambda _: None))
            for _ in range(2)
        ]
        dice = [await answered(clone, do="dice") for clone in clones]
        assert all(one != other for one, other in zip(*dice, strict=True))
    assert backend.kept(image.launch) == image
    memory = image.folder / "memory"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    image.discard()
    with pytest.raises(BootFailed):
        async with backend.restore(image, lambda _: None):
            pass


async def test_a_frozen_clone_goes_on_with_the_right_time(backend, tmp_path):
    async with cloned(backend, tmp_path) as clone:
        await clone.freeze()
        assert clone.state is VmState.PAUSED
        with pytest.raises(IllegalMove):
            await clone.invoke(call(do="echo"))
        await clone.thaw()
        assert abs(await answered(clone, do="time") - time.time_ns() / 1e9) < 0.5


async def test_code_that_cannot_be_loaded_is_an_init_error(backend, tmp_path):
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(kitchen(tmp_path, handler="missing.handler"), lambda _: None):
            pass
    assert caught.value.error_type == "Runtime.ImportModuleError"


async def test_a_firecracker_that_dies_is_a_crash(backend, tmp_path):
    async with cloned(backend, tmp_path) as clone, asyncio.timeout(10):
        for pid in descendants(os.getpid()):
            os.kill(pid, 9)
        await clone.gone()
        assert clone.state is VmState.GONE
        with pytest.raises((Crashed, IllegalMove)):
            await clone.invoke(call(do="echo"))


async def test_a_firecracker_that_ends_at_once_says_why(backend, cache, tmp_path):
    image = await asyncio.to_thread(built, cache)
    engine = Firecracker("/bin/false", image, await possible(None))
    places = Places(tmp_path / "cache", tmp_path / "run")
    with pytest.raises(BootFailed, match="Firecracker ended"):
        await MicroBackend(engine, places, patience=(5.0,)).prove()


async def test_without_firecracker_or_kvm_it_is_refused_with_the_reason(cache, tmp_path):
    if find("firecracker") is not None:
        pytest.skip("Firecracker is installed")
    with pytest.raises(StartError, match="firecracker is not installed"):
        async with chosen("firecracker", cache=cache, run=tmp_path / "run"):
            pass


async def test_the_real_firecracker_keeps_the_contract(cache, tmp_path):
    try:
        async with (
            chosen("firecracker", cache=cache, run=tmp_path / "run") as backend,
            cloned(backend, tmp_path) as clone,
        ):
            assert await answered(clone, do="echo") == {"do": "echo"}
            await clone.freeze()
            await clone.thaw()
            assert abs(await answered(clone, do="time") - time.time_ns() / 1e9) < 0.5
    except StartError as error:
        pytest.skip(str(error))


@asynccontextmanager
async def fake_api(program: Path, folder: Path):
    """Run the fake alone in ``folder``; yield a function that asks it and returns its fault."""
    process = await asyncio.create_subprocess_exec(
        *(program, "--api-sock", "s", "--id", "vm"), cwd=folder
    )
    try:
        async with asyncio.timeout(10):
            while not (folder / "s").exists():
                await asyncio.sleep(0)
        async with ClientSession(connector=UnixConnector(str(folder / "s"))) as session:

            async def ask(method: str, path: str, **body: object) -> str:
                async with session.request(method, f"http://localhost{path}", json=body) as said:
                    return "" if said.status == 204 else (await said.json())["fault_message"]

            yield ask
    finally:
        process.kill()
        await process.wait()


def empty(file: Path) -> None:
    file.touch()


async def test_the_fake_is_as_strict_as_the_real_one(program):
    with tempfile.TemporaryDirectory() as folder:
        for name in ("kernel", "initrd", "drive", "log"):
            empty(Path(folder, name))
        async with fake_api(program, Path(folder)) as ask:
            start = {"action_type": "InstanceStart"}
            refused = {
                "unknown field": ("/machine-config", {"vcpu_count": 1, "mem": 1}),
                "missing field": ("/machine-config", {"vcpu_count": 1}),
                "invalid type": ("/machine-config", {"vcpu_count": "1", "mem_size_mib": 1}),
                "invalid value": ("/vsock", {"guest_cid": 2, "uds_path": "v"}),
                "does not match": (
                    "/drives/a",
                    {"drive_id": "b", "path_on_host": "drive", "is_root_device": False},
                ),
                "No such file": (
                    "/drives/a",
                    {"drive_id": "a", "path_on_host": "none", "is_root_device": False},
                ),
                "Invalid request": ("/balloon-of-ours", {}),
                "not paused": ("/snapshot/create", {"mem_file_path": "m", "snapshot_path": "s"}),
                "without kernel": ("/actions", start),
                "not allowed after": (
                    "/snapshot/load",
                    {
                        "snapshot_path": "s",
                        "mem_backend": {"backend_type": "File", "backend_path": "m"},
                    },
                ),
            }
            assert await ask("PUT", "/entropy") == ""
            for reason, (path, body) in refused.items():
                assert reason in await ask("PUT", path, **body), path
            assert "before starting" in await ask("PATCH", "/vm", state="Paused")
