"""How programs are asked whether they are well."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from wherry.model.resource import Duration, Name, Resource, Strict, seconds

SHORTEST, LONGEST = 0.1, 3600.0
"""Seconds that an interval or a timeout may be."""

_PATH = re.compile(r"/[!-~]*")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def statuses(text: str) -> tuple[int, int]:
    """Return the first and the last status of ``204`` or ``200-299``.

    Raises:
        ValueError: The text is neither.
    """
    found = _STATUSES.fullmatch(text)
    if found is None:
        raise ValueError(f"status {text!r}, expected one like '204' or a range like '200-299'")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"status {text!r}, expected the lower one first")
    return first, last


def _some_statuses(text: str) -> str:
    statuses(text)
    return text


def _as_text(given: object) -> object:
    return str(given) if type(given) is int else given


def _in_bounds(text: str) -> str:
    if not SHORTEST <= seconds(text) <= LONGEST:
        raise ValueError(f"{text!r}, expected 100ms to 1h")
    return text


def _a_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f"{text!r}, expected a path like '/healthz'")
    return text


HealthPath = Annotated[str, Field(max_length=1024), AfterValidator(_a_path)]
"""What is asked for; visible ASCII, a query may follow."""

_Statuses = Annotated[str, BeforeValidator(_as_text), AfterValidator(_some_statuses)]
_Pause = Annotated[Duration, AfterValidator(_in_bounds)]


class HttpCheck(Strict):
    """A GET request that must be answered with a good status.

    Attributes:
        host: Host header; None is the name of the service.
        expected_statuses: Each ``204`` or ``200-299``; none given is 200.
    """

    path: HealthPath
    host: str | None = Field(
        default=None, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$", max_length=253
    )
    expected_statuses: list[_Statuses] = Field(default=[], max_length=64)


class GrpcCheck(Strict):
    """A call of gRPC's health service that must say SERVING.

    Attributes:
        service: What is asked about; empty is the program as a whole.
    """

    service: str = Field(default="", pattern=r"^[!-~]*$", max_length=253)


class TcpCheck(Strict):
    """A connection that must be accepted."""


class HealthCheckSpec(Strict):
    """See `HealthCheck`; one of ``http``, ``grpc`` and ``tcp``.

    Attributes:
        interval: Between two checks of a program.
        timeout: Longest that one may take.
        unhealthy_threshold: So many failures in a row, and it gets no more requests.
        healthy_threshold: So many successes in a row, and it gets some again.
    """

    service: Name
    http: HttpCheck | None = None
    grpc: GrpcCheck | None = None
    tcp: TcpCheck | None = None
    interval: _Pause = "5s"
    timeout: _Pause = "1s"
    unhealthy_threshold: int = Field(default=2, ge=1, le=100)
    healthy_threshold: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [way for way in ("http", "grpc", "tcp") if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'none'}, expected one of http, grpc, tcp")
        return self


class HealthCheck(Resource):
    """Envoys of the house look after each program behind a service; a bad one gets no requests."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["HealthCheck"]
    spec: HealthCheckSpec
