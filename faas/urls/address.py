"""Which function URL a request is for. Pure."""

import re
from dataclasses import dataclass

_ID = r"[a-z0-9]{16,64}"
_HOST = re.compile(rf"({_ID})\.lambda-url\.[a-z0-9-]+\.[a-z0-9.-]+(?::\d+)?", re.IGNORECASE)
_PATH = re.compile(rf"/({_ID})(/.*)?")


@dataclass(frozen=True, slots=True)
class Door:
    """What a request says of where it goes.

    Attributes:
        id: Of the URL.
        path: What the function sees, percent-encoded as it came.
    """

    id: str
    path: str

    @classmethod
    def of(cls, host: str, path: str) -> "Door | None":
        """Read a request; return None when it names no URL.

        Args:
            host: ``<id>.lambda-url.<region>.localhost``, or any other with the id in the path.
            path: Without the query; with a host that has no id, ``/<id>/...``.
        """
        named = _HOST.fullmatch(host)
        if named is not None:
            return cls(named[1].lower(), path or "/")
        found = _PATH.fullmatch(path)
        return None if found is None else cls(found[1], found[2] or "/")


def domain(url_id: str, region: str) -> str:
    """Return the name that the URL's function is told it has."""
    return f"{url_id}.lambda-url.{region}.localhost"
