"""The catalogue: which route a request gets, in which environment, under which plan."""

from pathlib import Path as File

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.catalogue import Catalogue, Route, TemplateError, WrongMethod
from gateway.catalogue.contracts import Contracts
from gateway.host import called
from gateway.path import canonical
from gateway.problem import Refused
from gateway.trace import carried_on
from wherry.config import assemble

DAY = 86_400 * 10**9
HOSTS = ["a.test", "b.test", "a.b.test", "x.a.b.test", "other"]


def plan(name="p"):
    return {"kind": "Plan", "metadata": {"name": name}}


def product(name, *routes, **spec):
    routes = routes or ({"path": "/{rest+}", "to": {"url": f"http://{name}.test"}},)
    spec = {"plans": ["p"], "routes": list(routes), **spec}
    return {"kind": "ApiProduct", "metadata": {"name": name}, "spec": spec}


def world(*documents):
    shown = [
        each if "kind" not in each else {"apiVersion": "wherry.dev/v1", **each}
        for each in documents
    ]
    text = yaml.safe_dump_all(shown)
    return assemble({File("w.yaml"): text})


def compiled(*documents):
    return Catalogue.of(world(plan(), *documents))


def found(catalogue, host="", path="/x", method="GET", **headers):
    match catalogue.match(method, canonical(path), host, CIMultiDict(headers)):
        case Route() as route:
            return f"{route.product}/{route.environment}"
        case WrongMethod() as wrong:
            return wrong.allowed
        case None:
            return None


# Hosts and environments


def test_an_environment_with_a_host_beats_wildcards_and_those_beat_none():
    table = compiled(
        product(
            "one",
            environments=[
                {"name": "exact", "hosts": ["a.b.test"]},
                {"name": "long", "hosts": ["*.b.test"]},
                {"name": "short", "hosts": ["*.test"]},
                {"name": "rest"},
            ],
        )
    )
    assert found(table, "a.b.test") == "one/exact"
    assert found(table, "c.b.test") == "one/long"
    assert found(table, "x.a.b.test") == "one/long"
    assert found(table, "b.test") == "one/short"
    assert found(table, "test") == "one/rest"
    assert found(table) == "one/rest"


def test_a_host_of_one_product_leaves_the_paths_that_it_has_not_to_the_others():
    one = product("one", {"path": "/one", "to": {"url": "http://u"}}, environments=[
        {"name": "live", "hosts": ["a.test"]}
    ])  # fmt: skip
    table = compiled(one, product("two"))
    assert found(table, "a.test", "/one") == "one/live"
    assert found(table, "a.test", "/two") == "two/default"
    assert found(table, "b.test", "/one") == "two/default"


def test_an_environment_takes_the_place_of_targets_of_its_kind_only():
    routes = (
        {"path": "/service", "to": {"service": "shop", "rewrite": "/kept"}},
        {"path": "/url", "to": {"url": "http://up"}},
    )
    places = [{"name": "try", "to": {"service": "trial"}}]
    documents = [product("one", *routes, environments=places)]
    table = compiled(*documents, {"services": {"shop": {}, "trial": {}}})
    (service,) = table.match("GET", canonical("/service")).target.upstreams
    (url,) = table.match("GET", canonical("/url")).target.upstreams
    assert (service.service, service.rewrite) == ("trial", "/kept")
    assert url.origin.host == "up"


@given(
    environments=st.dictionaries(
        st.sampled_from(["one", "two", "three"]),
        st.lists(st.sampled_from([*HOSTS, "*.test", "*.b.test"]), unique=True),
    ),
    host=st.sampled_from(HOSTS),
)
def test_a_request_goes_to_the_closest_environment_of_any_product(environments, host):
    table = compiled(
        *[
            product(name, environments=[{"name": "e", "hosts": hosts}])
            for name, hosts in environments.items()
        ]
    )

    def closeness(hosts):
        if not hosts:
            return 0
        fitting = [
            1000 if each == host else len(each)
            for each in hosts
            if each == host or (each.startswith("*.") and host.endswith(each[1:]))
        ]
        return max(fitting, default=-1)

    best = sorted((-closeness(hosts), name) for name, hosts in environments.items())
    expected = None if not best or best[0][0] > 0 else f"{best[0][1]}/e"
    assert found(table, host) == expected


def test_the_gateways_own_hosts_are_names_and_wildcards():
    spec = {"hosts": ["api.test", "*.try.test"]}
    gateway = {"kind": "ApiGateway", "metadata": {"name": "default"}, "spec": spec}
    table = compiled(gateway)
    for host, has in (("api.test", 1), ("a.try.test", 1), ("a.b.try.test", 1), ("try.test", 0)):
        assert table.answers_for(host) is bool(has)
    assert compiled().answers_for("anything")


