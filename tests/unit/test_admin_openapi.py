"""The OpenAPI document of the admin API, over the endpoints of every part."""

import re

import jsonschema_rs
import pytest

import gateway.authn.endpoints
import gateway.billing.endpoints
import gateway.metering.endpoints
import gateway.traffic.endpoints
from gateway.admin import access, catalogue, openapi
from gateway.admin.endpoint import Endpoint, Role
from gateway.admin.page import POLICY, page
from wherry.clock import SystemClock
from wherry.config.stored import KINDS
from wherry.resources import Resources
from wherry.store.memory import MemoryStore

STORE, CLOCK = MemoryStore(), SystemClock()
EVERY = [
    *catalogue.endpoints(Resources(STORE, None)),
    *gateway.authn.endpoints.endpoints(STORE, b"", lambda: None, CLOCK),
    *gateway.metering.endpoints.endpoints(STORE, lambda: None, CLOCK),
    *gateway.billing.endpoints.endpoints(None),
    *gateway.traffic.endpoints.endpoints(STORE),
    *access.endpoints(STORE, b"", CLOCK),
]
DOCUMENT = openapi.document(EVERY, version="1")


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield f"{method} {path}", path, operation


def refs(value):
    match value:
        case {"$ref": str(ref)}:
            yield ref
        case dict():
            for inner in value.values():
                yield from refs(inner)
        case list():
            for inner in value:
                yield from refs(inner)


def test_no_two_operations_have_a_name_or_a_place_in_common():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names)) == len(EVERY)


def test_every_reference_leads_somewhere():
    for ref in set(refs(DOCUMENT)):
        found = DOCUMENT
        for step in ref.removeprefix("#/").split("/"):
            found = found[step]


def test_every_operation_says_what_it_does_and_which_parameters_it_has():
    for name, path, operation in operations():
        assert operation["summary"], name
        assert operation["tags"], name
        assert operation["responses"].keys() >= {"default"}, name
        given = [(p["in"], p["name"]) for p in operation.get("parameters", [])]
        assert len(given) == len(set(given)), name
        in_path = {each for place, each in given if place == "path"}
        assert in_path == set(re.findall(r"\{([^}]+)\}", path)), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_are_ones(kind):
    schema = {"$ref": f"#/components/schemas/{kind}", "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    named = {"apiVersion": "wherry.dev/v1", "kind": kind, "metadata": {"name": "x"}}
    assert not validator.is_valid(named | {"spec": {"none": 1}})
    assert not validator.is_valid({**named, "kind": "Pod"})


def test_amounts_and_dates_have_a_form():
    schema = {"$ref": "#/components/schemas/Plan", "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    plan = {"apiVersion": "wherry.dev/v1", "kind": "Plan", "metadata": {"name": "x"}}
    for price, good in (
        ({"currency": "EUR", "setup": "1.50"}, True),
        ({"currency": "euro"}, False),
    ):
        assert validator.is_valid(plan | {"spec": {"price": price}}) is good
    assert not validator.is_valid(plan | {"spec": {"price": {"currency": "EUR", "setup": "-1"}}})


def test_the_page_lists_every_operation_and_trusts_no_text():
    shown = page([*EVERY, Endpoint("GET", "/<x>", Role.VIEWER, None, {"summary": "<script>"})])
    assert shown.count("<tr><td>") == len(EVERY) + 1
    assert "<script>" not in shown
    assert "<x>" not in shown
    assert "script" not in POLICY
