"""Calls held against OpenAPI documents."""

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.path import canonical
from gateway.traffic.openapi.contract import Contract
from gateway.traffic.openapi.document import WrongDocument

PET: dict[str, Any] = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer", "format": "int64", "readOnly": True},
        "name": {"type": "string", "minLength": 1},
        "tag": {"type": "string", "nullable": True},
        "born": {"type": "string", "format": "date"},
        "secret": {"type": "string", "writeOnly": True},
        "friend": {"$ref": "#/components/schemas/Pet"},
        "legs": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
    },
    "additionalProperties": False,
}


def query(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"in": "query", "name": name, "schema": schema, **more}


def answers(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    if schema is None:
        return {"204": {"description": "done"}}
    content = {"application/json": {"schema": schema}}
    return {"200": {"description": "ok", "content": content}}


PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example/{v}", "variables": {"v": {"default": "v1"}}}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "parameters": [
                    query("limit", {"type": "integer", "maximum": 100}, required=True),
                    query("tags", {"type": "array", "items": {"type": "string"}}),
                    query("ids", {"type": "array", "items": {"type": "integer"}}, explode=False),
                    query("sick", {"type": "boolean"}),
                    query(
                        "at",
                        {"type": "object", "properties": {"x": {"type": "number"}}},
                        style="deepObject",
                    ),
                    {"in": "header", "name": "X-Trace", "schema": {"type": "string"}},
                    {"in": "cookie", "name": "mood", "schema": {"enum": ["good", "bad"]}},
                    query("mixed", {"oneOf": [{"type": "integer"}, {"enum": ["all", "12x"]}]}),
                    {
                        "in": "query",
                        "name": "filter",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                ],
                "responses": {
                    "200": {
                        "description": "pets",
                        "headers": {"X-Total": {"required": True, "schema": {"type": "integer"}}},
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/Pet"},
                                }
                            }
                        },
                    },
                    "4XX": {"description": "no"},
                },
            },
            "post": {
                "requestBody": {"$ref": "#/components/requestBodies/Pet"},
                "responses": answers({"$ref": "#/components/schemas/Pet"}),
            },
        },
        "/pets/mine": {"get": {"responses": {"default": {"description": "any"}}}},
        "/pets/{id}": {
            "parameters": [
                {"in": "path", "name": "id", "required": True, "schema": {"type": "integer"}}
            ],
            "get": {"responses": answers({"$ref": "#/components/schemas/Pet"})},
            "delete": {"responses": answers()},
        },
        "/pets/{id}:feed": {"post": {"responses": answers()}},
        "/files/{name}.{kind}": {
            "get": {
                "parameters": [
                    {"in": "path", "name": "kind", "required": True, "schema": {"enum": ["a"]}}
                ],
                "responses": answers(),
            }
        },
        "/forms": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "required": ["n"],
                                "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
                            }
                        },
                        "image/*": {},
                    },
                },
                "responses": answers(),
            }
        },
    },
    "components": {
        "schemas": {"Pet": PET},
        "requestBodies": {
            "Pet": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
            }
        },
    },
}

CONTRACT = Contract.of(PETS)


def asked(
    method: str,
    target: str,
    body: bytes | dict[str, Any] = b"",
    contract: Contract = CONTRACT,
    **fields: str,
) -> list[str]:
    path, _, query = target.partition("?")
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    return [str(v) for v in contract.request(method, canonical(path), query, headers, body)]


def answered(
    method: str,
    path: str,
    status: int,
    body: object = None,
    contract: Contract = CONTRACT,
    **fields: str,
) -> list[str]:
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    data = b"" if body is None else json.dumps(body).encode()
    if data:
        headers.setdefault("Content-Type", "application/json")
    return [str(v) for v in contract.response(method, canonical(path), status, headers, data)]


@pytest.mark.parametrize(
    "target",
    [
        "/pets?limit=5",
        "/v1/pets?limit=5",
        "/pets?limit=5&tags=a&tags=5&ids=1,2&sick=true",
        "/pets?limit=5&at[x]=1.5",
        "/pets?limit=5&mixed=12x",
        "/pets?limit=5&mixed=3",
        "/pets?limit=5&filter=%7B%22a%22:1%7D",
        "/pets?limit=10&unknown=1",
        "/pets/mine",
        "/pets/7",
        "/files/x.a",
    ],
)
def test_a_request_that_keeps_to_the_document_has_no_violations(target: str):
    assert asked("GET", target, Cookie="mood=good; x=y") == []


