"""The command line of a sandbox: what a function's process may see of the host.

Pure but for a look at which paths there are: paths in, arguments out.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faas.backends.loop import MOUNT, PLACE

NOBODY = 65534

_LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 0x41))"
)
"""Brings ``lo`` up (SIOCSIFFLAGS with IFF_UP and IFF_RUNNING): a bare host has no ``ip``."""

_AGENT = "/var/wherry"
_BESIDE = "/.wherry"
"""Where the agent's interpreter and its libraries are when a container's root is the root."""
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache")
_PROGRAMS = ("/bin", "/usr/bin", "/etc/alternatives", "/etc/ssl", "/usr/share/ca-certificates")
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_OWN = ("proc", "dev", "tmp")
_PYTHONS = ("python", "python3", "python3.11")
"""Names of Python's runtime, for extensions and custom runtimes that are Python scripts."""


@dataclass(frozen=True, slots=True)
class View:
    """What a sandbox shows of the host, all of it read-only.

    Attributes:
        python: The interpreter's executable.
        prefix: The interpreter's installation.
        agent: What becomes ``/var/wherry``.
        runtime: What becomes ``/var/runtime``.
        code: What becomes ``/var/task``.
        hosts: What becomes ``/etc/hosts``.
        tmp_mib: Size of ``/tmp`` where it is memory.
        layers: What becomes ``/opt``; None: an empty folder.
        language: What becomes ``/var/lang``; None: nothing.
        image: A container's root, whose folders are shown in place of the host's; None: the
            host's libraries and programs are shown.
        tmp: Block device that becomes ``/tmp``, to be changed; None: it is memory.
    """

    python: Path
    prefix: Path
    agent: Path
    runtime: Path
    code: Path
    hosts: Path
    tmp_mib: int
    layers: Path | None = None
    language: Path | None = None
    image: Path | None = None
    tmp: str | None = None

    @property
    def links(self) -> list[tuple[str, str]]:
        """Symbolic links in the root: ``(target, path inside)``."""
        if self.language is not None:
            return []
        if self.image is None:
            return [(str(self.python), f"/var/lang/bin/{name}") for name in _PYTHONS]
        return [
            (str(path.readlink()), f"/{path.name}")
            for path in sorted(self.image.iterdir())
            if path.is_symlink() and path.name not in _OWN
        ]

    def binds(self) -> list[tuple[Path, str]]:
        """Return ``(host path, path inside)`` for everything shown, parents first."""
        beside = _BESIDE if self.image is not None else ""
        shown = [(path, f"{beside}{path}") for path in _there(_SYSTEM)]
        if self.prefix != Path("/usr"):
            shown.append((self.prefix, f"{beside}{self.prefix}"))
        elif self.python.exists() and self.image is not None:
            shown.append((self.python, f"{beside}{self.python}"))
        if self.image is not None:
            image = [
                (path, f"/{path.name}")
                for path in sorted(self.image.iterdir())
                if not path.is_symlink() and path.name not in _OWN
            ]
            return [*image, *shown, (self.agent, f"{_BESIDE}{_AGENT}")]
        shown += [(path, str(path)) for path in _there(_PROGRAMS)]
        shown += [
            (self.agent, _AGENT),
            (self.runtime, "/var/runtime"),
            (self.code, "/var/task"),
            (self.hosts, "/etc/hosts"),
        ]
        if self.layers is not None:
            shown.append((self.layers, "/opt"))
        if self.language is not None:
            shown.append((self.language, "/var/lang"))
        return shown

    def interpreter(self) -> list[str]:
        """Return the command that starts the agent's interpreter, on libraries of its own."""
        if self.image is None:
            return [str(self.python)]
        return [*self.through(_BESIDE), f"{_BESIDE}{self.python}"]

    def through(self, root: str) -> list[str]:
        """Return what starts a program of the host that is seen below ``root``."""
        if self.image is None:
            return []
        folders = [self.prefix / "lib", Path("/lib/x86_64-linux-gnu"), Path("/usr/lib"), *_SYS_LIB]
        path = ":".join(f"{root}{folder}" for folder in folders)
        return [f"{root}{Path(_LOADER).resolve()}", "--library-path", path]

    @property
    def folders(self) -> list[str]:
        """Folders of the root that must be made, parents first."""
        inside = [Path(path) for _, path in self.binds()]
        parents = {folder for path in inside for folder in path.parents}
        if self.image is None:
            parents |= {Path("/opt")}
            parents |= {folder for _, path in self.links for folder in Path(path).parents}
        return sorted(map(str, parents - {Path("/")} - set(inside)))


