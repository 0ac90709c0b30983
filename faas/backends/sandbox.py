"""The command line of a sandbox: what a function's process may see of the host.

Pure: paths in, arguments out.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

TMP_BYTES = 512 << 20
"""Size of ``/tmp``, as Lambda gives it."""

NOBODY = 65534

_LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 0x41))"
)
"""Brings ``lo`` up (SIOCSIFFLAGS with IFF_UP and IFF_RUNNING): a bare host has no ``ip``."""


@dataclass(frozen=True, slots=True)
class View:
    """What a sandbox shows of the host, all of it read-only.

    Attributes:
        python: The interpreter's executable.
        prefix: The interpreter's installation.
        agent: What becomes ``/opt/wherry``.
        runtime: What becomes ``/var/runtime``.
        code: What becomes ``/var/task``.
    """

    python: Path
    prefix: Path
    agent: Path
    runtime: Path
    code: Path

    def binds(self) -> list[tuple[Path, str]]:
        """Return ``(host path, path inside)`` for everything shown, parents first."""
        system = [Path(name) for name in ("/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache")]
        shown = [(path, str(path)) for path in system if path.exists()]
        if self.prefix != Path("/usr"):
            shown.append((self.prefix, str(self.prefix)))
        elif self.python.exists():
            shown.append((self.python, str(self.python)))
        return [
            *shown,
            (self.agent, "/opt/wherry"),
            (self.runtime, "/var/runtime"),
            (self.code, "/var/task"),
        ]


def agent_command(view: View, fd: int, uid: int | None) -> list[str]:
    """Return what runs inside: the agent on ``fd``, as ``uid`` (None: as it finds itself)."""
    command = [str(view.python), "-I", "-S", "/opt/wherry", "--fd", str(fd)]
    return command if uid is None else [*command, "--uid", str(uid)]


def bubblewrap(view: View, fd: int, uid: int | None) -> list[str]:
    """Return bubblewrap's arguments to run the agent.

    Args:
        view: What it sees.
        fd: The channel, inherited.
        uid: With root's powers, the host user that the sandbox becomes, so that its limits and
            signals concern no other; None: a user namespace over the caller's own user.
    """
    parents = {folder for _, inside in view.binds() for folder in Path(inside).parents}
    folders = sorted(map(str, {*parents, Path("/opt/python")} - {Path("/")}))
    shown = [arg for folder in folders for arg in ("--perms", "0755", "--dir", folder)]
    shown += [arg for host, inside in view.binds() for arg in ("--ro-bind", str(host), inside)]
    if uid is None:
        identity = ["--unshare-all", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        capabilities = ["--cap-drop", "ALL"]
    else:
        identity = [
            *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            "--unshare-cgroup-try",
        ]
        capabilities = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [
        *identity,
        *("--hostname", "function", "--die-with-parent", "--new-session", "--clearenv"),
        *capabilities,
        *shown,
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"),  # noqa: S108
        *("--remount-ro", "/", "--chdir", "/var/task"),
        "--",
        *agent_command(view, fd, uid),
    ]


def unshared(view: View, fd: int, uid: int | None) -> list[str]:
    """Return a util-linux ``unshare`` command that runs the agent, for hosts without bubblewrap.

    A shell builds the file system. Without root's powers it does so in a user namespace, and a
    second one, over a user without powers, takes over. Arguments are as for `bubblewrap`.
    """
    identity = ["--user", "--map-root-user"] if uid is None else []
    return [
        "unshare",
        *identity,
        *("--mount", "--ipc", "--uts", "--net", "--pid", "--fork", "--kill-child=SIGKILL"),
        *("--propagation", "private", "--", "sh", "-ec", _build(view, uid), "sandbox"),
        *agent_command(view, fd, uid),
    ]


def _build(view: View, uid: int | None) -> str:
    """Return a shell script that makes a root of ``view``, enters it and runs its arguments.

    The root is made over ``/sys``, of which a sandbox shows nothing.
    """
    lines = ["umask 022", "mount -t tmpfs -o mode=755,nosuid,nodev root /sys", "cd /sys"]
    for host, inside in view.binds():
        make = "mkdir -p" if host.is_dir() else "install -D /dev/null"
        lines += _shown(host, f".{inside}", make, "ro,nosuid,nodev")
    for device in ("null", "zero", "full", "random", "urandom"):
        lines += _shown(
            Path("/dev", device), f"./dev/{device}", "install -D /dev/null", "ro,nosuid"
        )
    become = '"$@"'
    if uid is None:
        lines += _shown(Path("$(command -v unshare)"), "./dev/.enter", "install -D /dev/null", "ro")
        become = f'/dev/.enter --user --map-user={NOBODY} --map-group={NOBODY} -- "$@"'
    return "\n".join(
        [
            *lines,
            "mkdir -p ./proc ./tmp ./opt/python ./old",
            "mount -t proc -o nosuid,nodev,noexec proc ./proc",
            f"mount -t tmpfs -o mode=1777,nosuid,nodev,size={TMP_BYTES} tmp ./tmp",
            shlex.join([str(view.python), "-I", "-S", "-c", _LOOPBACK_UP]),
            "leave=$(command -v umount)",
            "pivot_root . old",
            "/old$leave -l /old",
            "cd /var/task",
            f"exec {become}",
        ]
    )


def _shown(host: Path, inside: str, make: str, options: str) -> list[str]:
    source = str(host) if str(host).startswith("$") else shlex.quote(str(host))
    target = shlex.quote(inside)
    return [
        f"{make} {target}",
        f"mount --bind {source} {target}",
        f"mount -o remount,bind,{options} {target}",
    ]
