"""A gRPC client in Node: its packages from npm, installed once into the cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from wherry.cli.settings import cache_folder

HERE = Path(__file__).parent
INSTALL = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
SECONDS = 240
"""Longest that npm may take."""


def installed() -> tuple[Sequence[str], Path]:
    """Return the client's command and the folder to run it in; skip where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _missing("node and npm are not installed")
    wanted = (HERE / "package.json").read_bytes()
    folder = cache_folder() / f"grpc-js-{hashlib.blake2b(wanted, digest_size=6).hexdigest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(str(npm), wanted, folder)
    return (str(node), str(HERE / "client.js")), folder


def _install(npm: str, wanted: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="grpc-js-") as staged:
        made = Path(staged) / "made"
        made.mkdir()
        (made / "package.json").write_bytes(wanted)
        done = subprocess.run(
            [npm, *INSTALL], cwd=made, timeout=SECONDS, capture_output=True, text=True, check=False
        )
        if done.returncode:
            _missing(f"npm could not install the packages: {done.stderr[-500:]}")
        made.rename(folder)


def _missing(what: str) -> None:
    (pytest.fail if os.getenv("CI") else pytest.skip)(what)
