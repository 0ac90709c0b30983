"""moto, in an environment of its own: its server for what Wherry has not, and its own tests."""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from wherry.cli.settings import cache_folder

VERSION = "5.2.5"
PACKAGES = (f"moto[server]=={VERSION}", "pytest==9.2.0", "requests", "freezegun")
_SERVING = re.compile(rb"Running on (http://127\.0\.0\.1:\d+)")
_QUIET = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false", "AWS_DEFAULT_REGION": "us-west-2"}
_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Moto:
    """An installed moto.

    Attributes:
        python: The interpreter of its environment.
        sources: Its source distribution, with its tests.
    """

    python: Path
    sources: Path

    @asynccontextmanager
    async def server(self) -> AsyncIterator[str]:
        """Run ``moto_server`` for the length of the block; yield its URL."""
        process = await asyncio.create_subprocess_exec(
            self.python,
            *("-m", "moto.server", "-H", "127.0.0.1", "-p", "0"),
            env={**_QUIET, **_KEYS, "PATH": os.environ["PATH"]},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(60):
                url = await _said(process.stderr)
            async with asyncio.TaskGroup() as group:
                rest = group.create_task(_drained(process.stderr), name="moto's log")
                yield url
                rest.cancel()
        finally:
            process.kill()
            await process.wait()

    async def tested(self, paths: Sequence[str], endpoint: str, folder: Path) -> dict[str, str]:
        """Run moto's tests against ``endpoint``; return ``passed``, ``failed`` or ``skipped`` by
        name, as in ``tests/test_awslambda/test_lambda.py::test_invoke[x]``."""
        report = folder / "report.xml"
        process = await asyncio.create_subprocess_exec(
            self.python,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *paths),
            cwd=self.sources,
            env={
                **_QUIET,
                **_KEYS,
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TEST_SERVER_MODE": "true",
                "TEST_SERVER_MODE_ENDPOINT": endpoint,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        (folder / "output.txt").write_bytes(said)
        assert report.exists(), said[-2000:].decode(errors="replace")
        return _results(report)


async def _said(stream: asyncio.StreamReader) -> str:
    seen = b""
    while piece := await stream.readline():
        seen += piece
        if found := _SERVING.search(piece):
            return found.group(1).decode()
    raise AssertionError(f"moto_server ended: {seen[-1000:]!r}")


async def _drained(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


def _results(report: Path) -> dict[str, str]:
    results = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  (pytest wrote it)
        *folders, last = case.attrib["classname"].split(".")
        parts = [*folders, f"{last}.py"]
        if last[:1].isupper():
            parts = [*folders[:-1], f"{folders[-1]}.py::{last}"]
        outcomes = {child.tag for child in case}
        verdict = "failed" if outcomes & {"failure", "error"} else "passed"
        if "skipped" in outcomes:
            verdict = "skipped"
        results["/".join(parts) + f"::{case.attrib['name']}"] = verdict
    return results


def installed() -> Moto:
    """Return moto, installed into the cache when it is not there yet."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(repr((PACKAGES, version)).encode()).hexdigest()[:12]
    made = cache_folder() / f"moto-{key}"
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / "moto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            _make(made)
            (made / "whole").touch()
    return Moto(made / "env/bin/python", made / f"moto-{VERSION}")


def _make(made: Path) -> None:
    made.mkdir()
    pip = [shutil.which("python3") or sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    python = made / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made / "env"], check=True)
    subprocess.run([*pip, "--python", python, "install", *quiet, *PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as folder:
        fetch = ["--no-deps", "--no-binary=moto", f"--dest={folder}", f"moto=={VERSION}"]
        subprocess.run([*pip, "download", *quiet, *fetch], check=True)
        with tarfile.open(next(Path(folder).glob("moto-*.tar.gz"))) as archive:
            archive.extractall(made, filter="data")
