"""Who may call what: Istio's AuthorizationPolicy, and the rules of Wherry's check service."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wherry.model.resource import Name, Resource, Strict
from wherry.model.route import HeaderName

Patterns = Annotated[list[str], Field(max_length=256)]
"""Exact values, ``prefix*``, ``*suffix`` or ``*``, as Istio writes them."""


class Operation(Strict):
    """What a request does; every field given must hold, any value of it will do."""

    hosts: Patterns = []
    not_hosts: Patterns = []
    paths: Patterns = []
    not_paths: Patterns = []
    methods: Patterns = []
    not_methods: Patterns = []


class To(Strict):
    """One alternative of a rule's ``to``."""

    operation: Operation


class Condition(Strict):
    """A request header's value.

    Attributes:
        key: ``request.headers[NAME]``; other keys of Istio need identities, which this
            version has not.
    """

    key: str = Field(pattern=r"^request\.headers\[[A-Za-z0-9-]+\]$")
    values: Patterns = []
    not_values: Patterns = []

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.values and not self.not_values:
            raise ValueError("condition: neither values nor notValues, expected at least one")
        return self


class AuthorizationRule(Strict):
    """A request matches when one of ``to`` and all of ``when`` hold."""

    to: list[To] = Field(default=[], max_length=64)
    when: list[Condition] = Field(default=[], max_length=64)


class Selector(Strict):
    """Workloads that have all these labels; none given selects every workload."""

    match_labels: dict[str, str] = {}


class AuthorizationPolicySpec(Strict):
    """See `AuthorizationPolicy`."""

    selector: Selector = Selector()
    action: Literal["ALLOW", "DENY"] = "ALLOW"
    rules: list[AuthorizationRule] = Field(default=[], max_length=512)


class AuthorizationPolicy(Resource):
    """Rules that the workload's own Envoy enforces.

    DENY goes first; where an ALLOW policy selects a workload, what none allows is refused;
    a policy without rules matches nothing, so that an empty ALLOW refuses all.

    Source: https://istio.io/latest/docs/reference/config/security/authorization-policy/
    """

    api_version: Literal["security.istio.io/v1"]
    kind: Literal["AuthorizationPolicy"]
    spec: AuthorizationPolicySpec


class CheckMatch(Strict):
    """What a request must show; every field given must hold, any value of it will do.

    Attributes:
        sources: Services or functions that call, as they name themselves.
        headers: By header name, case-insensitive; values as in `Patterns`.
    """

    paths: Patterns = []
    methods: Patterns = []
    sources: Patterns = []
    headers: dict[HeaderName, Annotated[Patterns, Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _the_host_is_no_header_here(self) -> Self:
        if any(name.lower() == "host" for name in self.headers):
            raise ValueError(
                "header 'host', expected another one: hosts are ruled by an AuthorizationPolicy"
            )
        return self


class CheckRule(Strict):
    """The first rule that matches decides.

    Attributes:
        reason: Told to the caller in the body of a refusal.
    """

    name: Name
    action: Literal["allow", "deny"]
    when: CheckMatch = CheckMatch()
    reason: str = Field(default="", max_length=256)


class CheckPolicySpec(Strict):
    """See `CheckPolicy`.

    Attributes:
        default: What happens when no rule matches.
    """

    services: list[Name] = Field(min_length=1, max_length=256)
    default: Literal["allow", "deny"] = "allow"
    rules: list[CheckRule] = Field(default=[], max_length=512)


class CheckPolicy(Resource):
    """Rules that the check service decides for requests to ``services``.

    Envoy asks over ext_authz and refuses when no answer comes.
    """

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["CheckPolicy"]
    spec: CheckPolicySpec
