"""The guest's root file system and first steps: Debian's Python, what it links to, and busybox."""

import compileall
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faas.image import cpio, elf
from faas.image.layout import HOSTS
from wherry.errors import StartError

PYTHON = "3.11"
PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "media-types"),
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8"),
    *("libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1", "ca-certificates"),
    *("bash", "libtinfo6", "curl", "libcurl4", "libnghttp2-14", "libidn2-0", "librtmp1"),
    *("libssh2-1", "libpsl5", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libcom-err2"),
    *("libkrb5support0", "libldap-2.5-0", "libsasl2-2", "libzstd1", "libbrotli1"),
    *("libunistring2", "libgnutls30", "libhogweed6", "libnettle8", "libgmp10", "libkeyutils1"),
    *("libp11-kit0", "libtasn1-6"),
)
BUSYBOX = "busybox-static"
MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/char/virtio_console.ko",
    "net/vmw_vsock/vsock.ko",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko",
    "net/vmw_vsock/vmw_vsock_virtio_transport.ko",
)
"""In the order in which they must be loaded."""

PROGRAMS = {"bin/bash": "bin/bash", "usr/bin/curl": "usr/bin/curl"}
"""Beside busybox, what custom runtimes may use: where a package has it, and where it goes."""
VSOCK = "wherry.vsock="
"""On the kernel's command line: the agent is to listen on this vsock port."""

