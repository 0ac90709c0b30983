"""AuthorizationPolicy and CheckPolicy to what a sidecar's filters enforce.

Source: https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Policy,
    Principal,
    Rbac,
    RbacAction,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    CheckSettings,
    ExtAuthzPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher
from envoy_data_plane.google.protobuf import Any

from wherry.model.access import AuthorizationPolicy, AuthorizationRule, Condition, Operation
from wherry.model.world import World
from xds.builders.messages import Source, by_pattern, by_regex, packed

DENY = "envoy.filters.http.rbac.deny"
ALLOW = "envoy.filters.http.rbac.allow"
CHECK = "envoy.filters.http.ext_authz"
"""Names of the filters that a route's settings address."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What rules one workload.

    Attributes:
        service: Its ``app`` label.
        policies: The policies that select it, by name.
        checks: Names of the check policies for its service.
        products: Names of the API products that guard it.
    """

    service: str
    policies: tuple[AuthorizationPolicy, ...]
    checks: tuple[str, ...]
    products: tuple[str, ...] = ()

    def __hash__(self) -> int:
        names = (policy.name for policy in self.policies)
        return hash((self.service, *names, *self.checks, *self.products))

    @property
    def sources(self) -> frozenset[Source]:
        """Kind and name of all of them."""
        return frozenset(
            [("AuthorizationPolicy", policy.name) for policy in self.policies]
            + [("CheckPolicy", name) for name in self.checks]
            + [("ApiProduct", name) for name in self.products]
        )


def bound(world: World, labels: Mapping[str, str], guarded: Mapping[str, tuple[str, ...]]) -> Bound:
    """Return what rules a workload with these labels; ``guarded`` is `World.guarded`."""
    service = labels.get("app", "")
    selecting = [
        policy
        for policy in world.authorization_policies.values()
        if policy.spec.selector.match_labels.items() <= labels.items()
    ]
    checks = (c.name for c in world.check_policies.values() if service in c.spec.services)
    return Bound(
        service,
        tuple(sorted(selecting, key=lambda p: p.name)),
        tuple(sorted(checks)),
        guarded.get(service, ()),
    )


def filters(rules: Bound) -> dict[str, Any]:
    """Return the settings of the access filters by filter name.

    A filter that has no entry here lets everything pass.
    """
    settings: dict[str, Any] = {}
    denying = [p for p in rules.policies if p.spec.action == "DENY"]
    allowing = [p for p in rules.policies if p.spec.action == "ALLOW"]
    if any(policy.spec.rules for policy in denying):
        settings[DENY] = _rbac(RbacAction.DENY, denying)
    if allowing:
        settings[ALLOW] = _rbac(RbacAction.ALLOW, allowing)
    if rules.checks or rules.products:
        check = CheckSettings(context_extensions={"service": rules.service})
        settings[CHECK] = packed(ExtAuthzPerRoute(check_settings=check))
    return settings


def _rbac(action: RbacAction, policies: Sequence[AuthorizationPolicy]) -> Any:
    rules = {
        f"{policy.name}/{number}": Policy(
            permissions=[_permission(rule)], principals=[Principal(any=True)]
        )
        for policy in policies
        for number, rule in enumerate(policy.spec.rules)
    }
    return packed(RbacPerRoute(rbac=RbacFilter(rules=Rbac(action=action, policies=rules))))


def _permission(rule: AuthorizationRule) -> Permission:
    parts = [_condition(condition) for condition in rule.when]
    if rule.to:
        parts.append(_any_of(_operation(to.operation) for to in rule.to))
    return _all_of(parts)


def _operation(operation: Operation) -> Permission:
    parts = []
    for wanted, unwanted, match in (
        (operation.paths, operation.not_paths, _path),
        (operation.methods, operation.not_methods, _method),
        (operation.hosts, operation.not_hosts, _host),
    ):
        if wanted:
            parts.append(_any_of(map(match, wanted)))
        if unwanted:
            parts.append(Permission(not_rule=_any_of(map(match, unwanted))))
    return _all_of(parts)


def _condition(condition: Condition) -> Permission:
    name = condition.key.removeprefix("request.headers[").removesuffix("]")
    match = _host if name.lower() == "host" else partial(_header, name)
    parts = []
    if condition.values:
        parts.append(_any_of(map(match, condition.values)))
    if condition.not_values:
        unwanted = _any_of(map(match, condition.not_values))
        parts.append(Permission(not_rule=unwanted))
    return _all_of(parts)


def _path(pattern: str) -> Permission:
    return Permission(url_path=PathMatcher(path=by_pattern(pattern)))


def _method(pattern: str) -> Permission:
    return _header(":method", pattern)


def _host(pattern: str) -> Permission:
    """Host names match in either case, and whatever port the client wrote behind them."""
    if pattern.endswith("*"):
        return _header(":authority", pattern, ignore_case=True)
    host = re.escape(pattern.removeprefix("*"))
    rest = ".*" if pattern.startswith("*") else ""
    matcher = HeaderMatcher(name=":authority", string_match=by_regex(f"(?i){rest}{host}(:[0-9]*)?"))
    return Permission(header=matcher)


def _header(name: str, pattern: str, *, ignore_case: bool = False) -> Permission:
    match = by_pattern(pattern)
    if ignore_case and pattern != "*":
        match.ignore_case = True
    return Permission(header=HeaderMatcher(name=name, string_match=match))


def _all_of(parts: Iterable[Permission]) -> Permission:
    rules = list(parts)
    match rules:
        case []:
            return Permission(any=True)
        case [only]:
            return only
        case _:
            return Permission(and_rules=PermissionSet(rules=rules))


def _any_of(parts: Iterable[Permission]) -> Permission:
    rules = list(parts)
    return rules[0] if len(rules) == 1 else Permission(or_rules=PermissionSet(rules=rules))
