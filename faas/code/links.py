"""Symbolic links in a package: allowed while they stay inside it. Pure."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from faas.lambda_errors import InvalidParameter

Parts = tuple[str, ...]
"""A path inside a package, by its names."""

_MOST = 40
"""Most links on one way. Source: path_resolution(7), the kernel's own limit."""


def check(links: Mapping[Parts, str], paths: Iterable[Parts]) -> None:
    """Refuse links that leave the package, and entries that lie behind a link.

    Args:
        links: Where each link leads, by its path.
        paths: Of every entry, links included.

    Raises:
        InvalidParameter: A link or an entry may not be unpacked.
    """
    if not links:
        return
    seen: set[Parts] = set()
    for path in paths:
        behind = next((path[:end] for end in range(1, len(path)) if path[:end] in links), None)
        if behind is not None or (path in seen and path in links):
            raise InvalidParameter(
                f"Uploaded file entry {'/'.join(path)[:80]!r}: found it behind a link or twice, "
                "expected each path once"
            )
        seen.add(path)
    for path, target in links.items():
        if not _stays(path, target, links):
            raise InvalidParameter(
                f"Uploaded file entry {'/'.join(path)[:80]!r}: found a link that leaves the "
                "package, expected a relative one to a path inside"
            )


def _stays(link: Parts, target: str, links: Mapping[Parts, str]) -> bool:
    """Return whether the way from ``link`` through ``target`` never leaves the package.

    A way that goes in circles leads nowhere, but stays.
    """
    at = list(link[:-1])
    ahead = list(reversed(PurePosixPath(target).parts))
    if target.startswith("/"):
        return False
    followed = 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            if not at:
                return False
            at.pop()
            continue
        at.append(name)
        further = links.get(tuple(at))
        if further is None:
            continue
        followed += 1
        if followed > _MOST:
            return True
        if further.startswith("/"):
            return False
        at.pop()
        ahead.extend(reversed(PurePosixPath(further).parts))
    return True
