"""Kubernetes Gateway API: gateways and the routes attached to them or to services.

Source: https://gateway-api.sigs.k8s.io/reference/spec/ (v1)
"""

import re
import warnings
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wherry.model.resource import Duration, Name, Port, Resource, Strict

Hostname = Annotated[
    str, Field(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$", max_length=256)]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class Listener(Strict):
    """A port that a gateway opens, for one host name or all."""

    name: Name
    port: Port
    protocol: Literal["HTTP"] = "HTTP"
    hostname: Hostname | None = None


class GatewaySpec(Strict):
    """See `Gateway`."""

    gateway_class_name: Literal["wherry"]
    listeners: list[Listener] = Field(min_length=1, max_length=64)


class Gateway(Resource):
    """An Envoy at the edge of the mesh."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["Gateway"]
    spec: GatewaySpec


class ParentRef(Strict):
    """What a route is attached to: a `Gateway`, or a `Service` for calls inside the mesh."""

    group: Literal["gateway.networking.k8s.io", ""] = "gateway.networking.k8s.io"
    kind: Literal["Gateway", "Service"] = "Gateway"
    name: Name
    namespace: Literal["default"] = "default"
    section_name: Name | None = None
    port: Port | None = None


_NEVER_SEEN = re.compile(r"//|/\.\.?(/|$)|%2[fF]|[?#\\\s\x00-\x1f]")
"""What no path holds once an Envoy has made it plain."""

_NOT_RE2 = re.compile(r"\(\?(=|!|<=|<!|>|\(|P=|#|[aLux])|[*+?}]\+|\\[1-9Z]|\{[0-9,]*[0-9]{4}")
"""What Python reads in a regular expression and RE2 does not.

Source: https://github.com/google/re2/wiki/Syntax
"""


class _Pattern(Strict):
    """A value that is a regular expression if ``type`` says so."""

    type: str
    value: str

    @model_validator(mode="after")
    def _a_regular_expression_can_be_read(self) -> Self:
        if self.type == "RegularExpression":
            if beyond := _NOT_RE2.search(self.value.replace(r"\\", "")):
                raise ValueError(
                    f"regular expression {self.value!r}: {beyond[0]!r}, expected RE2 syntax"
                )
            try:
                with warnings.catch_warnings(action="ignore", category=FutureWarning):
                    re.compile(self.value)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(
                    f"regular expression {self.value!r}: {error}, expected RE2 syntax"
                ) from None
        return self


class PathMatch(_Pattern):
    """How a path must look; a prefix matches whole path segments."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = Field(default="/", min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _a_path_can_be_seen(self) -> Self:
        plain = self.value.startswith("/") and not _NEVER_SEEN.search(self.value)
        if self.type != "RegularExpression" and not plain:
            raise ValueError(
                f"path {self.value!r}, expected one that starts with '/' and holds no '//', "
                "'/./', '/../', '%2F', '?' or '#'"
            )
        return self


class HeaderMatch(_Pattern):
    """A header that must be there."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: str = Field(min_length=1, max_length=4096)


class QueryParamMatch(_Pattern):
    """A query parameter that must be there."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: str = Field(min_length=1, max_length=1024)


class Match(Strict):
    """Conditions that all hold."""

    path: PathMatch = PathMatch()
    headers: list[HeaderMatch] = Field(default=[], max_length=16)
    query_params: list[QueryParamMatch] = Field(default=[], max_length=16)
    method: Method | None = None


class HeaderValue(Strict):
    """A header to set or add."""

    name: HeaderName
    value: str = Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")


class HeaderModifier(Strict):
    """Changes to headers: ``set`` replaces, ``add`` appends, ``remove`` drops."""

    set: list[HeaderValue] = Field(default=[], max_length=16)
    add: list[HeaderValue] = Field(default=[], max_length=16)
    remove: list[HeaderName] = Field(default=[], max_length=16)

    @model_validator(mode="after")
    def _the_host_stays(self) -> Self:
        names = [*(value.name for value in (*self.set, *self.add)), *self.remove]
        if any(name.lower() == "host" for name in names):
            raise ValueError("header 'Host', expected another one: no Envoy changes it here")
        return self


class Filter(Strict):
    """A change to the request or the response on its way."""

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier"]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None


class BackendRef(Strict):
    """A service and its share of the requests.

    Attributes:
        weight: Share in proportion to the sum of the rule's weights; 0 sends nothing.
    """

    group: Literal[""] = ""
    kind: Literal["Service"] = "Service"
    name: Name
    namespace: Literal["default"] = "default"
    port: Port | None = None
    weight: int = Field(default=1, ge=0, le=1_000_000)


class Timeouts(Strict):
    """How long a request may take, whole and per try."""

    request: Duration | None = None
    backend_request: Duration | None = None


class Rule(Strict):
    """Requests that meet any of ``matches`` go to ``backend_refs``."""

    name: Name | None = None
    matches: list[Match] = Field(default=[Match()], min_length=1, max_length=64)
    filters: list[Filter] = Field(default=[], max_length=16)
    backend_refs: list[BackendRef] = Field(default=[], max_length=16)
    timeouts: Timeouts = Timeouts()


class HTTPRouteSpec(Strict):
    """See `HTTPRoute`."""

    parent_refs: list[ParentRef] = Field(min_length=1, max_length=32)
    hostnames: list[Hostname] = Field(default=[], max_length=16)
    rules: list[Rule] = Field(default=[Rule()], min_length=1, max_length=16)


class HTTPRoute(Resource):
    """Where requests go, by path, header, query and method, split by weight."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec
