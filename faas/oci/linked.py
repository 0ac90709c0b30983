"""Which shared libraries of an image go with its files: those that guests do not have. Pure."""

from faas.image import elf
from faas.oci.documents import ImageError
from faas.oci.tree import File, Merged

GUEST = frozenset(
    {
        *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "linux-vdso.so.1", "libc.so.6"),
        *("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
        *("libresolv.so.2", "libnss_files.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
        *("libexpat.so.1", "libssl.so.3", "libcrypto.so.3", "libffi.so.8", "libbz2.so.1.0"),
        *("liblzma.so.5", "libsqlite3.so.0", "libuuid.so.1", "libcrypt.so.1"),
    }
)
"""Shared libraries of the guest's root, see `faas.image.root.PACKAGES`."""
GLIBC = 36
"""Minor version of the guest's glibc 2: Debian 12's."""
MAGIC = b"\x7fELF"
_FOLDERS = (
    *("usr/local/lib", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib"),
    *("usr/lib64", "lib64", "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu"),
    *("usr/local/lib64", "usr/lib/x86_64-linux-gnu/blas", "usr/lib/x86_64-linux-gnu/lapack"),
)
_MUSL = "libc.musl"
_WAY_OUT = "or run it as it is with wherry fn deploy --image"


class Unfit(ImageError):
    """A compiled file that guests cannot run."""


def needed(body: bytes, path: str) -> list[str]:
    """Return the libraries that a compiled file asks for, less those that guests have.

    Args:
        body: Content of the file; one that is not compiled asks for nothing.
        path: What the message calls it.

    Raises:
        Unfit: It is damaged, or for a C library that guests do not have.
    """
    if not body.startswith(MAGIC):
        return []
    try:
        names = elf.needed(body)
    except Exception as error:
        raise Unfit(f"{path}: {type(error).__name__}, expected a whole ELF file") from error
    if any(name.startswith(_MUSL) for name in names):
        raise Unfit(
            f"{path}: compiled for musl, expected glibc; build it on Debian instead of Alpine, "
            f"{_WAY_OUT}"
        )
    if elf.glibc(body) > GLIBC:
        raise Unfit(
            f"{path}: needs glibc 2.{elf.glibc(body)}, expected at most 2.{GLIBC}; build it on "
            f"an older system, {_WAY_OUT}"
        )
    return [name for name in names if name not in GUEST]


def library(merged: Merged, name: str) -> tuple[str, File] | None:
    """Return where an image has a shared library, among the folders of its system."""
    for folder in _FOLDERS:
        found = merged.find(f"{folder}/{name}")
        if found is not None and isinstance(found[1], File):
            return "/".join(found[0]), found[1]
    return None