@pytest.mark.parametrize(
    ("target", "violation"),
    [
        ("/pets", "query limit: it is missing, expected a value"),
        ("/pets?limit=a", "query limit: a string, expected an integer"),
        ("/pets?limit=1.5", "query limit: a number, expected an integer"),
        ("/pets?limit=101", "query limit: a number, expected maximum 100"),
        ("/pets?limit=1&limit=2", "query limit: it is given 2 times, expected it once"),
        ("/pets?limit=1&ids=1,x", "query ids/1: a string, expected an integer"),
        ("/pets?limit=1&sick=yes", "query sick: a string, expected a boolean"),
        ("/pets?limit=1&at[x]=y", "query at/x: a string, expected a number"),
        ("/pets?limit=1&mixed=no", "query mixed: a string, expected to fit one of the alternat"),
        ("/pets?limit=1&filter=%7B", "query filter: no JSON"),
        ("/pets/x", "path id: a string, expected an integer"),
        ("/files/a.c", "path kind: a string, expected one of 'a'"),
        ("/files/.a", "path: none that is described"),
        ("/files/x.", "path: none that is described"),
        ("/dogs", "path: none that is described"),
        ("/v2/pets?limit=1", "path: none that is described"),
    ],
)
def test_each_violation_of_a_request_names_its_place(target: str, violation: str):
    [found] = asked("GET", target)
    assert found.startswith(violation)


def test_methods_and_cookies_are_looked_at_too():
    assert asked("PUT", "/pets/1") == ["method: PUT, expected GET or DELETE"]
    assert asked("HEAD", "/pets/1") == []
    assert asked("POST", "/pets/1:feed") == []
    [mood] = asked("GET", "/pets?limit=1", Cookie="mood=ugly")
    assert mood == "cookie mood: a string, expected one of 'good', 'bad'"


def test_what_is_read_only_need_not_be_sent():
    assert asked("POST", "/pets", {"name": "Rex", "tag": None, "secret": "x"}) == []
    assert asked("POST", "/pets", {"id": 1}) == ["body/name: it is missing, expected a value"]
    friend = {"name": "Rex", "friend": {"name": "", "a/b": 1}}
    assert sorted(asked("POST", "/pets", friend)) == [
        "body/friend/name: a string, expected minLength 1",
        "body/friend: members a/b, expected only members that are described",
    ]
    assert asked("POST", "/pets", {"name": "R", "born": "2026-02-30"}) == [
        "body/born: a string, expected the format date"
    ]
    assert asked("POST", "/pets", {"name": "R", "legs": 0}) != []


def test_bodies_must_be_of_a_described_type():
    assert asked("POST", "/pets") == ["body: none, expected a body"]
    [kind] = asked("POST", "/pets", b"<a/>", Content_Type="text/xml; charset=utf-8")
    assert kind == "header Content-Type: text/xml, expected application/json"
    [twice] = asked("POST", "/pets", b'{"name": "a", "name": "b"}', Content_Type="application/json")
    assert twice == "body: an object names a member twice, expected JSON"
    two = CIMultiDict([("Content-Type", "application/json"), ("Content-Type", "text/plain")])
    [kinds] = CONTRACT.request("POST", canonical("/pets"), "", two, b'{"name": "a"}')
    assert str(kinds) == "header Content-Type: 2 of them, expected application/json"
    coded = asked("POST", "/pets", {"name": "a"}, Content_Encoding="gzip")
    assert coded == ["header Content-Encoding: a coded body, expected one as it is"]
    assert asked("DELETE", "/pets/1", b"x") == ["body: a body, expected none"]


def test_forms_are_read():
    kind = "application/x-www-form-urlencoded"
    assert asked("POST", "/forms", b"n=1&s=2", Content_Type=kind) == []
    assert asked("POST", "/forms", b"n=x", Content_Type=kind) == [
        "body/n: a string, expected an integer"
    ]
    assert asked("POST", "/forms", b"\x89PNG", Content_Type="image/png") == []


def test_answers_are_held_against_what_is_described_for_their_status():
    pet = {"id": 1, "name": "Rex"}
    assert answered("GET", "/pets", 200, [pet], X_Total="1") == []
    assert answered("GET", "/pets", 200, [pet]) == [
        "header X-Total: it is missing, expected a value"
    ]
    assert answered("GET", "/pets", 200, [{"name": "Rex"}], X_Total="1") == [
        "body/0/id: it is missing, expected a value"
    ]
    assert answered("GET", "/pets", 404) == []
    assert answered("GET", "/pets", 500) == ["status: 500, expected 200, 4XX"]
    assert answered("GET", "/pets/mine", 500) == []
    assert answered("DELETE", "/pets/1", 204) == []
    assert answered("HEAD", "/pets/1", 200) == []
    assert answered("GET", "/pets/1", 200) == ["body: none, expected a body"]


