"""Check policies decide as they are written, whatever the spelling of a request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import wire
from policy.decision import Decision, Verdict
from policy.engine import Check, Engine
from policy.path import normalised
from policy.tally import OVERFLOW, Tally
from wherry.model.access import CheckPolicy
from wherry.model.world import World

ALLOW, DENY = Verdict.ALLOW, Verdict.DENY


def policy(name, *rules, services=("web",), default="allow"):
    return CheckPolicy.model_validate(
        {
            "apiVersion": "wherry.dev/v1",
            "kind": "CheckPolicy",
            "metadata": {"name": name},
            "spec": {"services": list(services), "default": default, "rules": list(rules)},
        }
    )


def deny(name, reason="", **when):
    return {"name": name, "action": "deny", "reason": reason, "when": when}


def allow(name, reason="", **when):
    return {"name": name, "action": "allow", "reason": reason, "when": when}


def engine(*policies):
    return Engine.of(World(check_policies={p.name: p for p in policies}))


def ask(engine, *, service="web", source="unknown", method="GET", path="/", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return engine.decide(Check(service, source, method, normalised(path), headers))


def test_the_first_rule_that_matches_decides_and_names_itself():
    rules = engine(policy("p", allow("health", paths=["/health"]), deny("all", "closed")))
    assert ask(rules, path="/health") == Decision(ALLOW, "p/health", "rule p/health matched")
    assert ask(rules, path="/other") == Decision(DENY, "p/all", "closed")


def test_without_a_match_the_default_decides_under_the_name_of_the_policy():
    for default, verdict in (("allow", ALLOW), ("deny", DENY)):
        decision = ask(engine(policy("p", default=default)))
        assert (decision.verdict, decision.rule) == (verdict, "p")
        assert "no rule of policy p matched" in decision.reason


def test_a_refusal_of_any_policy_wins_over_a_permission_of_another():
    open_, closed = policy("a", allow("all")), policy("b", deny("bots", headers={"x-bot": ["*"]}))
    both = engine(open_, closed)
    assert ask(both, x_bot="1").rule == "b/bots"
    assert ask(both).rule == "a/all"
    assert ask(engine(open_, policy("c", default="deny"))).verdict is DENY


def test_a_rule_explains_a_permission_better_than_a_default():
    assert ask(engine(policy("a"), policy("b", allow("all")))).rule == "b/all"


def test_all_fields_of_a_rule_must_hold_and_any_value_of_a_field_will_do():
    rules = engine(
        policy("p", deny("r", methods=["PUT", "DELETE"], paths=["/a*"], sources=["web", "fn-*"]))
    )
    assert ask(rules, method="PUT", path="/ab", source="fn-x").verdict is DENY
    assert ask(rules, method="GET", path="/ab", source="fn-x").verdict is ALLOW
    assert ask(rules, method="PUT", path="/b", source="fn-x").verdict is ALLOW
    assert ask(rules, method="PUT", path="/ab", source="other").verdict is ALLOW


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("exact", ["exact"], ["exac", "exacts", "Exact"]),
        ("pre*", ["pre", "prefix"], ["apre"]),
        ("*fix", ["fix", "suffix"], ["fixes"]),
        ("*", ["", "anything"], []),
    ],
)
def test_patterns_are_exact_prefix_suffix_or_anything(pattern, fits, misses):
    rules = engine(policy("p", deny("r", headers={"X-Id": [pattern]})))
    assert all(ask(rules, x_id=value).verdict is DENY for value in fits)
    assert all(ask(rules, x_id=value).verdict is ALLOW for value in misses)
    assert ask(rules).verdict is ALLOW


def test_a_second_value_of_a_header_can_neither_hide_from_a_refusal_nor_earn_a_permission():
    refusing = engine(policy("p", deny("r", headers={"x-role": ["guest"]})))
    assert ask(refusing, x_role="guest,admin").verdict is DENY
    permitting = engine(policy("p", allow("r", headers={"x-role": ["admin"]}), default="deny"))
    assert ask(permitting, x_role="admin").verdict is ALLOW
    assert ask(permitting, x_role="guest,admin").verdict is DENY


def test_a_service_that_no_policy_names_is_open_and_one_that_nobody_knows_is_closed():
    rules = Engine.of(World(services={"plain": None}))
    assert ask(rules, service="plain") == Decision(ALLOW, "", "service plain: no policy names it")
    stranger = ask(rules, service="ghost")
    assert (stranger.verdict, stranger.rule) == (DENY, "")
    assert stranger.reason == "service ghost: not in the configuration"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/admin?x=/public", "/admin"),
        ("/public/../admin", "/admin"),
        ("/public/%2e%2E/admin", "/admin"),
        ("//admin", "/admin"),
        ("/./admin/", "/admin/"),
        ("/%61dmin", "/admin"),
        ("/public\\..\\admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/a%2fb", "/a%2Fb"),
        ("/%2561dmin", "/%2561dmin"),
        ("/é", "/%C3%A9"),
        ("/", "/"),
        ("*", "*"),
    ],
)
def test_a_path_has_one_spelling(target, path):
    assert normalised(target) == path


@given(st.text(st.sampled_from("/.%2eE5cfFaA\\?#é"), max_size=20).map("/".__add__))
def test_a_normalised_path_stays_as_it_is_and_holds_no_way_up(target):
    path = normalised(target)
    assert normalised(path) == path
    assert path.startswith("/")
    assert "//" not in path
    assert not {".", ".."} & set(path.split("/"))


def test_a_path_in_a_policy_is_spelled_like_the_paths_of_requests():
    rules = engine(
        policy("p", deny("exact", paths=["/caf\u00e9"]), deny("prefix", paths=["/%7eme*"]))
    )
    assert ask(rules, path="/caf%c3%a9").rule == "p/exact"
    assert ask(rules, path="/~me/x").rule == "p/prefix"


words = st.sampled_from(["/a", "/b", "/a*", "*b", "*"])
matches = st.fixed_dictionaries({}, optional={"paths": st.lists(words, min_size=1, max_size=2)})
rule_lists = st.lists(st.tuples(st.sampled_from(["allow", "deny"]), matches), max_size=4)


def naive(pattern, path):
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path.endswith(pattern[1:]) if pattern.startswith("*") else path == pattern


@given(
    st.lists(st.tuples(rule_lists, st.sampled_from(["allow", "deny"])), min_size=1, max_size=3),
    st.sampled_from(["/a", "/b", "/ab", "/c"]),
)
def test_the_engine_agrees_with_a_reading_of_the_rules_one_by_one(policies, path):
    built = engine(
        *(
            policy(
                f"p{i}",
                *({"name": f"r{j}", "action": a, "when": w} for j, (a, w) in enumerate(rules)),
                default=default,
            )
            for i, (rules, default) in enumerate(policies)
        )
    )

    def verdict(rules, default):
        for action, when in rules:
            if not when or any(naive(p, path) for p in when["paths"]):
                return action
        return default

    expected = "deny" if any(verdict(*p) == "deny" for p in policies) else "allow"
    assert ask(built, path=path).verdict == expected


def check_request(**http):
    http = {"method": "GET", "path": "/a/../b?q=1", **http}
    attributes = {"request": {"http": http}, "context_extensions": {"service": "web"}}
    return wire.MESSAGES["CheckRequest"](attributes=attributes)


def test_a_check_request_becomes_a_plain_value():
    headers = {"X-Wherry-Source": "fn-list", "x-a": "1"}
    check = wire.check(check_request(headers=headers).SerializeToString())
    lower = {"x-wherry-source": "fn-list", "x-a": "1"}
    assert check == Check("web", "fn-list", "GET", "/b", lower, target="/a/../b?q=1")


def test_raw_headers_are_read_too_and_repeated_ones_joined():
    pairs = [{"key": "X-A", "raw_value": b"1"}, {"key": "x-a", "raw_value": b"\xff"}]
    check = wire.check(check_request(header_map={"headers": pairs}).SerializeToString())
    assert (check.headers, check.source) == ({"x-a": "1,\ufffd"}, "unknown")


def test_the_service_may_come_as_grpc_metadata():
    request = check_request()
    request.attributes.context_extensions.clear()
    check = wire.check(request.SerializeToString(), [("x-wherry-service", "entries")])
    assert check.service == "entries"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"\xff", "1 bytes that do not parse, expected protobuf"),
        (b"", "no service, expected context_extensions"),
        (check_request(method="").SerializeToString(), "expected method and path"),
        (check_request(path="").SerializeToString(), "expected method and path"),
    ],
)
def test_a_check_that_cannot_be_read_is_refused_with_a_reason(request_, message):
    with pytest.raises(wire.MalformedCheck, match=message):
        wire.check(request_)


def test_a_refusal_tells_the_caller_why():
    raw = wire.response(Decision(DENY, "p/r", 'no "bots"'))
    answer = wire.MESSAGES["CheckResponse"].FromString(raw)
    assert answer.status.code == 7
    assert answer.denied_response.status.code == 403
    [header] = [option.header for option in answer.denied_response.headers]
    assert (header.key, header.value) == ("content-type", "application/problem+json")
    assert json.loads(answer.denied_response.body) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": 'no "bots"',
        "rule": "p/r",
    }


def test_a_permission_and_a_shadowed_refusal_change_nothing_about_the_request():
    for decision in (Decision(ALLOW, "p/r", ""), Decision(DENY, "p/r", "", shadow=True)):
        answer = wire.MESSAGES["CheckResponse"].FromString(wire.response(decision))
        assert answer.status.code == 0
        assert answer.WhichOneof("http_response") == "ok_response"


def test_the_tally_counts_rules_apart_up_to_its_limit():
    tally = Tally(max_rules=1)
    for rule in ("a/1", "a/1", "a/2", "a/3"):
        tally.add(Decision(DENY, rule, ""))
    assert tally.collect() == {("a/1", DENY): 2, (OVERFLOW, DENY): 2}
