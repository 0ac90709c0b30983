"""Real programs as peers of tests: Debian packages unpacked into the cache, never installed."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from faas.image import debian
from wherry.cli.settings import cache_folder


@dataclass(frozen=True)
class Program:
    """A program of an unpacked package.

    Attributes:
        path: Of its executable.
        environment: What it needs to find its libraries.
    """

    path: Path
    environment: dict[str, str]


def program(path: str, packages: Sequence[str]) -> Program:
    """Return the executable ``path`` (such as ``usr/bin/umoci``) out of ``packages``.

    The packages are fetched once. Where that cannot be done, the test is skipped, in CI it fails.
    """
    key = hashlib.sha256(repr(sorted(packages)).encode()).hexdigest()[:12]
    made = cache_folder() / f"peers-{key}"
    if not made.is_dir():
        if not debian.available():
            said = f"{path} is needed, and this host has no apt-get"
            pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
        made.parent.mkdir(parents=True, exist_ok=True)
        with (made.parent / "peers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.is_dir():
                _make(packages, made)
    libraries = [str(folder) for folder in (made / "usr/lib", made / "lib")]
    libraries += [str(folder) for folder in made.glob("**/x86_64-linux-gnu") if folder.is_dir()]
    return Program(
        made / path, {"LD_LIBRARY_PATH": ":".join(libraries), "PATH": os.environ["PATH"]}
    )


def _make(packages: Sequence[str], made: Path) -> None:
    if os.geteuid() == 0:
        debian.refresh()
    scratch = Path(tempfile.mkdtemp(prefix="peers-", suffix=".partial", dir=made.parent))
    try:
        debian.unpacked(packages, scratch).rename(made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