# Headers, policies, targets


def test_more_headers_beat_fewer_and_a_header_without_a_value_is_any():
    def route(operation, headers):
        to = {"url": "http://u"}
        return {"path": "/x", "operation": operation, "headers": headers, "to": to}

    table = compiled(
        product(
            "one",
            route("plain", []),
            route("any", [{"name": "X-A"}]),
            route("both", [{"name": "X-A", "value": "1"}, {"name": "X-B"}]),
        )
    )

    def operation(**headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return table.match("GET", canonical("/x"), "", CIMultiDict(named)).operation

    assert operation() == "plain"
    assert operation(x_a="2") == "any"
    assert operation(x_a="1", x_b="") == "both"
    assert operation(x_a="2", x_b="") == "any"


def test_a_route_takes_the_products_policies_but_those_it_gives_itself():
    to = {"url": "http://u"}
    given = {"maintenance": {"message": "own"}}
    table = compiled(
        product(
            "one",
            {"path": "/own", "to": to, "traffic": given},
            {"path": "/none", "to": to, "traffic": {"breaker": None}},
            traffic={"maintenance": {"message": "shared"}, "breaker": {"failures": 3}},
        )
    )
    own = table.match("GET", canonical("/own")).policies
    none = table.match("GET", canonical("/none")).policies
    assert (own.closed.message, own.breaker.failures) == ("own", 3)
    assert (none.closed.message, none.breaker) == ("shared", None)


@pytest.mark.parametrize(
    ("url", "authority", "base"),
    [
        ("http://up", "up", ""),
        ("https://up:8443/v1/", "up:8443", "/v1"),
        ("http://[::1]:80/a/b", "[::1]", "/a/b"),
    ],
)
def test_a_url_says_whom_to_call_and_what_stands_before_each_path(url, authority, base):
    table = compiled(product("one", {"path": "/x", "to": {"url": url}}))
    (upstream,) = table.match("GET", canonical("/x")).target.upstreams
    assert (upstream.origin.authority, upstream.origin.base) == (authority, base)


@pytest.mark.parametrize(
    "spec",
    [
        {"to": {"url": "http://user@up"}},
        {"to": {"url": "http://up?x"}},
        {"to": {"url": "http://up:99999"}},
        {"to": {"url": "http://up:0"}},
        {"to": {"url": "http://up%2f.evil"}},
        {"to": {"url": "http://up\0"}},
        {"to": {"url": "http://\u00e9.test"}},
        {"to": {"url": "http://up/a/../b"}},
        {"to": {"mock": {"status": 204, "text": "body"}}},
        {"to": {"url": "http://up"}, "traffic": {"cors": {"origins": ["nonsense"]}}},
        {
            "to": {"url": "http://up"},
            "traffic": {"transform": {"request": {"query": {"set": {"a": "${path.none}"}}}}},
        },
    ],
)
def test_what_cannot_be_used_is_refused_with_product_and_path(spec):
    with pytest.raises(TemplateError, match=r"product 'one' path '/x': .*, expected "):
        compiled(product("one", {"path": "/x", **spec}))


def test_a_products_end_is_said_in_its_answers():
    table = compiled(product("one", deprecated="2026-01-01", sunset="2026-12-31"))
    notices = dict(table.match("GET", canonical("/x")).notices)
    assert notices["Deprecation"] == "@1767225600"
    assert notices["Sunset"] == "Thu, 31 Dec 2026 00:00:00 GMT"


# Subscriptions


def test_days_of_a_subscription_begin_at_midnight_where_the_consumer_is():
    consumer = {
        "kind": "Consumer",
        "metadata": {"name": "c"},
        "spec": {
            "timezone": "Asia/Tokyo",
            "subscriptions": [
                {"product": "one", "plan": "p", "begins": "1970-01-02", "ends": "1970-01-03"}
            ],
        },
    }
    table = compiled(product("one"), consumer)
    early = 9 * 3600 * 10**9
    for at, has in ((DAY - early - 1, 0), (DAY - early, 1), (2 * DAY - early - 1, 1)):
        assert (table.terms("c", "default", "one", at) is not None) is bool(has)
    assert table.terms("c", "default", "one", 2 * DAY - early) is None


def test_an_apps_own_subscription_beats_its_owners_while_it_lasts():
    consumer = {
        "kind": "Consumer",
        "metadata": {"name": "c"},
        "spec": {
            "apps": [{"name": "site"}],
            "subscriptions": [{"product": "one", "plan": "p"}],
        },
    }
    own = {"consumer": "c", "app": "site", "product": "one", "plan": "q", "ends": "1970-01-02"}
    off = {"consumer": "c", "product": "one", "plan": "q", "state": "suspended"}
    documents = [plan("q"), product("one", plans=["p", "q"]), consumer]
    for name, spec in (("own", own), ("off", off)):
        documents.append({"kind": "Subscription", "metadata": {"name": name}, "spec": spec})
    table = compiled(*documents)
    assert table.terms("c", "site", "one", 0).plan == "q"
    assert table.terms("c", "site", "one", DAY).plan == "p"
    assert table.terms("c", "default", "one", 0).plan == "p"
    assert table.terms("d", "default", "one", 0) is None


def test_consumers_with_the_same_terms_share_what_was_prepared_for_them():
    consumers = [
        {
            "kind": "Consumer",
            "metadata": {"name": f"c{n}"},
            "spec": {"subscriptions": [{"product": "one", "plan": "p"}]},
        }
        for n in range(3)
    ]
    table = compiled(product("one"), *consumers)
    first, *others = (table.terms(f"c{n}", "default", "one", 0).allowance for n in range(3))
    assert all(other is first for other in others)


# Documents


def test_a_document_is_compiled_once_and_one_that_is_none_is_refused(tmp_path):
    openapi = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}}
    contracts = Contracts()
    made = world(plan(), product("one", openapi=openapi, traffic={"validate": {}}))
    assert contracts.of(made)["one"] is contracts.of(made)["one"]
    assert contracts.of(world(plan(), product("one", openapi=openapi))) == {}
    bad = world(plan(), product("one", openapi={"swagger": "2.0"}, traffic={"validate": {}}))
    with pytest.raises(TemplateError, match="product 'one' path 'openapi'"):
        contracts.of(bad)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("openapi: 3.1.0\nopenapi: 3.0.0\n", r"line 2: field 'openapi' a second time"),
        ("openapi: [\n", "no YAML"),
        ("a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(3)), "openapi"),
        ("a: &a {b: 1}\nc: !!python/object:os.system x\n", "expected"),
        (
            "x0: &x0 [1]\n"
            + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40)),
            "more than",
        ),
        ("[" * 5000, "nested deeper"),
        ("---\n1\n---\n2\n", "2 documents"),
        ("just text", "1 documents"),
    ],
)
def test_a_documents_file_is_read_as_strictly_as_the_configuration(tmp_path, text, why):
    (tmp_path / "api.yaml").write_text(text)
    shown = [plan(), product("one", openapi="api.yaml", traffic={"validate": {}})]
    shown = [{"apiVersion": "wherry.dev/v1", **each} for each in shown]
    made = assemble({tmp_path / "w.yaml": yaml.safe_dump_all(shown)})
    with pytest.raises(TemplateError, match=why) as error:
        Contracts().of(made)
    assert "product 'one' path 'api.yaml'" in str(error.value)


def test_a_url_with_a_password_is_refused_without_repeating_it():
    for url in ("https://user:s3cret@up", "https://:s3cret@up", "https://s3cret@up:x"):
        with pytest.raises(TemplateError) as error:
            compiled(product("one", {"path": "/x", "to": {"url": url}}))
        assert "s3cret" not in str(error.value)


# Hosts and traces of requests


@pytest.mark.parametrize(
    ("target", "hosts", "host"),
    [
        ("/", ["A.Test:80"], "a.test"),
        ("/", ["[::1]:80"], "[::1]"),
        ("/", ["a.test."], "a.test"),
        ("/", [""], ""),
        ("http://B.test:1/x", ["a.test"], "b.test"),
    ],
)
def test_the_host_of_a_request_has_one_spelling(target, hosts, host):
    headers = CIMultiDict([("Host", each) for each in hosts])
    assert called(target, headers, "HTTP/1.1").name == host


@pytest.mark.parametrize(
    "hosts", [[], ["a", "a"], ["a b"], ["a/b"], ["a@b"], ["a:b"], ["a:65536"], ["é"]]
)
def test_a_request_without_one_host_is_refused(hosts):
    with pytest.raises(Refused):
        called("/", CIMultiDict([("Host", each) for each in hosts]), "HTTP/1.1")


def test_a_trace_goes_on_and_what_is_none_is_begun_anew():
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = CIMultiDict({"traceparent": good, "tracestate": "a=1"})
    assert carried_on(headers, bytes) == good
    assert headers["tracestate"] == "a=1"
    for bad in ("", "00-" + "0" * 32 + "-b7ad6b7169203331-01", good + "x" * 600, good.upper()):
        headers = CIMultiDict({"traceparent": bad, "tracestate": "a=1"})
        begun = carried_on(headers, lambda count: bytes(range(count)))
        assert (
            headers["traceparent"]
            == begun
            == ("00-000102030405060708090a0b0c0d0e0f-1011121314151617-00")
        )
        assert "tracestate" not in headers
