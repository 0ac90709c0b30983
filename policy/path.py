"""Paths in one spelling, so that a rule cannot be passed by writing its path differently."""

import re
from posixpath import normpath
from urllib.parse import quote

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ASCII = "".join(map(chr, range(0x80)))


def spelled(text: str) -> str:
    """Return ``text`` with each character escaped only where RFC 3986 needs it.

    Escapes of unreserved characters are undone, the others get upper-case digits, and what
    is not ASCII is escaped. ``%2F`` stays as it is: no path segment is split by it.

    Source: RFC 3986 section 6.2.2
    """
    return _ESCAPE.sub(_unescaped, quote(text, safe=_ASCII))


def normalised(target: str) -> str:
    """Return the path of a request target without query and fragment, in one spelling.

    ``.`` and ``..`` segments are resolved, a backslash counts as a slash, repeated slashes as
    one; a slash at the end stays.

    Source: RFC 3986 section 6.2.2.3 and the WHATWG URL standard, section 4.4
    """
    path = spelled(target.partition("?")[0].partition("#")[0]).replace("\\", "/")
    if not path.startswith("/"):
        return path
    ends_in_folder = path.endswith(("/", "/.", "/.."))
    resolved = "/" + normpath(path).lstrip("/")
    return resolved + "/" if ends_in_folder and resolved != "/" else resolved


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()
