"""What a request of the admin API says: its body, its preconditions, its page."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError

from gateway.problem import Refused
from wherry.config.document import parsed
from wherry.errors import ConfigError
from wherry.model.resource import Strict
from wherry.pointer import pointer_of

MAX_PAGE = 1000
"""Most items of one page."""

PAGE = 100
"""Items of a page when the request does not say."""

MAX_TAGS = 1000
"""Most characters of ``If-Match`` or ``If-None-Match``."""

_NO_NAME = "Expected a query parameter once: "
_TAG = r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")'
_ETAG, _ETAGS = re.compile(_TAG), re.compile(rf"\s*{_TAG}(\s*,\s*{_TAG})*\s*")

T = TypeVar("T")
S = TypeVar("S", bound=Strict)


async def document(request: web.Request) -> Mapping[str, object]:
    """Return the JSON object in the body.

    Raises:
        Refused: 415 for another type, 400 for no JSON, 422 for no object.
    """
    if request.content_type != "application/json":
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The body is not JSON: expected Content-Type application/json.",
        )
    body = await request.read()
    try:
        data = parsed(body.decode("utf-8"), most=max(len(body), 1))
    except UnicodeDecodeError:
        raise Refused(HTTPStatus.BAD_REQUEST, "The body is not UTF-8.") from None
    except ConfigError as error:
        [problem] = error.problems
        detail = f"The body is {problem.found}, expected {problem.expected}."
        raise Refused(HTTPStatus.BAD_REQUEST, detail) from None
    if not isinstance(data, dict):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is no JSON object.")
    return data


async def model(request: web.Request, form: type[S]) -> S:
    """Return the body as a ``form``.

    Raises:
        Refused: See `document`; 422 with each field that is wrong.
    """
    data = await document(request)
    try:
        return form.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        errors = [
            {"pointer": "#" + pointer_of(e["loc"]), "detail": e["msg"]}
            for e in error.errors(include_url=False, include_input=False)
        ]
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{len(errors)} fields of the body are wrong.",
            members={"errors": errors},
        ) from None


def query(request: web.Request, *names: str) -> Mapping[str, str]:
    """Return the query parameters.

    Raises:
        Refused: 400; one is not among ``names``, or stands twice.
    """
    for name in request.query:
        if name not in names:
            known = ", ".join(names) or "none"
            detail = f"Unknown query parameter {name[:40]!r}, expected one of: {known}."
            raise Refused(HTTPStatus.BAD_REQUEST, detail)
        if len(request.query.getall(name)) > 1:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{_NO_NAME}{name}.")
    return request.query


def flag(request: web.Request, name: str) -> bool:
    """Return a query parameter that is ``true`` or ``false``; absent is false.

    Raises:
        Refused: 400; it is something else.
    """
    return parameter(request, name, {"true": True, "false": False, None: False}.__getitem__)


def parameter(request: web.Request, name: str, read: Callable[[str | None], T]) -> T:
    """Return what ``read`` makes of a query parameter, None when it is absent.

    Raises:
        Refused: 400; ``read`` raised ValueError or KeyError.
    """
    text = request.query.get(name)
    try:
        return read(text)
    except (ValueError, KeyError):
        detail = f"Query parameter {name} is {str(text)[:40]!r}, which it cannot be."
        raise Refused(HTTPStatus.BAD_REQUEST, detail) from None


def number(least: int, most: int, default: int) -> Callable[[str | None], int]:
    """Return a reader for `parameter`: a number of ``least`` to ``most``."""

    def read(text: str | None) -> int:
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return read


def page(request: web.Request) -> tuple[str, int]:
    """Return after which name the page begins that is asked for, and its most items.

    Raises:
        Refused: 400; limit or cursor is none.
    """
    limit = parameter(request, "limit", number(1, MAX_PAGE, PAGE))
    return parameter(request, "cursor", _after), limit


def cut(items: Sequence[T], limit: int, name: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """Return the items of one page, and the cursor of the next; None when there is none.

    Args:
        items: From where the page begins; of a next page one item at least.
        limit: Most items of the page.
        name: Of an item.
    """
    shown = items[:limit]
    if len(items) <= limit:
        return shown, None
    return shown, urlsafe_b64encode(name(shown[-1]).encode()).decode().rstrip("=")


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,1400}", cursor, re.ASCII):
        raise ValueError(cursor)
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def etag(revision: int) -> str:
    """Return the entity tag of a revision."""
    return f'"{revision}"'


def matches(field: str, tag: str, *, weak: bool) -> bool:
    """Return whether ``If-Match`` or ``If-None-Match`` names ``tag``.

    Args:
        field: Its value.
        tag: Of what there is now; strong.
        weak: Whether weak tags count (``If-None-Match``) or not (``If-Match``).

    Raises:
        Refused: 400; the field is malformed.

    Source: RFC 9110 section 13.1
    """
    if field.strip() == "*":
        return True
    if len(field) > MAX_TAGS or not _ETAGS.fullmatch(field):
        detail = "A precondition is malformed: expected entity tags in quotes, or *."
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
    return any(each == tag and (weak or not w) for w, each in _ETAG.findall(field))


def expected(request: web.Request, revision: int, *, needed: bool) -> int | None:
    """Return the revision that a write expects, by ``If-Match`` and ``If-None-Match``.

    Args:
        request: Whose preconditions.
        revision: Of what there is now; 0: nothing.
        needed: Whether changing what exists needs a precondition.

    Raises:
        Refused: 412 for a precondition that does not hold, 428 for one that is missing.
    """
    match, none = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    exists, tag = revision > 0, etag(revision)
    held = match is None or (matches(match, tag, weak=False) and exists)
    if none is not None and matches(none, tag, weak=True) and exists:
        raise Refused(HTTPStatus.PRECONDITION_FAILED, "It exists.")
    if not held:
        raise Refused(HTTPStatus.PRECONDITION_FAILED, "It has changed since it was read.")
    if exists and needed and match is None:
        raise Refused(
            HTTPStatus.PRECONDITION_REQUIRED,
            "It exists: expected If-Match with the ETag that it was read with.",
        )
    return revision
