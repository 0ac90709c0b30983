"""Starts programs: with limits, as another user, under another root, in a session of their own."""

import contextlib
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_LIKELY_KILLED = b"1000"
"""When memory runs out the kernel ends a function's process and not the agent."""
_ERRNO_BYTES = 4
_NOT_RUN = 127


@dataclass(frozen=True, slots=True)
class Frame:
    """What all programs of one function have in common.

    Attributes:
        root: Folder that becomes their root; None: the agent's own.
        uid: Whom they run as; None: as the agent.
        data_limit: Bytes of private memory of each; 0: no limit.
        processes: Most processes and threads of the user.
    """

    root: str | None
    uid: int | None
    data_limit: int
    processes: int


def spawn(
    argv: Sequence[str],
    *,
    frame: Frame,
    environment: Mapping[str, str],
    directory: str,
    output: int,
) -> int:
    """Start a program and return its process id.

    Between fork and exec nothing but system calls happens: other threads hold locks.

    Args:
        argv: Program, by path or found on the PATH of ``environment``, and arguments.
        frame: Limits, user and root.
        environment: All of its variables.
        directory: Where it starts, seen from its root.
        output: Descriptor that takes what it writes.

    Raises:
        OSError: It could not be started; the number is the kernel's.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(frame, directory, output)
            os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606
        except OSError as error:
            os.write(tell, (error.errno or 0).to_bytes(_ERRNO_BYTES, "big"))
        finally:
            os._exit(_NOT_RUN)
    os.close(tell)
    with open(told, "rb", buffering=0) as end:  # noqa: PTH123
        said = end.read(_ERRNO_BYTES)
    if said:
        os.waitpid(pid, 0)
        number = int.from_bytes(said, "big")
        raise OSError(number, os.strerror(number))
    return pid


def ended(pid: int) -> int:
    """Wait for a program; return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prefer_as_victim() -> None:
    """Let the kernel end this process, and what it starts, before others of the machine."""
    with contextlib.suppress(OSError):
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, MOST_LIKELY_KILLED)
        os.close(score)


def _become(frame: Frame, directory: str, output: int) -> None:
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if frame.uid is not None:
        prefer_as_victim()
    _limit(resource.RLIMIT_CORE, 0)
    if frame.data_limit:
        _limit(resource.RLIMIT_DATA, frame.data_limit)
    if frame.root is not None:
        os.chroot(frame.root)
    os.chdir(directory)
    if frame.uid is not None:
        os.setgroups([])
        os.setresgid(frame.uid, frame.uid, frame.uid)
        os.setresuid(frame.uid, frame.uid, frame.uid)
    _limit(resource.RLIMIT_NPROC, frame.processes)


def _limit(kind: int, most: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))
