"""Plans in words, what may be tried, and who has which subscription."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.portal.authentication import KeyPlace, key_place, methods_of, ways
from gateway.portal.prices import costs, headline, limits
from gateway.portal.relay import MAX_BODY, Call, Unusable
from gateway.portal.subscribed import Index, held_on
from wherry.config import assemble
from wherry.model.plan import PlanSpec
from wherry.model.product import ApiProductSpec

NO_HOSTS: frozenset[str] = frozenset()


def _plan(**given) -> PlanSpec:
    return PlanSpec.model_validate(given)


def test_limits_are_said_in_words():
    plan = _plan(
        rate={"requests": 1200, "per": "1m"},
        spike={"requests": 5, "per": "1s"},
        quotas=[
            {"name": "m", "limit": 1000, "window": "month"},
            {"name": "h", "limit": 5, "window": "hour", "meter": "output_tokens", "per": "all"},
            {"name": "a", "limit": 7, "window": "anchored", "every": "36h", "per": "operation"},
        ],
        concurrency={"calls": 3},
    )
    assert list(limits(plan)) == [
        "1,200 requests per minute",
        "evenly, at most 5 per second",
        "1,000 requests a month",
        "5 output tokens an hour across all products",
        "7 requests each 36h for each operation",
        "3 at the same time",
    ]
    assert list(limits(_plan())) == ["no limit"]


def test_prices_are_said_in_words():
    plan = _plan(
        price={
            "currency": "EUR",
            "setup": "5",
            "recurring": {"amount": "19.00"},
            "trial_days": 14,
            "minimum": "25",
            "prepaid": True,
            "usage": [
                {"model": "perUnit", "included": 1000, "unit": "0.002"},
                {"meter": "tokens", "model": "graduated",
                 "tiers": [{"up_to": 100, "unit": "0.1"}, {"unit": "0.05", "flat": "1"}]},
                {"meter": "bytes", "model": "bundle", "size": 10, "amount": "1", "overage": "0.2"},
                {"meter": "pages", "model": "flat", "amount": "3"},
                {"meter": "seconds", "model": "volume", "tiers": [{"unit": "0.1"}]},
            ],
        }
    )  # fmt: skip
    assert headline(plan) == "19.00 EUR a month"
    assert list(costs(plan)) == [
        "the first 14 days cost nothing",
        "5 EUR once, to begin",
        "1,000 requests included, then 0.002 EUR per request",
        "0.1 EUR per tokens up to 100, 1 EUR and 0.05 EUR per tokens from there on",
        "1 EUR for 10 bytes, 0.2 EUR per bytes beyond",
        "3 EUR a month for pages",
        "all seconds at the price of the last one reached: 0.1 EUR per seconds from there on",
        "at least 25 EUR a month",
        "prepaid: calls stop when the credit is used up",
    ]
    assert headline(_plan()) == "Free"


def _given(**change):
    call = {"method": "GET", "path": "/books?limit=2", "headers": [["x-api-key", "k"]]}
    return call | change


def test_a_call_is_what_the_form_says():
    call = Call.read(_given(body="{}", host="eu.example.com"), frozenset({"eu.example.com"}))
    assert (call.method, call.path, call.body) == ("GET", "/books?limit=2", "{}")
    assert call.headers == [("x-api-key", "k")]


@pytest.mark.parametrize(
    "change",
    [
        {"method": "CONNECT"},
        {"method": "GET\r\nX: y"},
        {"method": None},
        {"path": "http://127.0.0.1:8001/v1/tokens"},
        {"path": "//127.0.0.1:8001/"},
        {"path": "@127.0.0.1:8001/"},
        {"path": "/a b"},
        {"path": "/a\r\nHost: x"},
        {"path": "/ü"},
        {"path": "/a#b"},
        {"path": "/" + "a" * 9000},
        {"headers": [["Host", "admin"]]},
        {"headers": [["Transfer-Encoding", "chunked"]]},
        {"headers": [["X-Forwarded-For", "10.0.0.1"]]},
        {"headers": [["x", "a\r\ny: b"]]},
        {"headers": [["x y", "a"]]},
        {"headers": [["x", 1]]},
        {"headers": [["x", "1"]] * 33},
        {"headers": {}},
        {"body": "x" * (MAX_BODY + 1)},
        {"body": 3},
        {"body": "\ud800"},
        {"host": "elsewhere.example.com"},
    ],
)
def test_a_call_that_could_be_another_is_refused(change):
    with pytest.raises(Unusable):
        Call.read(_given(**change), NO_HOSTS)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["method", "path", "headers", "body", "host"]), x)))  # fmt: skip
def test_nothing_that_is_sent_makes_it_fail(given):
    with pytest.raises(Unusable):
        Call.read(given, NO_HOSTS)


WORLD = """\
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: books}
spec: {plans: [free, paid], routes: [{path: /b, to: {mock: {status: 204}}}]}
---
{apiVersion: wherry.dev/v1, kind: Plan, metadata: {name: free}}
---
{apiVersion: wherry.dev/v1, kind: Plan, metadata: {name: paid}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: ada}
"""


def _subscription(name: str, **spec: str) -> str:
    listed = ", ".join(f"{key}: {value}" for key, value in spec.items())
    return (
        "---\n{apiVersion: wherry.dev/v1, kind: Subscription, "
        f"metadata: {{name: {name}}}, spec: {{consumer: ada, product: books, {listed}}}}}\n"
    )


def test_the_subscription_that_counts_is_the_one_that_is_shown(tmp_path):
    text = (
        WORLD
        + _subscription("old", plan="free", begins="'2026-01-01'", ends="'2026-11-23'")
        + _subscription("new", plan="paid", begins="'2026-11-23'")
        + _subscription("asked", plan="free", state="pending", begins="'2026-11-23'")
    )
    world = assemble({tmp_path / "w.yaml": text})
    index = Index()
    held = held_on(index.of(world, "ada"), "2026-11-23")
    assert (held["books"].plan, held["books"].name) == ("paid", "new")
    assert not held_on(index.of(world, "eve"), "2026-11-23")
    without = assemble({tmp_path / "w.yaml": WORLD})
    assert not index.of(without, "ada"), "another World, another index"


def _spec(*methods: dict[str, object]) -> ApiProductSpec:
    routes = [{"path": "/b", "to": {"mock": {"status": 204}}}]
    given = {"plans": ["free"], "routes": routes, "authentication": list(methods)}
    return ApiProductSpec.model_validate(given)


@pytest.mark.parametrize(
    ("method", "place", "said"),
    [
        ({"type": "apiKey"}, KeyPlace("header", "x-api-key"), "`x-api-key` or the parameter"),
        ({"type": "apiKey", "header": None}, KeyPlace("query", "apikey"), "parameter `apikey`"),
        ({"type": "basic"}, KeyPlace("basic", "Authorization"), "HTTP Basic"),
        ({"type": "oauth2"}, None, "http://gate/.wherry/oauth2/token"),
        ({"type": "jwt", "issuer": "https://id"}, None, "`https://id`"),
        ({"type": "hmac"}, None, "RFC 9421"),
        ({"type": "mtls"}, None, "certificate"),
        ({"type": "anonymous", "consumer": "all"}, None, "everyone"),
    ],
)
def test_each_way_to_say_who_calls_is_explained(method, place, said):
    spec = _spec(method)
    assert key_place(methods_of(spec, "GET", "/b")) == place
    [way] = ways(spec, "http://gate")
    assert said in way


def test_a_route_says_it_otherwise_than_its_product():
    routes = [
        {"path": "/a/{x+}", "methods": ["POST"], "to": {"mock": {"status": 204}},
         "authentication": [{"type": "basic"}]},
        {"path": "/a/{x+}", "to": {"mock": {"status": 204}}},
    ]  # fmt: skip
    spec = ApiProductSpec.model_validate({"plans": ["free"], "routes": routes})
    assert key_place(methods_of(spec, "POST", "/a/{x}")) == KeyPlace("basic", "Authorization")
    assert key_place(methods_of(spec, "GET", "/a/{x}")) == KeyPlace("header", "x-api-key")
    assert key_place(methods_of(spec, "GET", "/b")) == KeyPlace("header", "x-api-key")
