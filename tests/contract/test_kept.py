"""Saved functions outlive the process that saved them, and only good ones are used."""

import json
import os
import shutil
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.microvms import answered, kitchen, ready

from faas.backends import chosen
from faas.backends.kept import Kept
from faas.vm import Backend, BootFailed, VmImage


@pytest.fixture(scope="module")
def cache() -> Path:
    return ready()


@pytest.fixture
def microvms(cache):
    return partial(chosen, "qemu", cache=cache)


def image(kept: Kept, key: str, size: int = 4096) -> Path:
    folder = kept.scratch(key)
    (folder / "memory").write_bytes(os.urandom(size))
    (folder / "state").write_bytes(key.encode())
    return kept.keep(folder, key)


def test_a_kept_image_is_found_by_its_key_also_by_another_process(tmp_path):
    folder = image(Kept(tmp_path, base="b"), "one")
    assert Kept(tmp_path, base="b").find("one") == folder
    assert Kept(tmp_path, base="b").find("two") is None


def test_nobody_else_may_look_into_an_image(tmp_path):
    kept = tmp_path / "kept"
    folder = image(Kept(kept, base="b"), "one")
    kept.chmod(0o755)
    Kept(kept, base="b").swept()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (kept, folder)}
    assert modes == {"kept": 0o700, folder.name: 0o700}
    for name in ("memory", "state"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("harm", ["state", "memory", "facts", "gone"])
def test_a_bad_image_is_noticed_and_removed(tmp_path, harm):
    kept = Kept(tmp_path, base="b")
    folder = image(kept, "one")
    match harm:
        case "state":
            (folder / "state").write_bytes(b"other")
        case "memory":
            os.truncate(folder / "memory", 100)
        case "facts":
            (folder / "image.json").write_text("{")
        case _:
            (folder / "memory").unlink()
    assert kept.find("one") is None
    assert not folder.exists()


def test_images_of_another_base_or_boot_are_removed_at_the_start(tmp_path, monkeypatch):
    old = image(Kept(tmp_path, base="old"), "one")
    new = image(Kept(tmp_path, base="new"), "two")
    Kept(tmp_path, base="new").swept()
    assert not old.exists()
    assert new.exists()
    facts = json.loads((new / "image.json").read_text())
    (new / "image.json").write_text(json.dumps(facts | {"base": "new another-boot"}))
    Kept(tmp_path, base="new").swept()
    assert not new.exists()


def test_those_that_were_used_longest_ago_make_room(tmp_path):
    kept = Kept(tmp_path, base="b", limit=300 << 10)
    folders = [image(kept, str(number), 100 << 10) for number in range(2)]
    for age, folder in zip((10, 20), folders, strict=True):
        os.utime(folder, (age, age))
    assert kept.find("0") == folders[0]
    last = image(kept, "2", 150 << 10)
    assert [folder.exists() for folder in (*folders, last)] == [True, False, True]


async def cloned(backend: Backend, saved: VmImage) -> object:
    async with backend.restore(saved, lambda _: None) as vm:
        return await answered(vm, do="born")


async def saved(backend: Backend, launch) -> VmImage:
    async with backend.boot(launch, lambda _: None) as vm:
        return await backend.snapshot(vm)


async def test_a_function_answers_from_what_an_earlier_run_saved(microvms, tmp_path):
    launch, kept = kitchen(tmp_path), tmp_path / "kept"
    async with microvms(run=tmp_path / "first", kept=kept) as backend:
        assert backend.kept(launch) is None
        born = await cloned(backend, await saved(backend, launch))
    assert not (tmp_path / "first").exists()
    assert [path.name.partition("-")[0] for path in kept.iterdir()] == ["image"]
    moved = replace(launch, code=shutil.copytree(launch.code, tmp_path / "moved"))
    async with microvms(run=tmp_path / "second", kept=kept) as backend:
        again = backend.kept(moved)
        assert again is not None
        assert await cloned(backend, again) == born
        for other in (
            replace(launch, environment={"GREETING": "other"}),
            replace(launch, memory_mib=256),
            replace(launch, version="2"),
            replace(launch, handler="app.other"),
        ):
            assert backend.kept(other) is None
        second = await saved(backend, replace(launch, version="2"))
        backend.forget("kitchen", "2", but=())
        assert not second.folder.exists()
        backend.forget("kitchen", None, but=(again,))
        backend.forget("other", None, but=())
        assert backend.kept(launch) is not None
        again.discard()
        assert backend.kept(launch) is None
        with pytest.raises(BootFailed):
            await cloned(backend, again)


async def test_what_is_saved_belongs_to_its_own_user_and_nobody_else_reads_it(microvms, tmp_path):
    async with microvms(run=tmp_path / "run", kept=tmp_path / "kept") as backend:
        image = await saved(backend, kitchen(tmp_path))
        memory = (image.folder / "memory").stat()
        assert stat.S_IMODE(memory.st_mode) == 0o600
        assert stat.S_IMODE(image.folder.stat().st_mode) == 0o700
        assert (memory.st_uid >= 1_900_000_000) is (os.geteuid() == 0)
