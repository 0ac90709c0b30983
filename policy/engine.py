"""Decide from the check policies of a `World`, without I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policy.decision import Decision, Verdict
from policy.path import normalised, spelled
from policy.pattern import Patterns
from wherry.model.access import CheckPolicy, CheckRule
from wherry.model.world import World

_VERDICT = {"allow": Verdict.ALLOW, "deny": Verdict.DENY}


@dataclass(frozen=True, slots=True)
class Check:
    """One request put to the engine.

    Attributes:
        service: The service that is called.
        source: The service or function that calls, ``unknown`` when it did not say.
        method: As sent; letters' case counts.
        path: Normalised, see `policy.path.normalised`.
        headers: By lower-case name; several values are joined by commas.
        target: Path and query as sent.
        host: As sent.
        address: IP address of the connection's other end; empty when Envoy did not say.
    """

    service: str
    source: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    host: str = ""
    address: str = ""

    @property
    def grpc(self) -> bool:
        """Whether the client expects an answer of gRPC, as Envoy finds it."""
        content_type = self.headers.get("content-type", "")
        return content_type == "application/grpc" or content_type.startswith("application/grpc+")


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    verdict: Verdict
    reason: str
    paths: Patterns | None
    methods: Patterns | None
    sources: Patterns | None
    headers: tuple[tuple[str, Patterns], ...]

    def match(self, check: Check) -> bool:
        return (
            (self.paths is None or self.paths.match(check.path))
            and (self.methods is None or self.methods.match(check.method))
            and (self.sources is None or self.sources.match(check.source))
            and all(self._holds(name, patterns, check) for name, patterns in self.headers)
        )

    def _holds(self, name: str, patterns: Patterns, check: Check) -> bool:
        """Return whether the header is there and right.

        A header sent several times arrives as one value with commas. A refusal holds when
        any part fits, so that a second value cannot hide the first; a permission holds only
        for the whole, so that a second value cannot be smuggled in.
        """
        if (value := check.headers.get(name)) is None:
            return False
        if patterns.match(value):
            return True
        if self.verdict is Verdict.ALLOW:
            return False
        return any(patterns.match(part.strip()) for part in value.split(","))


@dataclass(frozen=True, slots=True)
class _Policy:
    name: str
    default: Verdict
    rules: tuple[_Rule, ...]

    def decide(self, check: Check) -> Decision:
        for rule in self.rules:
            if rule.match(check):
                return Decision(rule.verdict, rule.id, rule.reason)
        reason = f"no rule of policy {self.name} matched, its default is {self.default}"
        return Decision(self.default, self.name, reason)


class Engine:
    """The check policies of one `World`, ready to decide. Immutable.

    Attributes:
        guarded: Services that API products guard; see `policy.admission`.
    """

    def __init__(
        self, by_service: Mapping[str, tuple[_Policy, ...]], guarded: Iterable[str] = ()
    ) -> None:
        self._by_service = by_service
        self.guarded = frozenset(guarded)

    @classmethod
    def of(cls, world: World) -> "Engine":
        """Prepare the check policies of ``world``."""
        guarded = world.guarded()
        known = (*world.services, *guarded)
        by_service: dict[str, tuple[_Policy, ...]] = dict.fromkeys(known, ())
        for name in sorted(world.check_policies):
            policy = world.check_policies[name]
            prepared = _prepared(policy)
            for service in dict.fromkeys(policy.spec.services):
                by_service[service] = (*by_service.get(service, ()), prepared)
        return cls(by_service, guarded)

    def decide(self, check: Check) -> Decision:
        """Return the decision and the rule that made it.

        Within a policy the first rule that matches decides, else its default. Between the
        policies of a service, in the order of their names, a refusal wins. The decision's
        rule is ``POLICY/RULE``; ``POLICY`` alone means that policy's default; empty means
        that no policy was asked. A service without policies allows, as it does when Envoy
        does not ask; a service that the configuration does not know refuses.
        """
        policies = self._by_service.get(check.service)
        if policies is None:
            return Decision(Verdict.DENY, "", f"service {check.service}: not in the configuration")
        decisions = [policy.decide(check) for policy in policies]
        return _strongest(decisions) or Decision(
            Verdict.ALLOW, "", f"service {check.service}: no policy names it"
        )


def _strongest(decisions: Iterable[Decision]) -> Decision | None:
    """Return the first refusal, else the first made by a rule, else the first."""

    def weakness(decision: Decision) -> tuple[bool, bool]:
        return decision.passes, "/" not in decision.rule

    return min(decisions, key=weakness, default=None)


def _prepared(policy: CheckPolicy) -> _Policy:
    rules = tuple(_rule(policy.name, rule) for rule in policy.spec.rules)
    return _Policy(policy.name, _VERDICT[policy.spec.default], rules)


def _rule(policy: str, rule: CheckRule) -> _Rule:
    rule_id = f"{policy}/{rule.name}"
    return _Rule(
        id=rule_id,
        verdict=_VERDICT[rule.action],
        reason=rule.reason or f"rule {rule_id} matched",
        paths=_patterns(map(_path_pattern, rule.when.paths)),
        methods=_patterns(rule.when.methods),
        sources=_patterns(rule.when.sources),
        headers=tuple((n.lower(), Patterns.of(p)) for n, p in rule.when.headers.items()),
    )


def _patterns(texts: Iterable[str]) -> Patterns | None:
    given = tuple(texts)
    return Patterns.of(given) if given else None


def _path_pattern(text: str) -> str:
    """Spell a path pattern as `normalised` spells paths; its star stays."""
    return spelled(text) if "*" in text else normalised(text)
