"""Where an image is, as people write it. Pure.

Source: https://github.com/distribution/reference (``NAME[:TAG][@DIGEST]``) and the transports of
https://github.com/containers/image/blob/main/docs/containers-transports.5.md
"""

import re
from dataclasses import dataclass

from faas.oci.documents import ImageError, is_digest

_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_LOOPBACK = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(:\d+)?")
_FILES = ("oci:", "oci-archive:", "docker-archive:")
_MAX_REPOSITORY = 255


@dataclass(frozen=True, slots=True)
class InFile:
    """An image in an archive or a layout.

    Attributes:
        path: Of the file or folder.
        tag: Which of its images; empty: the only one.
        digest: That it must have, of the manifest or of the configuration; empty: any.
    """

    path: str
    tag: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class InRegistry:
    """An image in a registry.

    Attributes:
        host: Host and, where given, port.
        repository: Such as ``library/python``.
        tag: A tag, or empty with a digest.
        digest: Of the manifest or the index; empty: none given.
    """

    host: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine; only such a one is spoken to in the clear."""
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def url(self) -> str:
        """Where its API begins."""
        return f"{'http' if self.loopback else 'https'}://{self.host}/v2/{self.repository}"

    def __str__(self) -> str:
        host = _HUB if self.host == _HUB_HOST else self.host
        return f"{host}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


def in_file(text: str) -> InFile | None:
    """Read ``oci:PATH[:TAG]``, ``oci-archive:PATH[:TAG]`` or ``docker-archive:PATH[:TAG]``."""
    for scheme in _FILES:
        if text.startswith(scheme):
            path, _, tag = text.removeprefix(scheme).partition(":")
            return InFile(path, tag)
    return None


def in_registry(text: str) -> InRegistry:
    """Read ``[docker://][HOST/]NAME[:TAG][@DIGEST]``; without a host it is Docker Hub's.

    Raises:
        ImageError: It is no such reference.
    """
    rest = text.removeprefix("docker://")
    rest, at, digest = rest.partition("@")
    host, slash, path = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = _HUB, rest
    path, colon, tag = path.partition(":")
    if host in (_HUB, f"index.{_HUB}"):
        host, path = _HUB_HOST, path if "/" in path else f"library/{path}"
    named = _HOST.fullmatch(host)
    wrong = (
        named is None
        or int(named["port"] or 1) not in range(1, 1 << 16)
        or not _REPOSITORY.fullmatch(path)
        or len(path) > _MAX_REPOSITORY
        or (colon and not _TAG.fullmatch(tag))
        or (at and not is_digest(digest))
    )
    if wrong:
        raise ImageError(
            f"image {text[:200]!r}: no such file, and no image in a registry, expected a path, "
            "oci:PATH, oci-archive:PATH, docker-archive:PATH or [HOST/]NAME[:TAG][@sha256:HEX]"
        )
    return InRegistry(host, path, "" if digest and not tag else tag or "latest", digest)
