"""JSON bodies: read without ambiguity, places in them, and written again.

Source: RFC 8259, RFC 6901
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from gateway.call import Fields
from gateway.traffic.wrong import WrongPolicy
from wherry.pointer import steps_of

MAX_DEPTH = 128
"""Most objects and lists inside each other."""

_JSON_TYPE = re.compile(r"\s*application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


class BadJson(ValueError):
    """A body is no JSON, or JSON that two readers could read differently."""


def is_json(headers: Fields) -> bool:
    """Return whether a message says that its body is JSON, as it stands."""
    coded = headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
    return not coded and _JSON_TYPE.match(headers.get("Content-Type", "")) is not None


def loads(body: bytes) -> Any:
    """Return the value of a JSON text.

    Numbers without a point stay exact; others become doubles, as RFC 8259 section 6 expects.

    Raises:
        BadJson: It is no UTF-8, no JSON, nested too deep, names a member twice, or has a
            number that no double can hold.
    """
    try:
        value = _DECODER.decode(body.decode())
    except BadJson:
        raise
    except UnicodeDecodeError:
        raise BadJson("it is no UTF-8") from None
    except RecursionError:
        raise BadJson(f"it nests deeper than {MAX_DEPTH}") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"no JSON at byte {error.pos}") from None
    except ValueError:
        raise BadJson("it has a number of too many digits") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise BadJson(f"it nests deeper than {MAX_DEPTH}")
    return value


def dumps(value: Any) -> bytes:
    """Return the shortest text of ``value``, in ASCII."""
    return _ENCODER.encode(value).encode()


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) != len(members):
        raise BadJson("an object names a member twice")
    return made


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BadJson("it has a number that no double can hold")
    return number


def _constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_constant=_constant
)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _deeper(value: Any, most: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def tokens(pointer: str) -> tuple[str, ...]:
    """Return the steps of a pointer, which begins with a slash.

    Raises:
        WrongPolicy: It has a ``~`` that stands for nothing.
    """
    if _BAD_ESCAPE.search(pointer):
        raise WrongPolicy(f"place {pointer!r}: '~' alone", "'~0' for '~' and '~1' for '/'")
    return steps_of(pointer)


def find(value: Any, steps: Sequence[str]) -> tuple[bool, Any]:
    """Return whether there is something at a place, and what."""
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and (place := index(value, step)) is not None:
            value = value[place]
        else:
            return False, None
    return True, value


def index(items: list[Any], step: str) -> int | None:
    """Return the place that ``step`` names in ``items``, or None: it is no index, or beyond."""
    if not _INDEX.fullmatch(step) or int(step) >= len(items):
        return None
    return int(step)
