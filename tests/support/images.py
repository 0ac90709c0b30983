"""Container images for tests, built by umoci, carried by skopeo, kept by docker's registry."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from support.debian import Program, program

_SKOPEO = (
    *("skopeo", "libdevmapper1.02.1", "libgpgme11", "libassuan0"),
    "golang-github-containers-common",
)
_REGISTRY = """version: 0.1
storage:
  filesystem: {{rootdirectory: {folder}}}
http: {{addr: 127.0.0.1:{port}}}
"""
_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}'


def umoci() -> Program:
    """Return umoci."""
    return program("usr/bin/umoci", ["umoci"])


def skopeo() -> Program:
    """Return skopeo."""
    return program("usr/bin/skopeo", _SKOPEO)


def docker_registry() -> Program:
    """Return docker's own registry."""
    return program("usr/bin/docker-registry", ["docker-registry"])


class Layout:
    """An OCI layout that grows layer by layer.

    Attributes:
        path: Its folder.
        tag: Its one image.
    """

    def __init__(self, path: Path, tag: str = "latest") -> None:
        self.path, self.tag = path, tag
        self._umoci = umoci()
        self._run("init", "--layout", path)
        self._run("new", "--image", self.name)

    @property
    def name(self) -> str:
        """The folder and the tag."""
        return f"{self.path}:{self.tag}"

    def layer(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        said: str = "",
        programs: tuple[str, ...] = (),
        links: Mapping[str, str] = {},
    ) -> None:
        """Put a layer on top.

        Args:
            files: Content by path; None: a whiteout.
            said: What its history says.
            programs: Those that may be executed.
            links: Texts of symbolic links by path.
        """
        folder = self.path.parent / f"{self.path.name}-rootfs"
        (folder / "rootfs").mkdir(parents=True)
        history = ["--history.created_by", said] if said else []
        for name, content in files.items():
            path = folder / "rootfs" / name
            if content is None:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(0o755 if name in programs else 0o644)
        for name, text in links.items():
            (folder / "rootfs" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "rootfs" / name).symlink_to(text)
        gone = [name for name, content in files.items() if content is None]
        if len(gone) < len(files) or links:
            self.folder(folder / "rootfs", *history)
        for name in gone:
            self._run("insert", "--rootless", "--image", self.name, *history, "--whiteout", name)
        shutil.rmtree(folder)

    def folder(self, folder: Path, *history: str) -> None:
        """Put a folder on top as one layer."""
        self._run("insert", "--rootless", "--image", self.name, *history, folder, "/")

    def config(self, *options: str) -> None:
        """Change the configuration: umoci's options, such as ``--config.cmd X``."""
        self._run("config", "--image", self.name, *options)

    def _run(self, *arguments: object) -> None:
        _run(self._umoci, *arguments)


def copied(source: str, target: str, *options: str) -> str:
    """Have skopeo copy an image; return ``target``."""
    peer = skopeo()
    policy = Path(peer.environment["LD_LIBRARY_PATH"].split(":")[0]).parents[1] / "policy.json"
    policy.write_text(_ANYTHING)
    _run(
        peer,
        *("--policy", policy, "copy", "--quiet", "--dest-tls-verify=false", *options),
        *(source, target),
    )
    return target


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[str]:
    """Run docker's registry; enter with its ``HOST:PORT``."""
    peer, config = docker_registry(), _configured(folder)
    process = await asyncio.create_subprocess_exec(
        *(str(peer.path), "serve", str(config)),
        env=peer.environment,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            while b"listening on" not in (line := await process.stderr.readline()):
                assert line, "the registry ended"
            address = line.split(b"listening on ")[1].split(b'"')[0].decode().strip()
        async with asyncio.TaskGroup() as tasks:
            drain = tasks.create_task(process.stderr.read(), name="drain")
            yield address
            process.terminate()
            await drain
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _configured(folder: Path) -> Path:
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(_REGISTRY.format(folder=folder / "data", port=0))
    return config


def _run(peer: Program, *arguments: object) -> None:
    done = subprocess.run(
        [peer.path, *map(str, arguments)],
        env={**peer.environment, "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{peer.path.name} {arguments}: {done.stderr}"