_SYS_LIB = (Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64"))


def agent_command(view: View, fd: int, uid: int | None) -> list[str]:
    """Return what runs inside: the agent on ``fd``, as ``uid`` (None: as it finds itself)."""
    beside = _BESIDE if view.image is not None else ""
    command = [*view.interpreter(), "-I", "-S", f"{beside}{_AGENT}", "--fd", str(fd)]
    return command if uid is None else [*command, "--uid", str(uid)]


def bubblewrap(view: View, fd: int, uid: int | None, *, seccomp: int | None = None) -> list[str]:
    """Return bubblewrap's arguments to run the agent; see `faas.backends.loop.mounted`.

    Args:
        view: What it sees.
        fd: The channel, inherited.
        uid: With root's powers, the host user that the sandbox becomes, so that its limits and
            signals concern no other; None: a user namespace over the caller's own user.
        seccomp: Descriptor of a file with a filter of system calls; None: no filter.
    """
    shown = [arg for name in view.folders for arg in ("--perms", "0755", "--dir", name)]
    shown += [arg for host, inside in view.binds() for arg in ("--ro-bind", str(host), inside)]
    shown += [arg for target, inside in view.links for arg in ("--symlink", target, inside)]
    if uid is None:
        identity = ["--unshare-all", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        capabilities = ["--cap-drop", "ALL"]
    else:
        identity = [
            *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            "--unshare-cgroup-try",
        ]
        capabilities = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    filtered = [] if seccomp is None else ["--seccomp", str(seccomp)]
    return [
        *identity,
        *("--hostname", "function", "--die-with-parent", "--new-session", "--clearenv"),
        *capabilities,
        *filtered,
        *shown,
        *("--proc", "/proc", "--dev", "/dev"),
        *_tmp(view),
        *("--remount-ro", "/", "--chdir", "/"),
        "--",
        *agent_command(view, fd, uid),
    ]


def _tmp(view: View) -> list[str]:
    if view.tmp is not None:
        return ["--bind", PLACE, "/tmp"]  # noqa: S108
    return ["--perms", "1777", "--size", str(view.tmp_mib << 20), "--tmpfs", "/tmp"]  # noqa: S108


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
    lines += [f"mkdir -p .{shlex.quote(name)}" for name in view.folders]
    for host, inside in view.binds():
        make = "mkdir -p" if host.is_dir() else "install -D /dev/null"
        lines += _shown(host, f".{inside}", make, "ro,nosuid,nodev")
    lines += [
        f"ln -s {shlex.quote(target)} .{shlex.quote(inside)}" for target, inside in view.links
    ]
    for device in ("null", "zero", "full", "random", "urandom"):
        lines += _shown(
            Path("/dev", device), f"./dev/{device}", "install -D /dev/null", "ro,nosuid"
        )
    become = '"$@"'
    if uid is None:
        lines += _shown(Path("$(command -v unshare)"), "./dev/.enter", "install -D /dev/null", "ro")
        enter = shlex.join([*view.through(_BESIDE), "/dev/.enter", "--user"])
        become = f'{enter} --map-user={NOBODY} --map-group={NOBODY} -- "$@"'
    memory = f"mount -t tmpfs -o mode=1777,nosuid,nodev,size={view.tmp_mib << 20} tmp"
    return "\n".join(
        [
            *lines,
            "mkdir -p ./proc ./tmp ./old",
            "mount -t proc -o nosuid,nodev,noexec proc ./proc",
            f"{memory if view.tmp is None else f'{MOUNT} {view.tmp}'} ./tmp",
            shlex.join([str(view.python), "-I", "-S", "-c", _LOOPBACK_UP]),
            "leave=$(command -v umount)",
            "pivot_root . old",
            "cd /",
            f"{shlex.join(view.through('/old'))} /old$leave -l /old".lstrip(),
            f"exec {become}",
        ]
    )


def _there(paths: tuple[str, ...]) -> Iterator[Path]:
    return (path for path in map(Path, paths) if path.exists())


def _shown(host: Path, inside: str, make: str, options: str) -> list[str]:
    source = str(host) if str(host).startswith("$") else shlex.quote(str(host))
    target = shlex.quote(inside)
    return [
        f"{make} {target}",
        f"mount --bind {source} {target}",
        f"mount -o remount,bind,{options} {target}",
    ]