def test_documents_of_3_1_speak_json_schema_as_it_is():
    document = {
        "openapi": "3.1.0",
        "paths": {
            "/a": {
                "post": {
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": ["object", "null"],
                                    "properties": {"n": {"exclusiveMinimum": 5, "const": 6}},
                                    "unevaluatedProperties": False,
                                }
                            }
                        }
                    },
                    "responses": answers(),
                }
            }
        },
    }
    contract = Contract.of(document)
    assert asked("POST", "/a", b"null", contract, Content_Type="application/json") == []
    assert asked("POST", "/a", {"n": 6}, contract) == []
    assert asked("POST", "/a", {"m": 6}, contract) == [
        "body: members m, expected only members that are described"
    ]
    assert asked("POST", "/a", b"", contract) == []


def test_int32_has_a_range_and_patterns_cannot_run_away():
    document = copy.deepcopy(PETS)
    document["paths"]["/pets"]["get"]["parameters"] = [
        query("n", {"type": "integer", "format": "int32"}),
        query("p", {"type": "string", "pattern": "^(a+)+$"}),
    ]
    contract = Contract.of(document)
    assert asked("GET", f"/pets?n={1 << 31}", contract=contract) != []
    assert asked("GET", f"/pets?p={'a' * 2000}!", contract=contract) != []


@pytest.mark.parametrize("pattern", [r"(?=(a+)+$)b", r"(a*)*\1b", r"(?<!a)b", "(a{1,999}){1,999}"])
def test_a_pattern_that_could_keep_an_engine_busy_is_refused_with_its_document(pattern):
    document = copy.deepcopy(PETS)
    document["paths"]["/pets"]["get"]["parameters"] = [
        query("q", {"type": "string", "pattern": pattern}),
    ]
    with pytest.raises(WrongDocument, match=r"pattern .* expected a pattern that takes linear"):
        Contract.of(document)


def wrong(change: Mapping[str, Any]) -> WrongDocument:
    with pytest.raises(WrongDocument) as error:
        Contract.of({**copy.deepcopy(PETS), **change})
    return error.value


def operation(**fields: Any) -> dict[str, Any]:
    return {"paths": {"/a": {"get": {"responses": answers(), **fields}}}}


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        ({"openapi": "2.0"}, "#/openapi", "openapi '2.0'"),
        ({"openapi": None}, "#/openapi", "no field"),
        ({"jsonSchemaDialect": "urn:x"}, "#/jsonSchemaDialect", "'urn:x'"),
        ({"paths": {"a": {}}}, "#/paths/a", "path 'a'"),
        ({"servers": [{"url": "/{v}"}]}, "#/servers/0/url", "'/{v}'"),
        ({"servers": [{}]}, "#/servers/0/url", "no URL"),
        ({"paths": []}, "#/paths", "a list"),
        ({"paths": {"/{a": {"get": {}}}}, "#/paths/~1{a", "segment '{a'"),
        (
            {"paths": {"/{a}": {"get": {}}, "/{b}": {"get": {}}}},
            "#/paths/~1{b}/get",
            "get /{b} a second time",
        ),
        (
            operation(parameters=[{"$ref": "#/components/parameters/none"}]),
            "#/paths/~1a/get/parameters/0/$ref",
            "which is not there",
        ),
        (
            operation(parameters=[{"$ref": "https://evil.test/x"}]),
            "#/paths/~1a/get/parameters/0/$ref",
            "'https://evil.test/x'",
        ),
        (
            operation(parameters=[query("a", {"type": "strng"})]),
            "#/paths/~1a/get/parameters/0/schema/type",
            "no schema",
        ),
        (
            operation(parameters=[query("a", {"type": "string", "pattern": "("})]),
            "#/paths/~1a/get/parameters/0/schema/pattern",
            "pattern",
        ),
        (
            operation(parameters=[query("a", {}, style="matrix")]),
            "#/paths/~1a/get/parameters/0/style",
            "'matrix'",
        ),
        (operation(parameters=[{"in": "body"}]), "#/paths/~1a/get/parameters/0/name", "no name"),
        (
            {
                "paths": {
                    "/a": {"get": {"operationId": "x"}, "put": {"operationId": "x"}},
                }
            },
            "#/paths/~1a/put/operationId",
            "operationId 'x' a second time",
        ),
        (operation(parameters={}), "#/paths/~1a/get/parameters", "a object"),
        (operation(responses={"20": {}}), "#/paths/~1a/get/responses/20", "status '20'"),
        (operation(operationId="x", requestBody=[]), "#/paths/~1a/get/requestBody", "a list"),
        (
            {"components": {"schemas": {"A": {"$id": "urn:x"}}}},
            "#/components/schemas/A/$id",
            "'$id'",
        ),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_at_the_very_place(
    change: dict[str, Any], place: str, found: str
):
    error = wrong(change)
    assert f" {place}: " in str(error)
    assert found in error.found


