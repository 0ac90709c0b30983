"""Errors of what the admin API calls, as problems for its clients."""

from http import HTTPStatus

from aiohttp import web

from gateway.admin import tokens
from gateway.problem import Refused, out_of_capacity
from wherry.config.stored import Absent, Busy, Declared
from wherry.errors import ConfigError, Problem, WherryError
from wherry.store import Conflict, StoreFailed, TooLarge

MAX_ERRORS = 100
"""Most problems that one answer lists."""

_STATUS: dict[type[WherryError], HTTPStatus] = {
    Absent: HTTPStatus.NOT_FOUND,
    tokens.NoSuchToken: HTTPStatus.NOT_FOUND,
    Declared: HTTPStatus.CONFLICT,
    tokens.NameTaken: HTTPStatus.CONFLICT,
    tokens.LastOwner: HTTPStatus.CONFLICT,
    tokens.TooMany: HTTPStatus.CONFLICT,
    tokens.BadName: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def refused(error: WherryError) -> Refused | None:
    """Return the refusal that ``error`` is, or None: it is nobody's fault but ours."""
    match error:
        case Refused():
            return error
        case ConfigError():
            return _wrong(error)
        case Conflict():
            detail = "It has changed since it was read."
            return Refused(HTTPStatus.PRECONDITION_FAILED, detail)
        case Busy():
            return out_of_capacity("Others are changing the catalogue; try again.")
        case StoreFailed():
            return out_of_capacity("The store cannot be reached.", retry_after=5)
        case _:
            status = _STATUS.get(type(error))
            return None if status is None else Refused(status, f"{error}.")


def of_aiohttp(error: web.HTTPException) -> Refused:
    """Return the refusal of what aiohttp itself does not take."""
    status = HTTPStatus(error.status)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    told = {
        HTTPStatus.NOT_FOUND: "There is no such path; GET /openapi.json lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: "The path has no such method.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    }
    text = (error.text or status.phrase).strip()
    return Refused(status, told.get(status, text), headers=headers)


def _wrong(error: ConfigError) -> Refused:
    problems = error.problems
    one = len(problems) == 1
    many = f"{len(problems)} things are wrong: first {problems[0]}."
    members: dict[str, object] = {"errors": [_error(each) for each in problems[:MAX_ERRORS]]}
    detail = f"{problems[0].found}, expected {problems[0].expected}." if one else many
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail, members=members)


def _error(problem: Problem) -> dict[str, object]:
    """Tell a problem by its place: a pointer in a stored resource, or a line of a file."""
    file, hash_, pointer = problem.file.partition("#")
    told: dict[str, object] = {
        "detail": f"{problem.found}, expected {problem.expected}",
        "found": problem.found,
        "expected": problem.expected,
    }
    if file.startswith("store:"):
        told["resource"] = file.removeprefix("store:")
        if hash_:
            told["pointer"] = f"#{pointer}"
    else:
        told |= {"file": file, "line": problem.line}
    return told
