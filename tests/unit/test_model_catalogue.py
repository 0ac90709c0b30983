"""Products, plans, consumers and subscriptions in files: what is refused, and where."""

from pathlib import Path

import pytest

from wherry.config import assemble, load
from wherry.config.document import one_of
from wherry.errors import ConfigError

BASE = """\
services: {site: {run: [python, web.py]}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: gold}
spec:
  quotas: [{name: tokens, limit: 10, meter: tokens}]
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec:
  plans: [gold]
  traffic: {meters: [{meter: tokens, header: X-Tokens}]}
  routes:
  - {path: /x, to: {service: site}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: ann}
spec:
  apps: [{name: phone, identities: [{issuer: i, subject: s}]}]
  subscriptions: [{product: shop, plan: gold, ends: "2026-06-01"}]
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: later}
spec: {consumer: ann, product: shop, plan: gold, begins: "2026-06-01"}
"""


def refused(text):
    with pytest.raises(ConfigError) as caught:
        assemble({Path("a.yaml"): text})
    return str(caught.value).splitlines()


def changed(before, after):
    assert before in BASE
    return refused(BASE.replace(before, after))


def test_what_fits_together_is_taken():
    world = assemble({Path("a.yaml"): BASE})
    assert sorted(world.subscriptions) == ["later"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{service: site}", "{service: sites}", "a.yaml:16: no service 'sites', expected 'site'"),
        (
            "{service: site}",
            "{split: [{service: site}, {service: sites}]}",
            "a.yaml:16: no service 'sites', expected 'site'",
        ),
        (
            "{service: site}",
            "{service: site, mirror: {service: sites}}",
            "a.yaml:16: no service 'sites', expected 'site'",
        ),
        ("plans: [gold]", "plans: [gold, gild]", "a.yaml:13: no plan 'gild', expected 'gold'"),
        (
            "plans: [gold]",
            "plans: [gold]\n  authentication: [{type: anonymous, consumer: anna}]",
            "a.yaml:14: no consumer 'anna', expected 'ann'",
        ),
        (
            "{path: /x, ",
            "{path: /x, authentication: [{type: jwt, issuer: i, consumer: anna}], ",
            "a.yaml:16: no consumer 'anna', expected 'ann'",
        ),
        (
            "plans: [gold]",
            "plans: [gold]\n  openapi: none.yaml",
            "a.yaml:14: no file 'none.yaml', expected an OpenAPI document",
        ),
        (
            "{meters:",
            "{validate: {}, meters:",
            "a.yaml:14: validate in product 'shop', which has no OpenAPI document, "
            "expected openapi in the product's spec",
        ),
        (
            "plans: [gold]",
            "plans: [gold]\n  environments: [{name: a}, {name: b, hosts: [b.example]}, {name: c}]",
            "a.yaml:14: 'every other host' in environment 'c', as in 'a', "
            "expected each host in one environment",
        ),
        (
            "plans: [gold]",
            "plans: [gold]\n  environments: [{name: a}, {name: a, hosts: [b.example]}]",
            "a.yaml:14: environment 'a' a second time, expected each name once",
        ),
        (
            "plans: [gold]",
            "plans: [gold]\n  environments: [{name: a, to: {service: sites}}]",
            "a.yaml:14: no service 'sites', expected 'site'",
        ),
        (
            "meter: tokens}]",
            "meter: token}]",
            "a.yaml:7: no meter 'token', expected 'tokens'",
        ),
        (
            "  quotas:",
            "  price: {currency: EUR, usage: [{meter: cpu, model: perUnit, unit: '1'}]}\n  quotas:",
            "a.yaml:7: no meter 'cpu', expected one of requests, tokens",
        ),
        (
            "product: shop, plan: gold, begins",
            "product: shop, plan: gald, begins",
            "a.yaml:28: no plan 'gald', expected 'gold'",
        ),
        ("consumer: ann", "consumer: anne", "a.yaml:28: no consumer 'anne', expected 'ann'"),
        (
            "consumer: ann",
            "app: fone, consumer: ann",
            "a.yaml:28: no app of 'ann' named 'fone', expected one of default, phone",
        ),
        (
            'begins: "2026-06-01"',
            'begins: "2026-05-31"',
            "a.yaml:28: 'ann' subscribed to 'shop' more than once at a time, "
            "expected one to end before the next begins",
        ),
        (
            'ends: "2026-06-01"',
            'begins: "2026-06-01", ends: "2026-06-01"',
            "a.yaml:23: spec.subscriptions[0]: ends 2026-06-01, "
            "expected a day after it begins, 2026-06-01",
        ),
        (
            'ends: "2026-06-01"',
            'ends: "20260601"',
            "a.yaml:23: spec.subscriptions[0].ends: date '20260601', "
            "expected one like '2026-11-30'",
        ),
        (
            "apps: [",
            "apps: [{name: phone}, ",
            "a.yaml:22: app 'phone' a second time, expected each name once",
        ),
    ],
)
def test_what_leads_nowhere_is_refused_with_its_line_and_the_nearest_name(before, after, said):
    assert changed(before, after) == [said]


def test_a_subscription_that_is_not_active_may_wait_beside_another():
    text = BASE.replace('begins: "2026-06-01"', "state: pending")
    assert assemble({Path("a.yaml"): text}).subscriptions["later"].spec.state == "pending"


def test_a_meter_that_others_report_may_have_a_price():
    text = BASE.replace("plans: [gold]", "plans: [gold]\n  reported: [cpu]").replace(
        "  quotas:",
        "  price: {currency: EUR, usage: [{meter: cpu, model: perUnit, unit: '1'}]}\n  quotas:",
    )
    assert assemble({Path("a.yaml"): text}).plans["gold"].spec.price is not None


def test_a_token_stands_for_one_app():
    other = BASE.split("---")[3].replace("ann", "bob")
    [said] = refused(BASE + "---" + other)
    assert said == (
        "a.yaml:34: identity 's' of app 'phone' of 'bob', as of app 'phone' of 'ann', "
        "expected each for one app"
    )


GATEWAY = "apiVersion: wherry.dev/v1\nkind: ApiGateway\nmetadata: {name: %s}\nspec: %s\n"


def test_there_is_one_gateway_of_one_name():
    [said] = refused(GATEWAY % ("other", "{}"))
    assert said == "a.yaml:3: ApiGateway 'other', expected 'default': there is only one"


def test_an_environment_is_only_at_hosts_that_the_gateway_answers_for():
    hosts = GATEWAY % ("default", "{hosts: [api.example, '*.shop.example']}")
    good = BASE.replace(
        "plans: [gold]",
        "plans: [gold]\n  environments: [{name: a, hosts: [api.example, x.shop.example]}]",
    )
    assert assemble({Path("a.yaml"): good + "---\n" + hosts})
    bad = good.replace("x.shop.example", "shop.example")
    [said] = refused(bad + "---\n" + hosts)
    assert said.startswith("a.yaml:14: no host of the ApiGateway 'shop.example', expected")


def test_files_of_the_gateway_must_be_there(tmp_path):
    (tmp_path / "a.yaml").write_text(
        GATEWAY % ("default", "{tls: {certificate: c.pem, key: k.pem}}")
    )
    (tmp_path / "c.pem").touch()
    with pytest.raises(ConfigError, match=r"a.yaml:4: no file 'k.pem', expected a PEM file"):
        load(tmp_path)


def test_an_error_lists_only_so_many_names():
    names = [f"name-{n:03}" for n in range(100)]
    assert one_of(names, "other").endswith("name-039 and 60 more")
    assert one_of(names, "name-99") == "'name-099'"