def test_references_that_go_round_are_refused():
    loop = {"$ref": "#/components/parameters/b"}
    change = operation(parameters=[{"$ref": "#/components/parameters/a"}])
    change["components"] = {
        "parameters": {"a": loop, "b": {"$ref": "#/components/parameters/a"}},
    }
    assert "on and on" in wrong(change).found


def test_documents_are_bounded():
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"properties": deep}
    assert "deep" in wrong({"paths": {}, "components": {"schemas": {"A": deep}}}).found
    many = {f"m{n}": {} for n in range(200_001)}
    assert "over 200000 values" in wrong({"paths": {}, "components": {"schemas": many}}).found


def test_statuses_and_dates_as_yaml_reads_them_are_texts():
    document = {
        "openapi": "3.0.3",
        "info": {"version": date(2026, 1, 2)},
        "paths": {"/a": {"get": {"responses": {200: {"content": {"text/plain": {}}}}}}},
    }
    contract = Contract.of(document)
    assert answered("GET", "/a", 200, "x", contract, Content_Type="text/plain") == []
    assert answered("GET", "/a", 500, contract=contract) == ["status: 500, expected 200"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from places(inner, (*path, place))


references = st.sampled_from(["#", "#/paths", "#/components/schemas/Pet"])


@given(
    value=json_values | st.builds(lambda to: {"$ref": to}, references),
    place=st.sampled_from(list(places(PETS))),
)
def test_no_document_breaks_the_compiler(value: Any, place: tuple[str | int, ...]):
    document = copy.deepcopy(PETS)
    around: Any = document
    for step in place[:-1]:
        around = around[step]
    around[place[-1]] = value
    try:
        contract = Contract.of(document)
    except WrongDocument:
        return
    asked("GET", "/pets?limit=1&ids=1,2&at[x]=1&filter={}", contract=contract, Cookie="mood=1")
    asked("POST", "/pets", {"name": "x"}, contract)
    answered("GET", "/pets", 200, [{"id": 1}], contract, X_Total="1")


@given(
    target=st.text("/pets?limit=&[]xat%2C1{}.:,", max_size=30),
    body=st.binary(max_size=20),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "a"]),
)
def test_no_request_breaks_a_contract(target: str, body: bytes, kind: str):
    path, _, query = target.partition("?")
    del path
    headers = CIMultiDict({"Content-Type": kind, "Cookie": query})
    for method, where in (("GET", "/pets"), ("POST", "/pets"), ("POST", "/forms")):
        CONTRACT.request(method, canonical(where), query, headers, body)


def expression(name: str) -> dict[str, Any]:
    args = {"type": "array", "items": {"$ref": "#/components/schemas/e"}}
    return {"type": "object", "properties": {"op": {"const": name}, "args": args}}


def of_schema(schema: Mapping[str, Any]) -> Contract:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/e"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "components": {"schemas": {"e": schema}},
        "paths": {"/a": {"post": {"requestBody": {"content": content}, "responses": answers()}}},
    }
    return Contract.of(document)


def test_a_schema_that_leads_to_itself_by_two_ways_keeps_nobody_busy():
    ways = [expression("and"), expression("or"), {"type": "integer"}]
    contract = of_schema({"oneOf": ways})
    good: Any = 1
    bad: Any = "x"
    for _ in range(30):
        good, bad = {"op": "and", "args": [good]}, {"op": "and", "args": [bad]}
    assert asked("POST", "/a", good, contract) == []
    assert asked("POST", "/a", bad, contract) == [
        "body: an object, expected one that fits its schema"
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "properties": {
                "left": {"$ref": "#/components/schemas/e"},
                "right": {"$ref": "#/components/schemas/e"},
                "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
        },
        {"anyOf": [{"type": "null"}, expression("and")]},
        {"allOf": [{"type": "object"}, expression("and")]},
    ],
)
def test_a_schema_that_leads_to_itself_by_one_way_tells_each_place(schema):
    assert "one that fits" not in str(
        asked("POST", "/a", {"left": {"n": "x"}, "op": 1}, of_schema(schema))
    )


@pytest.mark.parametrize("join", ["anyOf", "allOf", "oneOf"])
def test_every_kind_of_second_way_back_is_seen(join):
    item = {"type": "array", "items": {"$ref": "#/components/schemas/e"}}
    for schema in (
        {join: [item, item]},
        {join: [item], "items": {"$ref": "#/components/schemas/e"}},
        {join: [{"$ref": "#/components/schemas/e"}, item]},
        {"properties": {"a": {join: [item, item]}}},
        {"if": item, "then": item},
        {"not": item, "dependentSchemas": {"a": item}},
    ):
        contract = of_schema({**schema, "minItems": 9, "required": ["z"]})
        assert asked("POST", "/a", b"[1]", contract, Content_Type="application/json") == [
            "body: a list, expected one that fits its schema"
        ]
