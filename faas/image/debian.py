"""Debian packages as a source of files: downloaded and unpacked, never installed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from wherry.errors import StartError

_PATIENCE = 300


def available() -> bool:
    """Return whether this host has Debian's package tools."""
    return all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "dpkg-deb"))


def dependency(package: str, prefix: str) -> str:
    """Return the package starting with ``prefix`` that ``package`` depends on.

    Raises:
        StartError: There is none.
    """
    for line in _run("find a package", ["apt-cache", "depends", package]).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith(prefix):
            return name
    raise StartError(
        f"package {package}: depends on nothing named {prefix}*, expected one; run: apt-get update"
    )


def unpacked(packages: Sequence[str], folder: Path) -> Path:
    """Download ``packages`` and unpack them over each other; return where.

    Raises:
        StartError: A package cannot be had; the message says what apt said.
    """
    downloads, root = folder / "packages", folder / "unpacked"
    downloads.mkdir(parents=True)
    root.mkdir()
    _run("download packages", ["apt-get", "-q", "download", *packages], folder=downloads)
    for archive in sorted(downloads.glob("*.deb")):
        _run("unpack a package", ["dpkg-deb", "--extract", str(archive), str(root)])
    return root


def refresh() -> None:
    """Read the package lists anew; needs root.

    Raises:
        StartError: apt failed; the message says what it said.
    """
    _run("read package lists", ["apt-get", "update", "-q"])


def install(packages: Sequence[str]) -> None:
    """Install ``packages`` on this host; needs root.

    Raises:
        StartError: apt failed; the message says what it said.
    """
    refresh()
    _run(
        "install packages",
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    )


def _run(step: str, command: Sequence[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        said = " ".join(str(error.stderr).split())[-400:]
        raise StartError(
            f"setup: {step}: {said}, expected success; try: {' '.join(command)}"
        ) from None
    except subprocess.TimeoutExpired:
        raise StartError(
            f"setup: {step}: over {_PATIENCE} s, expected less; try: {' '.join(command)}"
        ) from None
    return done.stdout