NATIVE = (
    *("ld-linux-x86-64.so.2", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0"),
    *("libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libnss_files.so.2"),
)
"""What compiled code in packages commonly links to."""

_INTO = "usr/lib/x86_64-linux-gnu"
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_UNUSED = ("idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "test")
_FOLDERS = (
    "proc",
    "sys",
    "dev",
    "tmp",
    "mnt",
    "bin",
    "etc",
    "var/task",
    "opt",
    "var/wherry",
    "var/lang/bin",
    "container",
)

BOOT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for m in {modules}; do $b insmod /mod/$m; done
$b mount -t ext4 -o ro /dev/vda /root || $b reboot -f
exec $b switch_root /root /sbin/init
"""

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc -o nosuid,nodev,noexec proc /proc
$b mount -t devtmpfs -o nosuid,noexec dev /dev
$b mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /tmp
$b mount -t ext4 -o ro,nosuid,nodev /dev/vdb /mnt
$b mount -o bind,ro /mnt/runtime /var/runtime
$b mount -o bind,ro /mnt/agent /var/wherry
$b ifconfig lo 127.0.0.1 up
$b hostname function
echo -1000 >/proc/self/oom_score_adj
way=--port
for word in $($b cat /proc/cmdline); do
  case $word in {vsock}*) way="--vsock ${{word#{vsock}}}" ;; esac
done
/usr/bin/python{python} -I -S -B /var/wherry $way >/dev/console 2>&1
$b reboot -f
"""


def root(unpacked: Path, target: Path) -> None:
    """Lay out the guest's root under ``target`` from unpacked packages, compiled and checked.

    Raises:
        StartError: This interpreter is not the guest's, or a library is missing.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        raise StartError(
            f"python {sys.version.split()[0]}: the guest runs {PYTHON}, expected the same here; "
            f"use Python {PYTHON}, or the process backend"
        )
    library = target / f"usr/lib/python{PYTHON}"
    shutil.copytree(
        unpacked / f"usr/lib/python{PYTHON}",
        library,
        symlinks=True,
        ignore=shutil.ignore_patterns(*_UNUSED, "config-*", "__pycache__"),
    )
    _copy(unpacked / f"usr/bin/python{PYTHON}", target / f"usr/bin/python{PYTHON}")
    for name in _FOLDERS:
        (target / name).mkdir(parents=True, exist_ok=True)
    (target / "var/runtime").mkdir()
    _copy(unpacked / "bin/busybox", target / "bin/busybox")
    for source, into in PROGRAMS.items():
        _copy(unpacked / source, target / into)
    _applets(target)
    for name in ("python", "python3", f"python{PYTHON}"):
        (target / "var/lang/bin" / name).symlink_to(f"/usr/bin/python{PYTHON}")
    _write(target / "sbin/init", INIT.format(python=PYTHON, vsock=VSOCK))
    (target / "etc/passwd").write_text("root:x:0:0::/:\nsandbox:x:65534:65534::/tmp:\n")
    (target / "etc/hosts").write_text(HOSTS)
    _link(target, _available(unpacked))
    compileall.compile_dir(
        library,
        quiet=2,
        stripdir=str(target),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def boot_archive(unpacked: Path, kernel: str) -> bytes:
    """Return what the kernel starts from: busybox, the modules and a script."""
    modules = unpacked / "lib/modules" / kernel / "kernel"
    names = " ".join(Path(name).name for name in MODULES)
    return cpio.archive(
        [
            *(cpio.folder(name) for name in ("bin", "dev", "mod", "root")),
            cpio.device("dev/console", 5, 1),
            cpio.program("bin/busybox", (unpacked / "bin/busybox").read_bytes()),
            cpio.program("init", BOOT.format(modules=names).encode()),
            *(
                cpio.program(f"mod/{Path(name).name}", (modules / name).read_bytes())
                for name in MODULES
            ),
        ]
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What a root file system offers to compiled code.

    Attributes:
        kernel: Release of the kernel beside it.
        glibc: Minor version of glibc 2.
        libraries: Names of its shared libraries.
    """

    kernel: str
    glibc: int
    libraries: Sequence[str]

    def check(self, runtime: Path) -> None:
        """Raise `StartError` unless the runtime's compiled parts can run in the guest."""
        for extension in runtime.rglob("*.so"):
            code = extension.read_bytes()
            lacking = sorted(set(elf.needed(code)) - set(self.libraries))
            if f"cpython-{PYTHON.replace('.', '')}" not in extension.name:
                found = f"built for another Python than the guest's {PYTHON}"
            elif elf.glibc(code) > self.glibc:
                found = f"needs glibc 2.{elf.glibc(code)}, the guest has 2.{self.glibc}"
            elif lacking:
                found = f"needs {', '.join(lacking)}, which the guest lacks"
            else:
                continue
            raise StartError(
                f"runtime {extension.name}: {found}, expected one that fits; "
                "use the process backend meanwhile"
            )


def offer(root: Path, kernel: str) -> Offer:
    """Return what a root made by `root` offers."""
    libraries = {path.name: path for path in (root / _INTO).iterdir()}
    return Offer(kernel, elf.glibc(libraries["libc.so.6"].read_bytes()), sorted(libraries))


def _applets(target: Path) -> None:
    """Link the names of busybox's programs, in both folders where scripts look for them."""
    busybox = target / "bin/busybox"
    listed = subprocess.run([busybox, "--list"], capture_output=True, check=True, text=True)  # noqa: S603
    for folder, there in (("bin", "busybox"), ("usr/bin", "../../bin/busybox")):
        for name in listed.stdout.split():
            path = target / folder / name
            if not path.exists():
                path.symlink_to(there)


def _available(unpacked: Path) -> dict[str, Path]:
    return {
        path.name: path
        for folder in _LIBRARIES
        for path in sorted((unpacked / folder).glob("*.so*"))
    }


def _link(target: Path, available: dict[str, Path]) -> None:
    """Copy each library that something in ``target`` needs; drop extensions that lack one."""
    into = target / _INTO
    into.mkdir(parents=True)
    (target / "lib").symlink_to("usr/lib")
    (target / "lib64").symlink_to(_INTO)
    names = set(NATIVE)
    for program in (f"usr/bin/python{PYTHON}", *PROGRAMS.values()):
        names |= set(_closure(target / program, available))
    for extension in sorted(target.rglob("*.cpython-*.so")):
        wanted = set(_closure(extension, available))
        if wanted <= available.keys():
            names |= wanted
        else:
            extension.unlink()
    for name in names:
        if name not in available:
            raise StartError(f"guest library {name}: in no package, expected in {PACKAGES}")
        _copy(available[name], into / name)


def _closure(path: Path, available: dict[str, Path]) -> Iterator[str]:
    pending, seen = [path], set[str]()
    while pending:
        for name in elf.needed(pending.pop().read_bytes()):
            if name not in seen:
                seen.add(name)
                yield name
                if name in available:
                    pending.append(available[name])


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _write(target: Path, script: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(script)
    target.chmod(0o755)
