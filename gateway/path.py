"""Request targets in the one spelling that is matched, counted and forwarded.

What two readers could read differently is refused instead of guessed at: dot segments, empty
segments, escaped slashes, backslashes, control characters, semicolons (some servers cut off what
follows), escapes of escapes and escapes that are no UTF-8. So nothing passes the key under
another name than the one it is served by.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote, unquote_to_bytes

from gateway.problem import Refused

MAX_TARGET = 8000
"""Most bytes of a request target."""

_SAFE = "-._~!$&'()*+,=:@"
_PLAIN = re.compile(rf"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9{re.escape(_SAFE)}]+)+/?|/", re.ASCII)
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)
_ESCAPE_OR_PLAIN = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"[\x21-\x7e]*")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Path:
    """A path without ambiguity.

    Attributes:
        text: As it is forwarded: escaped only where RFC 3986 needs it.
        segments: Between the slashes, unescaped; a slash at the end makes a last empty one.
    """

    text: str
    segments: tuple[str, ...]


def split(target: str) -> tuple[Path, str]:
    """Return the path and the raw query of a request target.

    Raises:
        Refused: 400, the target can be read in more than one way, or in none.

    Source: RFC 3986 section 6.2.2, RFC 9112 section 3.2
    """
    if len(target) > MAX_TARGET:
        raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"The target is over {MAX_TARGET} bytes.")
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise _bad("it does not begin with a slash")
        rest = target[absolute.end() :]
        target = rest if rest.startswith("/") else "/" + rest
    path, _, query = target.partition("?")
    if query and (not _QUERY.fullmatch(query) or "#" in query):
        raise _bad("its query holds characters that need an escape")
    return canonical(path), query


def canonical(path: str) -> Path:
    """Return ``path``, which begins with a slash, in its one spelling.

    Raises:
        Refused: 400, it can be read in more than one way.
    """
    if _PLAIN.fullmatch(path):
        return Path(path, tuple(path[1:].split("/")))
    if "#" in path or not path.isascii() or not _ESCAPE_OR_PLAIN.fullmatch(path):
        raise _bad("it holds characters that need an escape, or half an escape")
    segments = tuple(_segment(raw) for raw in path[1:].split("/"))
    if any(segment in {".", ".."} for segment in segments):
        raise _bad("it holds a dot segment")
    if "" in segments[:-1]:
        raise _bad("it holds an empty segment")
    return Path("/" + "/".join(quote(segment, safe=_SAFE) for segment in segments), segments)


def without(query: str, name: str) -> tuple[str, str | None]:
    """Return ``query`` without the parameter ``name``, and that parameter's value if given.

    Everything else keeps its spelling and order. Of several values none counts: it is empty.
    """
    if not query:
        return query, None
    kept, found = [], None
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name or ("%" in key and unquote(key) == name):
            found = "" if found is not None else unquote(value)
        else:
            kept.append(part)
    return (query, None) if found is None else ("&".join(kept), found)


def _segment(raw: str) -> str:
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _bad("it holds an escape that is no UTF-8") from None
    if _FORBIDDEN.search(text):
        raise _bad("it holds an escaped slash, a backslash or a control character")
    if ";" in text:
        raise _bad("it holds a semicolon")
    if "%" in text and _ESCAPE.search(text):
        raise _bad("it holds an escape of an escape")
    return text


def _bad(why: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, f"The path is refused: {why}.")
