"""Health checks that access rules would refuse: each would take all of its programs out at once.

A checker's request reaches a program through its sidecar, where it is ruled as any other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wherry.config.guarded import asks
from wherry.model.access import (
    AuthorizationPolicy,
    AuthorizationRule,
    CheckMatch,
    CheckPolicy,
    Condition,
    Operation,
)
from wherry.model.health import HealthCheck, HttpCheck, statuses
from wherry.model.world import World

METHOD, AGENT, SOURCE = "GET", "Envoy/HC", "unknown"
"""What is known of a checker's request: it does not say which service calls."""

_FORBIDDEN = 403
_APP, _VERSION = "app", "version"


@dataclass(frozen=True, slots=True)
class _Probe:
    path: str
    host: str

    @property
    def headers(self) -> Mapping[str, str]:
        return {"user-agent": AGENT, ":method": METHOD}


def refusals(check: HealthCheck, world: World) -> Iterator[str]:
    """Yield what to say of each policy of ``world`` that refuses the requests of ``check``.

    Only checks over HTTP are requests that rules can read; where a refusal is what the check
    expects, nothing is yielded.
    """
    http, service = check.spec.http, world.services.get(check.spec.service)
    if http is None or service is None or _expects_refusal(http):
        return
    probe = _Probe(http.path.partition("?")[0], http.host or check.spec.service)
    found: dict[str, None] = {}
    for labels in _workloads(service.spec.selector, world):
        found |= dict.fromkeys(_unauthorized(probe, labels, world))
    for policy in world.check_policies.values():
        if service.spec.selector.get(_APP) in policy.spec.services and not _passes(policy, probe):
            found[f"CheckPolicy {policy.name!r}"] = None
    for product in asks(service.spec.selector.get(_APP, ""), probe.path, world):
        found[f"ApiProduct {product.name!r}"] = None
    for refusing in found:
        yield f"health check {check.name!r}: {refusing} refuses {METHOD} {http.path}"


def _expects_refusal(http: HttpCheck) -> bool:
    return any(first <= _FORBIDDEN <= last for first, last in map(statuses, http.expected_statuses))


def _workloads(selector: Mapping[str, str], world: World) -> Iterator[Mapping[str, str]]:
    """Yield the labels of every kind of workload behind a service that policies tell apart."""
    yield selector
    if _VERSION not in selector:
        labels = (p.spec.selector.match_labels for p in world.authorization_policies.values())
        for version in sorted({each[_VERSION] for each in labels if _VERSION in each}):
            yield {**selector, _VERSION: version}


def _unauthorized(probe: _Probe, labels: Mapping[str, str], world: World) -> Iterator[str]:
    policies = [
        policy
        for policy in world.authorization_policies.values()
        if policy.spec.selector.match_labels.items() <= labels.items()
    ]
    for policy in policies:
        if policy.spec.action == "DENY" and _says(policy, probe):
            yield f"AuthorizationPolicy {policy.name!r}"
    allowing = [policy for policy in policies if policy.spec.action == "ALLOW"]
    if allowing and not any(_says(policy, probe) for policy in allowing):
        yield f"AuthorizationPolicy {allowing[0].name!r}"


def _says(policy: AuthorizationPolicy, probe: _Probe) -> bool:
    return any(_rules(rule, probe) for rule in policy.spec.rules)


def _rules(rule: AuthorizationRule, probe: _Probe) -> bool:
    return all(_holds(each, probe) for each in rule.when) and (
        not rule.to or any(_is_of(to.operation, probe) for to in rule.to)
    )


def _is_of(operation: Operation, probe: _Probe) -> bool:
    def path(pattern: str) -> bool:
        return _match(pattern, probe.path)

    def method(pattern: str) -> bool:
        return _match(pattern, METHOD)

    def host(pattern: str) -> bool:
        return _is_host(pattern, probe.host)

    return (
        _fits(operation.paths, operation.not_paths, path)
        and _fits(operation.methods, operation.not_methods, method)
        and _fits(operation.hosts, operation.not_hosts, host)
    )


def _holds(condition: Condition, probe: _Probe) -> bool:
    name = condition.key.removeprefix("request.headers[").removesuffix("]").lower()
    value = probe.headers.get(name)

    def matches(pattern: str) -> bool:
        if name == "host":
            return _is_host(pattern, probe.host)
        return value is not None and _match(pattern, value)

    return _fits(condition.values, condition.not_values, matches)


def _fits(wanted: Sequence[str], unwanted: Sequence[str], matches: Callable[[str], bool]) -> bool:
    return (not wanted or any(map(matches, wanted))) and not any(map(matches, unwanted))


def _passes(policy: CheckPolicy, probe: _Probe) -> bool:
    for rule in policy.spec.rules:
        if _decides(rule.when, probe):
            return rule.action == "allow"
    return policy.spec.default == "allow"


def _decides(when: CheckMatch, probe: _Probe) -> bool:
    given = {name.lower(): patterns for name, patterns in when.headers.items()}
    return (
        _one_of(when.paths, probe.path)
        and _one_of(when.methods, METHOD)
        and _one_of(when.sources, SOURCE)
        and all(
            name in probe.headers and _one_of(patterns, probe.headers[name])
            for name, patterns in given.items()
        )
    )


def _one_of(patterns: Iterable[str], value: str) -> bool:
    given = list(patterns)
    return not given or any(_match(pattern, value) for pattern in given)


def _match(pattern: str, value: str) -> bool:
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value == pattern


def _is_host(pattern: str, host: str) -> bool:
    """Host names match in either case, and whatever port is written behind them."""
    if pattern.endswith("*"):
        return host.lower().startswith(pattern[:-1].lower())
    return _match(pattern.lower(), host.lower().partition(":")[0])
